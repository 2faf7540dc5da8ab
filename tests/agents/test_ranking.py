"""Ranking images with scripted critics: sane, biased, contradictory, silent."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor

import iqloop
from iqloop.agents import pixel_hash
from iqloop.agents.ranking import rank
from iqloop.agents.ranking.matches import disagrees
from iqloop.agents.resize import at_one_size, at_size
from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed
from iqloop.errors import CriticError, ImageReadError, UsageError
from iqloop.io import Source
from tests.agents.agents_fakes import FakeCritic, photograph

SPOKEN = {"A": "<think> so </think><answer> Image A </answer>", "B": "<think> so </think><answer> Image B </answer>"}
Chance = Callable[[int, int], "float | Unparsed"]


def image(level: int, side: int = 8) -> Tensor:
    """A picture that carries its number, which is its quality."""
    return torch.full((3, side, side), level / 255)


def level_of(picture: Tensor) -> int:
    return round(float(picture.mean()) * 255)


def images(count: int, shuffled: int | None = 0) -> list[Tensor]:
    levels = range(count) if shuffled is None else np.random.default_rng(shuffled).permutation(count)
    return [image(int(level)) for level in levels]


def stated(value: float | None) -> float:
    """A figure that must not be missing."""
    assert value is not None
    return value


class Judge:
    """Scores and compares images by their numbers; writes down what it was asked."""

    def __init__(
        self,
        chance: Chance = lambda a, b: float(a > b) if a != b else 0.5,
        *,
        score: Callable[[int], float | Unparsed] = float,
        std: float = 1.0,
        bias: float = 0.0,
        thurstone: bool = False,
        capabilities: Sequence[Capability] = ("score", "compare"),
        lower_better: bool = False,
    ) -> None:
        self.name, self.version, self.score_range, self.lower_better = "judge", "1", (0.0, 255.0), lower_better
        self.capabilities: frozenset[Capability] = frozenset(capabilities)
        self.chance, self.rating, self.std, self.bias, self.thurstone = chance, score, std, bias, thurstone
        self.scored: list[int] = []
        self.compared: list[tuple[int, int]] = []
        self.sizes: list[tuple[tuple[int, ...], ...]] = []

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self.scored += [level_of(one) for one in images]
        found = [self.rating(level_of(one)) for one in images]
        return [one if isinstance(one, Unparsed) else Rating(one, self.std) for one in found]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        raise AssertionError("never asked")

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        raise AssertionError("never asked")

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        references: Sequence[Tensor | None] = reference or [None] * len(a)
        return [self._compare(*row) for row in zip(a, b, references, strict=True)]

    def _compare(self, a: Tensor, b: Tensor, reference: Tensor | None) -> Preference | Unparsed:
        self.compared.append((level_of(a), level_of(b)))
        self.sizes.append(tuple(tuple(one.shape) for one in (a, b, reference) if one is not None))
        chance = self.chance(*self.compared[-1])
        if isinstance(chance, Unparsed):
            return chance
        there, back = min(max(chance + self.bias, 0), 1), min(max(1 - chance + self.bias, 0), 1)
        said = ["A" if shown >= 0.5 else "B" for shown in (there, back)]
        agreed = said in (["A", "B"], ["B", "A"])
        return Preference(
            said[0] if agreed else "similar",  # type: ignore[arg-type]
            (there + 1 - back) / 2,
            raw=(SPOKEN[said[0]], SPOKEN[said[1]]),
            method="thurstone" if self.thurstone else "comparison",
            position_bias=None if self.thurstone else (there + back - 1) / 2,
        )


def draw(*about: object) -> float:
    """In [0, 1), the same for the same words."""
    digest = hashlib.sha256(repr(about).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def noisy(seed: int, noise: float = 0.7) -> Chance:
    """Neighbours are one logit apart, less or more a fault that belongs to the pair."""

    def chance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        fault = math.sqrt(-2 * math.log(1 - draw("r", seed, low, high))) * math.cos(2 * math.pi * draw(seed, low, high))
        gap = (high - low + noise * fault) * (1 if a > b else -1)
        return 1 / (1 + math.exp(-gap))

    return chance


def vague(seed: int, faults: float = 1.5) -> Callable[[int], float]:
    return lambda level: level + faults * 2 * (draw("score", seed, level) - 0.5) * math.sqrt(3)


def first_always(a: int, b: int) -> float:
    return 1.0


def ring(a: int, b: int) -> float:
    """Rock, paper, scissors of any odd number."""
    return 1.0 if (a - b) % 3 == 1 else 0.0 if (a - b) % 3 == 2 else 0.5


def by_coin(a: int, b: int) -> float:
    low, high = sorted((a, b))
    heads = draw("coin", low, high) < 0.5
    return float(heads == (a < b))


WAYS: list[dict[str, Any]] = [
    {"by": "score"},
    {"by": "comparison"},
    {"by": "comparison", "top": 1},
    {"by": "comparison", "top": 3},
    {"by": "comparison", "max_comparisons": 1000},
    {"by": "hybrid"},
    {"by": "hybrid", "top": 1},
]


def shown(way: dict[str, Any]) -> str:
    return " ".join(map(str, way.values()))


# -- what a good critic gets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_hybrid_is_the_round_robin_for_half_the_comparisons(seed: int) -> None:
    pictures = images(16)
    truth = [level_of(one) for one in pictures]
    whole = rank(pictures, Judge(noisy(seed)), by="comparison", max_comparisons=120)
    assert whole.comparisons == 120
    found = rank(pictures, Judge(noisy(seed), score=vague(seed), std=1.5), seed=seed)
    assert found.by == "hybrid" and found.comparisons <= 64

    def places(order: Sequence[int]) -> list[int]:
        return [list(order).index(i) for i in range(16)]

    assert kendalltau(places(whole.order), [-level for level in truth]).statistic > 0.9
    assert kendalltau(places(found.order), places(whole.order)).statistic >= 0.95


def test_knockout_of_sixteen_is_fifteen_matches() -> None:
    for seed in range(5):
        critic = Judge()
        pictures = images(16, seed)
        found = rank(pictures, critic, by="comparison", top=1, seed=seed)
        assert len(critic.compared) == found.comparisons == 15
        assert found.best is not None and level_of(pictures[found.best]) == 15
        assert [match.round for match in found.matches] == [1] * 8 + [2] * 4 + [3] * 2 + [4]
        last = found.matches[-1]
        assert last.decisive and found.best in (last.a, last.b)
        assert critic.scored == []


@pytest.mark.parametrize("way", WAYS, ids=shown)
def test_what_a_ranking_says(way: dict[str, Any]) -> None:
    pictures = images(9)
    found = rank(pictures, Judge(noisy(1, 0.2)), **way)
    assert sorted(place.index for place in found.places) == list(range(9))
    ranks = [place.rank for place in found.places]
    assert ranks == sorted(ranks) and ranks[0] == 1 and found.places[0].index == found.best == found.order[0]  # type: ignore[type-var]
    assert level_of(pictures[found.best]) == 8
    assert all(place.error is None and place.standard_error for place in found.places)
    asked = way["by"] != "comparison"
    assert all((place.score == level_of(pictures[place.index])) == asked for place in found.places)
    assert found.by == way["by"] and found.note is None and found.unparsed == 0
    if way["by"] == "score":
        assert found.matches == () and found.position_bias is found.disagreements is None
        assert [place.strength for place in found.places] == [place.score for place in found.places]
    else:
        assert sum(place.strength or 0 for place in found.places) == pytest.approx(0, abs=1e-9)
        assert found.position_bias == pytest.approx(0) and found.disagreements == 0
        neighbours = {frozenset(pair) for pair in pairwise(found.order)}
        for match in found.matches[:-1]:
            assert match.decisive == (frozenset((match.a, match.b)) in neighbours)
            better = level_of(pictures[match.a]) > level_of(pictures[match.b])
            assert (match.preference.probability > 0.5) == better


def test_budgets_are_kept() -> None:
    for count in (2, 3, 5, 12):
        most = math.ceil(count * math.log2(count))
        for way in WAYS[1:]:
            if way.get("max_comparisons") is None:
                critic = Judge(by_coin, std=100)
                rank(images(count), critic, **way)
                assert len(critic.compared) <= min(most, count * (count - 1) // 2)
    for limit in (0, 1, 7):
        for way in ({"by": "hybrid"}, {"by": "comparison"}, {"by": "comparison", "top": 1}):
            critic = Judge(by_coin, std=100)
            found = rank(images(9), critic, max_comparisons=limit, **way)
            assert len(critic.compared) == found.comparisons == limit
            assert len(found.order) == 9


def test_nobody_is_compared_twice() -> None:
    for way in WAYS[1:]:
        critic = Judge(by_coin, std=100)
        rank(images(11), critic, **way)
        pairs = [frozenset(pair) for pair in critic.compared]
        assert len(pairs) == len(set(pairs))


def test_the_best_few_cost_less() -> None:
    pictures = images(24)
    counts = {}
    for top in (None, 4):
        critic = Judge(noisy(0, 0.3), score=vague(0), std=1.5)
        found = rank(pictures, critic, top=top)
        counts[top] = found.comparisons
        assert {level_of(pictures[i]) for i in found.order[:4]} == {20, 21, 22, 23}
        assert len(found.places) == 24
    assert counts[4] < counts[None] / 2


# -- what does not depend on what -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=shown)
@pytest.mark.parametrize("chance", [noisy(3), by_coin, first_always, ring], ids=["sane", "coin", "first", "ring"])
def test_the_order_of_the_input_does_not_matter(way: dict[str, Any], chance: Chance) -> None:
    first = images(9, None)
    found = rank(first, Judge(chance, score=vague(0), std=1.5), **way)
    again = rank(first, Judge(chance, score=vague(0), std=1.5), **way)
    assert again.places == found.places and again.matches == found.matches
    for seed in range(3):
        mixed = [int(i) for i in np.random.default_rng(seed).permutation(9)]
        other = rank([first[i] for i in mixed], Judge(chance, score=vague(0), std=1.5), **way)
        by_image = {mixed[place.index]: place for place in other.places}
        for place in found.places:
            twin = by_image[place.index]
            assert (twin.rank, twin.strength, twin.standard_error) == (place.rank, place.strength, place.standard_error)
        pairs = [(mixed[match.a], mixed[match.b], match.round) for match in other.matches]
        assert pairs == [(match.a, match.b, match.round) for match in found.matches]


def test_the_seed_is_that_of_the_draw() -> None:
    brackets = {
        tuple((match.a, match.b) for match in rank(images(8), Judge(), by="comparison", top=1, seed=seed).matches)
        for seed in range(4)
    }
    assert len(brackets) > 1


# -- critics that are no help ---------------------------------------------------------------------------------------


def test_always_the_first_is_told_apart_by_nothing() -> None:
    """Shown in both orders, whoever prefers the first place contradicts itself every time."""
    critic = Judge(lambda a, b: 0.5, bias=0.5)
    found = rank(images(8), critic, by="comparison")
    assert found.position_bias == pytest.approx(0.5) and found.disagreements == 1
    assert [place.rank for place in found.places] == [1] * 8
    assert found.order == tuple(range(8))
    assert all(place.strength == pytest.approx(0) and place.standard_error > 0.5 for place in found.places)  # type: ignore[operator]


def surely_apart(found: iqloop.Ranking) -> float:
    """Share of all pairs whose strengths differ by two standard errors."""
    places = [(place.strength or 0.0, place.standard_error or 0.0) for place in found.places]
    gaps = [abs(a - b) / math.hypot(p, q) for (a, p), (b, q) in combinations(places, 2)]
    return sum(gap > 1.96 for gap in gaps) / len(gaps)


def test_the_order_that_is_asked_makes_no_order() -> None:
    """A critic that asks in one order only, and takes the first."""
    found = rank(images(13), Judge(first_always), by="comparison", max_comparisons=100)
    assert [place.rank for place in found.places] == [1] * 13


@pytest.mark.parametrize("chance", [by_coin, ring], ids=["coin", "ring"])
def test_contradiction_leaves_doubt(chance: Chance) -> None:
    pictures = images(12)
    whole = {"by": "comparison", "max_comparisons": 66}
    assert surely_apart(rank(pictures, Judge(chance), **whole)) < 0.1  # type: ignore[arg-type]
    assert surely_apart(rank(pictures, Judge(), **whole)) > 0.4  # type: ignore[arg-type]
    for way in WAYS[1:]:
        found = rank(pictures, Judge(chance, score=lambda level: 1.0, std=100), **way)
        assert len(found.order) == 12
        for one, other in pairwise(found.places):
            error = math.hypot(one.standard_error or 0, other.standard_error or 0)
            assert error > 0.5 and (one.strength or 0) - (other.strength or 0) < 1.96 * error


def test_rings_among_many_are_a_tie() -> None:
    found = rank(images(12), Judge(ring), by="comparison", max_comparisons=66)
    assert [place.rank for place in found.places] == [1] * 12


def test_a_ring_of_three_is_a_tie() -> None:
    found = rank(images(3, None), Judge(ring), by="comparison")
    assert found.comparisons == 3
    assert [(place.index, place.rank) for place in found.places] == [(0, 1), (1, 1), (2, 1)]
    assert all(stated(place.standard_error) > 0.5 for place in found.places)


def test_all_similar_keeps_the_order_of_scores_and_says_that_it_is_not_sure() -> None:
    critic = Judge(lambda a, b: 0.5, score=lambda level: level / 10, std=1.0)
    found = rank(images(8, None), critic)
    assert found.order == tuple(reversed(range(8)))
    strengths = [stated(place.strength) for place in found.places]
    gaps = [a - b for a, b in pairwise(strengths)]
    assert max(gaps) < min(stated(place.standard_error) for place in found.places)
    alike = rank(images(8, None), Judge(lambda a, b: 0.5), by="comparison")
    assert [(place.index, place.rank) for place in alike.places] == [(i, 1) for i in range(8)]


# -- answers that cannot be read ------------------------------------------------------------------------------------


def silent_about(*levels: int) -> Chance:
    return lambda a, b: Unparsed("hm", "no choice") if {a, b} & set(levels) else float(a > b)


def test_unread_comparisons_count_as_no_information() -> None:
    critic = Judge(lambda a, b: Unparsed("hm", "no choice") if (a + b) % 3 == 0 else float(a > b))
    found = rank(images(8, None), critic, by="comparison", max_comparisons=28)
    assert found.unparsed == 9 and len(found.matches) == 19 and found.comparisons == 28
    assert found.best == 7 and None not in [place.rank for place in found.places]


def test_whoever_nothing_was_read_of_has_no_rank() -> None:
    found = rank(images(6, None), Judge(silent_about(2)), by="comparison")
    assert found.places[-1].index == 2 and found.places[-1].rank is found.places[-1].strength is None
    assert "could be read" in str(found.places[-1].error)
    assert sorted(found.order) == [0, 1, 3, 4, 5]
    # With a score something is known of it.
    assert len(rank(images(6, None), Judge(silent_about(2))).order) == 6


def test_nothing_read_at_all() -> None:
    found = rank(images(5, None), Judge(lambda a, b: Unparsed("hm", "?")), by="comparison")
    assert found.order == () and found.best is None and found.position_bias is None
    assert [place.index for place in found.places] == list(range(5))
    knocked = rank(images(5, None), Judge(lambda a, b: Unparsed("hm", "?")), by="comparison", top=1)
    assert knocked.best is None and knocked.unparsed == 4
    mixed = rank(images(5, None), Judge(lambda a, b: Unparsed("hm", "?")))
    assert mixed.order == (4, 3, 2, 1, 0)


def test_an_unread_score_is_made_up_for_by_comparisons() -> None:
    def score(level: int) -> float | Unparsed:
        return Unparsed("?", "no number") if level == 3 else float(level)

    found = rank(images(6, None), Judge(score=score), by="hybrid")
    assert found.order == (5, 4, 3, 2, 1, 0)
    assert [place.score for place in found.places] == [5.0, 4.0, None, 2.0, 1.0, 0.0]
    lost = rank(images(6, None), Judge(silent_about(3), score=score))
    assert lost.places[-1].index == 3 and lost.places[-1].error == "no number"
    scored = rank(images(6, None), Judge(score=score), by="score")
    assert scored.places[-1].index == 3 and scored.places[-1].error == "no number"


def test_a_probability_that_is_none_is_unread() -> None:
    found = rank(images(3, None), Judge(lambda a, b: math.nan), by="comparison")
    assert found.unparsed == 3 and found.order == ()


# -- critics that do not compare ------------------------------------------------------------------------------------


def test_without_comparisons_hybrid_is_by_score_and_says_so() -> None:
    for critic in (Judge(capabilities=["score"]), Judge(thurstone=True)):
        found = rank(images(5, None), critic)
        assert found.by == "score" and found.matches == () and found.order == (4, 3, 2, 1, 0)
        assert "ranked by score" in str(found.note) and "judge" in str(found.note)
        assert found.places[0].standard_error == 1.0
        with pytest.raises(CriticError, match="rank by score"):
            rank(images(5), critic, by="comparison")
    critic = Judge(thurstone=True)
    rank(images(16), critic)
    assert len(critic.compared) <= 8


def test_lower_may_be_better() -> None:
    critic = Judge(lambda a, b: float(a < b), lower_better=True)
    for by in ("score", "hybrid", "comparison"):
        assert rank(images(5, None), critic, by=by).order == (0, 1, 2, 3, 4)


# -- few and equal images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=shown)
def test_none_one_and_two(way: dict[str, Any]) -> None:
    critic = Judge()
    nothing = rank([], critic, **way)
    assert nothing.places == () and nothing.best is None and nothing.by == way["by"]
    alone = rank([image(5)], critic, **way)
    assert [(place.index, place.rank) for place in alone.places] == [(0, 1)] and critic.compared == []
    two = rank([image(5), image(9)], critic, **way)
    assert two.order == (1, 0) and [place.rank for place in two.places] == [1, 2]


@pytest.mark.parametrize("way", WAYS, ids=shown)
def test_equal_pixels_share_a_place_and_are_asked_once(way: dict[str, Any]) -> None:
    critic = Judge()
    found = rank([image(3), image(7), image(3), image(1), image(7), image(3)], critic, **way)
    assert [(place.index, place.rank) for place in found.places] == [(1, 1), (4, 1), (0, 3), (2, 3), (5, 3), (3, 6)]
    assert len(set(critic.scored)) == len(critic.scored) and len(critic.compared) <= 3
    if way["by"] != "score":
        assert sum(place.strength or 0 for place in found.places) == pytest.approx(0, abs=1e-9)
    same = rank([image(3)] * 4, critic, **way)
    assert [place.rank for place in same.places] == [1, 1, 1, 1]


def test_what_cannot_be_read_comes_last(tmp_path: Path) -> None:
    broken, good = tmp_path / "broken.png", tmp_path / "good.png"
    broken.write_bytes(b"no picture")
    iqloop.write(iqloop.read(image(200)), good)
    sources: list[Source] = [broken, image(3), tmp_path / "missing.png", good, np.full((4, 4), 9.0)]
    for way in WAYS:
        found = rank(sources, Judge(), **way)
        assert found.order == (3, 1)
        assert [(place.index, place.rank) for place in found.places[2:]] == [(0, None), (2, None), (4, None)]
        assert "broken.png" in str(found.places[2].error) and "[0, 1]" in str(found.places[4].error)
    assert rank([broken], Judge()).places[0].rank is None
    with pytest.raises(ImageReadError):
        rank([image(1), image(2)], Judge(), reference=broken)


# -- sizes and the reference ----------------------------------------------------------------------------------------


def test_pairs_are_shown_at_the_size_of_the_larger() -> None:
    critic = Judge()
    found = rank([image(3, 8), image(9, 16), image(6, 8)], critic, by="comparison", reference=image(1, 5))
    assert found.order == (1, 2, 0)
    for a, b, reference in critic.sizes:
        assert a == b == reference and a[0] == 3
    assert sorted(a for a, _, _ in critic.sizes) == [(3, 8, 8), (3, 16, 16), (3, 16, 16)]


def test_other_proportions_keep_them() -> None:
    wide, tall = torch.zeros(3, 20, 80), torch.zeros(3, 30, 10)
    a, b = at_one_size(wide, tall)
    assert a is wide and b.shape == (3, 69, 23)
    b, a = at_one_size(tall, wide)
    assert a is wide and b.shape == (3, 69, 23)
    odd, even = at_one_size(torch.zeros(3, 33, 50), torch.zeros(3, 67, 100))
    assert odd.shape == even.shape == (3, 67, 100)
    assert at_size(wide, (20, 80)) is wide
    whole = photograph(size=64)
    assert at_size(whole, (128, 128)).shape == (3, 128, 128) and float(at_size(whole, (128, 128)).max()) <= 1


def test_the_reference_is_shown_only_if_there_is_one() -> None:
    critic = Judge()
    rank(images(3), critic, by="comparison")
    assert all(len(sizes) == 2 for sizes in critic.sizes)


# -- arguments ------------------------------------------------------------------------------------------------------


def test_progress_ends_where_it_says() -> None:
    for way in WAYS:
        told: list[tuple[int, int]] = []
        critic = Judge()
        rank(images(12), critic, on_progress=lambda done, total: told.append((done, total)), **way)  # noqa: B023
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1] == (len(critic.scored) + len(critic.compared),) * 2
        assert all(done <= total for done, total in told)


def test_wrong_arguments_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"by": "luck"}, {"top": 0}, {"max_comparisons": -1}, {"critic": 7}]
    for arguments in wrong:
        with pytest.raises(UsageError):
            rank(images(2), **{"critic": Judge(), **arguments})
    with pytest.raises(UsageError, match="list"):
        rank("picture.png", Judge())
    with pytest.raises(UsageError, match="unknown critic"):
        rank(images(2), "no-such-critic")


def test_critics_come_in_every_form() -> None:
    critic = FakeCritic(lambda one: float(one.mean()))
    metric = iqloop.create_metric(critic)
    batch = torch.stack(images(4, None))
    assert rank(batch, critic, by="score").order == rank(batch, metric, by="score").order == (3, 2, 1, 0)  # type: ignore[arg-type]


def test_the_embedded_critic_prefers_the_sharper() -> None:
    clean = photograph(size=96)
    blurred = [at_size(at_size(clean, (96 // k, 96 // k)), (96, 96)) for k in (8, 1, 4)]
    found = rank([pixel.numpy().transpose(1, 2, 0) for pixel in blurred], "qinsight-mini")
    assert found.order == (1, 2, 0) and found.by in ("score", "hybrid")
    assert all(place.score is not None for place in found.places)


def test_disagreement_is_read_from_what_was_written() -> None:
    same, other = (SPOKEN["A"], SPOKEN["A"]), (SPOKEN["A"], SPOKEN["B"])
    assert disagrees(Preference("similar", 0.5, raw=same)) is True
    assert disagrees(Preference("A", 0.9, raw=other)) is False
    assert disagrees(Preference("A", 0.9)) is None
    assert disagrees(Preference("A", 0.9, raw=("A", "B"))) is None


def test_images_are_not_changed() -> None:
    pictures = images(4)
    before = [pixel_hash(one) for one in pictures]
    rank(pictures, Judge(), reference=image(1, 5))
    assert [pixel_hash(one) for one in pictures] == before
