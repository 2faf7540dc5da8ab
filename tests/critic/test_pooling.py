"""One verdict of both orders and of several looks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from iqloop.critic.checkpoint import CheckpointSource, load
from iqloop.critic.engine import QwenCritic
from iqloop.critic.known import KNOWN
from iqloop.critic.mini import TIE_BAND
from iqloop.critic.pooling import combine_choices, pool_choices
from iqloop.critic.reason import Written
from iqloop.critic.thurstone import likelier
from iqloop.critic.verdicts import Choice, Preference, Provenance, Unparsed
from iqloop.errors import CriticError

MADE = Provenance("scripted", "test/compare/1", "expected")


def order(choice: Choice, first_better: float) -> tuple[Written[Choice], float]:
    word = {"A": "Image A", "B": "Image B", "similar": "Similar"}[choice]
    return Written(f"<think> So it is {choice}. </think><answer> {word} </answer>", choice, 0), first_better


def pooled(there: tuple[Choice, float], back: tuple[Choice, float], band: float | None) -> Preference:
    found = combine_choices(order(*there), order(*back), MADE, band)
    assert isinstance(found, Preference)
    return found


@pytest.mark.parametrize(
    ("probability", "band", "choice"),
    [(0.9, 0.02, "A"), (0.1, 0.02, "B"), (0.515, 0.02, "similar"), (0.515, 0.0, "A"), (0.5, 0.0, "similar")],
)
def test_near_one_half_nothing_is_likelier(probability: float, band: float, choice: Choice) -> None:
    assert likelier(probability, band) == choice


def test_without_a_band_the_choice_is_what_both_orders_wrote() -> None:
    assert pooled(("A", 0.6), ("B", 0.4), None).choice == "A"
    for second in ("A", "similar"):
        assert pooled(("A", 0.9), (second, 0.1), None).choice == "similar"


def test_with_a_band_the_choice_is_the_likelier_whatever_was_written() -> None:
    found = pooled(("similar", 0.7), ("similar", 0.3), 0.02)
    assert found.choice == "A" and found.probability == pytest.approx(0.7)
    assert found.reasoning == ""  # what was reasoned was for another choice
    assert len(found.raw) == 2  # and is kept
    agreed = pooled(("A", 0.7), ("B", 0.3), 0.02)
    assert agreed.choice == "A" and agreed.reasoning == "So it is A."


def test_a_liking_for_the_first_image_makes_a_tie() -> None:
    found = pooled(("A", 0.9), ("A", 0.9), 0.02)
    assert found.choice == "similar" and found.position_bias == pytest.approx(0.4)


def test_turning_a_pair_round_turns_the_choice_round() -> None:
    for there, back in ((0.9, 0.3), (0.52, 0.49), (0.2, 0.6)):
        one = pooled(("A", there), ("A", back), 0.02)
        other = pooled(("A", back), ("A", there), 0.02)
        assert one.probability == pytest.approx(1 - other.probability)
        assert {"A": "B", "B": "A", "similar": "similar"}[one.choice] == other.choice


def test_looks_are_pooled_by_votes_or_by_their_mean_probability() -> None:
    """Two looks are a little for B, one is very much for A."""
    looks = [pooled(("B", 0.45), ("A", 0.55), 0.02)] * 2 + [pooled(("A", 0.99), ("B", 0.01), 0.02)]
    by_votes, by_mean = pool_choices(looks), pool_choices(looks, 0.02)
    assert isinstance(by_votes, Preference) and isinstance(by_mean, Preference)
    assert by_votes.choice == "B" and by_mean.choice == "A" and by_mean.reasoning == "So it is A."
    assert by_votes.probability == by_mean.probability
    unread = Unparsed("?", "nothing to read")
    assert pool_choices([unread, looks[2]], 0.02) == replace(looks[2], unparsed=1)
    assert isinstance(pool_choices([unread], 0.02), Unparsed)


@pytest.mark.parametrize("band", ["narrow", -0.1, 0.5])
def test_a_band_that_is_none_is_refused(tiny_folder: Path, tmp_path: Path, band: object) -> None:
    copied = Path(shutil.copytree(tiny_folder, tmp_path / "copied"))
    config = json.loads((copied / "config.json").read_text())
    config["iqloop"]["tie_band"] = band
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(CriticError, match=r"expected a tie_band in \[0, 0.5\)"):
        load(CheckpointSource("odd", str(copied)), "cpu")


def test_the_embedded_critic_has_a_band_and_written_answers_do_not_know_it(tiny_folder: Path) -> None:
    assert KNOWN["qinsight-mini"].source.tie_band == TIE_BAND and KNOWN["qinsight"].source.tie_band is None
    source = CheckpointSource("tiny", str(tiny_folder), max_new_tokens=12)
    generator = torch.Generator().manual_seed(0)
    a, b, reference = (torch.rand(3, 56, 56, generator=generator) for _ in range(3))
    # A band beyond which nothing lies: whatever is written, by probability all pairs are similar.
    checkpoint = replace(load(source, "cpu"), tie_band=0.51)
    for decoding, made in (("expected", "expected"), ("reason", "reason")):
        found = QwenCritic(checkpoint, decoding).compare([a], [b], [reference])[0]  # type: ignore[arg-type]
        if isinstance(found, Preference):
            assert found.provenance.decoding == made
            assert decoding == "reason" or found.choice == "similar"
