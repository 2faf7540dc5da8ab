"""SRIQA-Bench's rules on a scene that can be counted by hand, and Q-Insight's comparison labels."""

from __future__ import annotations

import pytest

from iqloop.critic.evaluation.ranking import (
    UNPARSED,
    Contestant,
    Pair,
    agreement,
    by_scores,
    manner,
    method_in,
    pairs,
    subsets,
)
from iqloop.errors import UsageError

OPINIONS = {"Original": 100.0, "SwinIR": 40.0, "RRDB": 40.0, "BSRGAN": 0.0, "OSEDiff": 100.0}
SCORES = {"Original": 4.5, "SwinIR": 3.0, "RRDB": 3.05, "BSRGAN": 2.95, "OSEDiff": 4.0}


def scene(name: str = "0001", opinions: dict[str, float] = OPINIONS) -> list[Contestant]:
    return [Contestant(f"{name}/{method}", name, method, mos) for method, mos in opinions.items()]


def judge(found: list[Pair], scores: dict[str, float] = SCORES, **options: float | bool) -> list[tuple[Pair, str]]:
    return [(pair, by_scores(scores[pair.a.method], scores[pair.b.method], **options)) for pair in found]  # type: ignore[arg-type]


def test_a_scene_with_ties() -> None:
    """Ten pairs. Wrong: Original-OSEDiff (a tie for people, 0.5 apart), SwinIR-BSRGAN (0.05 apart is no order),
    RRDB-BSRGAN (0.1 apart is within delta); the tie SwinIR-RRDB is right, 0.05 apart."""
    found = subsets(judge(pairs(scene())))
    overall = found["overall"]
    assert (overall.pairs, overall.ties, overall.correct, overall.accuracy) == (10, 2, 7, 0.7)
    regression = found["regression"]
    assert (regression.pairs, regression.correct) == (3, 3), "Original, SwinIR, RRDB"
    generative = found["generative"]
    assert (generative.pairs, generative.ties, generative.correct) == (3, 1, 2), "Original, BSRGAN, OSEDiff"


def test_delta_decides_ties() -> None:
    """Without a band the two orders that were too near are right, and the tie of SwinIR and RRDB is wrong."""
    found = subsets(judge(pairs(scene()), delta=0.0))
    assert found["overall"].correct == 8 and found["regression"].correct == 2
    assert subsets(judge(pairs(scene()), delta=10.0))["overall"].correct == 2, "everything is a tie"


def test_the_band_includes_its_edge() -> None:
    assert by_scores(1.5, 1.0, delta=0.5) == "similar" and by_scores(1.5, 1.0, delta=0.49) == "A"
    assert by_scores(1.0, 1.5, delta=0.49) == "B" and by_scores(1.0, 1.0, delta=0) == "similar"


def test_direction() -> None:
    upside_down = {method: -score for method, score in SCORES.items()}
    assert judge(pairs(scene()), upside_down, lower_better=True) == judge(pairs(scene()))
    assert subsets(judge(pairs(scene()), upside_down))["overall"].correct == 1, "the tie only"


def test_pooled_and_per_scene_differ() -> None:
    two = scene() + scene("0002", {"Original": 2.0, "SwinIR": 1.0})
    found = subsets(judge(pairs(two)))["overall"]
    assert found.accuracy == pytest.approx(8 / 11) and found.by_scene == {"0001": 0.7, "0002": 1.0}
    assert found.scene_mean == pytest.approx(0.85)


def test_the_benchmarks_counts() -> None:
    methods = ["Original", "SwinIR", "RealESRNet", "Real-ESRGAN", "BSRGAN", "HGGT"]
    methods += ["StableSR", "SUPIR", "SeeSR", "SinSR", "OSEDiff"]
    scenes = [one for i in range(100) for one in scene(f"{i}", {name: float(j) for j, name in enumerate(methods)})]
    found = subsets([(pair, pair.truth) for pair in pairs(scenes)])
    assert {name: one.pairs for name, one in found.items()} == {"regression": 300, "generative": 3600, "overall": 5500}
    assert all(one.accuracy == one.scene_mean == 1 for one in found.values())


def test_names_of_methods_are_forgiven_their_spelling() -> None:
    one = scene(opinions={"original": 2.0, "swin_ir": 1.0, "Real ESRNet": 0.0})
    found = subsets([(pair, pair.truth) for pair in pairs(one)])
    assert found["regression"].pairs == 3 and found["generative"].pairs == 0
    assert found["generative"].accuracy is None and found["generative"].scene_mean is None


def test_an_answer_that_could_not_be_read_is_wrong() -> None:
    judged = [(pair, UNPARSED if i == 0 else pair.truth) for i, pair in enumerate(pairs(scene()))]
    found = subsets(judged)["overall"]
    assert (found.correct, found.unparsed, found.accuracy) == (9, 1, 0.9)


def test_tables_that_hold_no_pairs() -> None:
    with pytest.raises(UsageError, match="two images or more of the same scene"):
        pairs([Contestant("a", "1", "SwinIR", 1.0), Contestant("b", "2", "SwinIR", 1.0)])
    with pytest.raises(UsageError, match="two of SWINIR"):
        pairs([Contestant("a", "1", "SwinIR", 1.0), Contestant("b", "1", "SWINIR", 1.0)])


def test_comparison_labels() -> None:
    answers = [("A", "A"), ("A", "similar"), ("A", "B"), ("B", "B"), ("similar", "similar"), ("similar", UNPARSED)]
    found = agreement(answers)
    assert (found.pairs, found.unparsed) == (6, 1) and found.accuracy == pytest.approx(0.5)
    assert found.by_truth == pytest.approx({"A": 1 / 3, "B": 1.0, "similar": 0.5})
    assert found.confusion["A"] == {"A": 1, "B": 1, "similar": 1, UNPARSED: 0}
    assert agreement([]).accuracy is None


def test_manner_of_preferring() -> None:
    found = manner([("comparison", 0.1), ("comparison", -0.3), ("thurstone", None), ("comparison", None)])
    assert found.position_bias == pytest.approx(-0.1)
    assert (found.position_bias_pairs, found.thurstone) == (2, 0.25)
    assert manner([]).position_bias is None and manner([]).thurstone is None


@pytest.mark.parametrize(
    ("image", "method"),
    [
        ("SwinIR/0001.png", "swinir"),
        ("MOS/Real-ESRGAN/0001.png", "realesrgan"),
        ("images/0001_SUPIR.png", "supir"),
        ("OSEDiff\\0001.png", "osediff"),
        ("Original/0001", "original"),
        ("images/0001.png", None),
        ("supirior/0001.png", None),
    ],
)
def test_a_path_names_its_method(image: str, method: str | None) -> None:
    assert method_in(image) == method


def test_subsets_may_be_abbreviated() -> None:
    """`Reg` and `gen` as SRIQA-Bench's folders; what is neither leaves it to the method's name."""
    rows = [("a", "Reg"), ("b", "reg"), ("c", "gen"), ("d", "GEN"), ("RRDB", "other")]
    members = [Contestant(method, "s", method, float(i), subset) for i, (method, subset) in enumerate(rows)]
    found = subsets([(pair, pair.truth) for pair in pairs(members)])
    assert {name: one.pairs for name, one in found.items()} == {"regression": 3, "generative": 1, "overall": 10}
