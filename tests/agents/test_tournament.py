"""Who meets whom: on tables of outcomes, without images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from iqloop.agents.ranking.bradley_terry import WEAK, Fit, fit
from iqloop.agents.ranking.pairing import contenders, near_ties, round_robin, swiss_round
from iqloop.agents.ranking.score_prior import score_prior
from iqloop.agents.ranking.tournament import Ask, Table, everyone, hybrid, knockout, swiss, swiss_rounds
from iqloop.critic.verdicts import Rating, Unparsed

Chance = Callable[[int, int], float | None]


def asker(chance: Chance) -> Ask:
    def ask(pairs: Sequence[tuple[int, int]], round_number: int) -> list[float | None]:
        return [chance(a, b) for a, b in pairs]

    return ask


def higher_wins(a: int, b: int) -> float:
    return float(a > b)


def noisy(count: int, seed: int, noise: float, sharpness: float = 1.0) -> Chance:
    """Number N - 1 is the best; each pair has its own fault, so that asking again tells nothing new."""
    rng = np.random.default_rng(seed)
    fault = rng.normal(scale=noise, size=(count, count))

    def chance(a: int, b: int) -> float:
        gap = a - b + (fault[a, b] if a < b else -fault[b, a])
        return 1 / (1 + math.exp(-sharpness * gap))

    return chance


def every_pair(count: int, chance: Chance) -> Fit:
    table = Table(count, asker(chance), count * count)
    everyone(table)
    assert table.asked == count * (count - 1) // 2
    return table.fit()


# -- pairing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 13])
def test_round_robin_is_every_pair_once(count: int) -> None:
    rounds = round_robin(count)
    for pairs in rounds:
        assert len({one for pair in pairs for one in pair}) == 2 * len(pairs)
    assert sorted(tuple(sorted(pair)) for pairs in rounds for pair in pairs) == list(combinations(range(count), 2))
    assert len(rounds) == (0 if count < 2 else count - 1 + count % 2)


@given(st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_swiss_pairs_nobody_twice_and_leaves_out_none_while_it_can(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    met = np.zeros((count, count), bool)
    for _ in range(swiss_rounds(count)):
        order = [int(one) for one in rng.permutation(count)]
        pairs = swiss_round(order, met)
        assert len({one for pair in pairs for one in pair}) == 2 * len(pairs)
        assert not any(met[pair] for pair in pairs)
        if count >= 8:  # with fewer there may be no such round
            assert len(pairs) == count // 2
        for a, b in pairs:
            met[a, b] = met[b, a] = True


def test_swiss_pairs_neighbours() -> None:
    nobody = np.zeros((4, 4), bool)
    assert swiss_round([2, 0, 3, 1], nobody) == [(2, 0), (3, 1)]
    nobody[2, 0] = nobody[0, 2] = True
    assert swiss_round([2, 0, 3, 1], nobody) == [(2, 3), (0, 1)]


def test_near_ties_come_most_informative_first() -> None:
    known = fit(4, [], [], prior_means=[0, 0.1, 40, 41], prior_deviations=[1, 1, 1, 3])
    never = np.zeros((4, 4), bool)
    assert near_ties(known, never) == [(2, 3), (0, 1)]  # between the two groups all is sure
    assert near_ties(known, never, top=1) == [(2, 3)]
    never[2, 3] = never[3, 2] = True
    assert near_ties(known, never) == [(0, 1)]


def test_contenders_are_those_with_few_sure_betters() -> None:
    known = fit(4, [], [], prior_means=[0, 10, 20, 30], prior_deviations=[0.1] * 4)
    assert contenders(known, 1).tolist() == [False, False, False, True]
    assert contenders(known, 3).tolist() == [False, True, True, True]
    assert contenders(known, None).all()


# -- knockout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 20))
def test_knockout_finds_the_best_in_one_match_less(count: int) -> None:
    for seed in range(3):
        table = Table(count, asker(higher_wins), count)
        draw = [int(one) for one in np.random.default_rng(seed).permutation(count)]
        reached = list(knockout(table, draw))
        assert table.asked == count - 1 == len(table.outcomes)
        assert reached.index(max(reached)) == count - 1
        assert reached.count(max(reached)) == 1 and table.round == math.ceil(math.log2(count))


def test_knockout_of_sixteen_takes_fifteen_matches_in_four_rounds() -> None:
    table = Table(16, asker(higher_wins), 15)
    assert np.argmax(knockout(table, range(16))) == 15
    assert (table.asked, table.round) == (15, 4)


@pytest.mark.parametrize("outcome", [0.5, None])
def test_knockout_of_ties_is_by_lot(outcome: float | None) -> None:
    winners = []
    for draw in ([3, 1, 4, 0, 2], [3, 1, 4, 0, 2], [0, 1, 2, 3, 4]):
        table = Table(5, asker(lambda a, b: outcome), 4)
        reached = list(knockout(table, draw))
        assert table.asked == 4 and reached.count(max(reached)) == 1
        winners.append(reached.index(max(reached)))
    assert winners[0] == winners[1] != winners[2]


def test_a_spent_budget_ends_a_knockout() -> None:
    table = Table(8, asker(higher_wins), 5)
    reached = knockout(table, range(8))
    assert table.asked == 5 and reached == [0, 1] * 4


# -- orders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_swiss_orders_what_is_clear(seed: int) -> None:
    chance = noisy(16, seed, noise=0.3)
    table = Table(16, asker(chance), 64)
    swiss(table, [int(one) for one in np.random.default_rng(seed).permutation(16)])
    assert table.asked == 40 and table.round == 5
    assert kendalltau(table.fit().strengths, range(16)).statistic > 0.85


def test_swiss_for_the_best_spends_less_on_the_rest() -> None:
    draw = [int(one) for one in np.random.default_rng(0).permutation(32)]
    counts = []
    for top in (None, 2):
        table = Table(32, asker(lambda a, b: float(np.clip(0.5 + (a - b) / 8, 0, 1))), 1000)
        swiss(table, draw, top)
        counts.append(table.asked)
        assert set(np.argsort(table.fit().strengths)[-2:]) == {30, 31}
    assert counts[1] < counts[0] == 16 * swiss_rounds(32)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_hybrid_agrees_with_the_round_robin(seed: int, sharpness: float) -> None:
    """16 images one logit (or three) apart, faults of comparisons 0.7 of that, of scores 1.5 ranks."""
    chance = noisy(16, seed, noise=0.7, sharpness=sharpness)
    whole = every_pair(16, chance).strengths
    assert kendalltau(whole, range(16)).statistic > 0.9  # so that it is something to agree with
    rng = np.random.default_rng([7, seed])
    ratings = [Rating(float(1 + (i + rng.normal(scale=1.5)) / 4), 0.375) for i in range(16)]
    table = Table(16, asker(chance), 64, *score_prior(ratings))
    hybrid(table)
    assert table.asked <= 64
    assert kendalltau(table.fit().strengths, whole).statistic >= 0.95


def test_hybrid_leaves_alone_what_scores_decide() -> None:
    asked: list[frozenset[int]] = []

    def ask(pairs: Sequence[tuple[int, int]], round_number: int) -> list[float | None]:
        asked.extend(frozenset(pair) for pair in pairs)
        return [float(a > b) for a, b in pairs]

    ratings = [Rating(mean, 0.1) for mean in (1.0, 1.05, 3.0, 3.05, 5.0)]
    table = Table(5, ask, 20, *score_prior(ratings))
    hybrid(table)
    assert sorted(map(sorted, asked)) == [[0, 1], [2, 3]]


def test_hybrid_for_the_best_asks_less() -> None:
    chance = noisy(16, 0, noise=0.3, sharpness=2)
    ratings = [Rating(1 + i / 4, 0.4) for i in range(16)]
    counts = []
    for top in (None, 1):
        table = Table(16, asker(chance), 64, *score_prior(ratings))
        hybrid(table, top)
        counts.append(table.asked)
        assert int(np.argmax(table.fit().strengths)) == 15
    assert counts[1] < counts[0] / 2


def test_what_cannot_be_read_is_asked_once_and_tells_nothing() -> None:
    table = Table(6, asker(lambda a, b: None), 100)
    hybrid(table)
    assert table.asked == 15 and table.pairs == [] and table.met.sum() == 30
    assert table.fit().strengths == pytest.approx(np.zeros(6))


# -- scores as a prior ----------------------------------------------------------------------------------------------


def test_a_prior_keeps_the_probabilities_of_two_ratings() -> None:
    ratings = [Rating(3.0, 0.5), Rating(3.4, 0.3), Rating(2.0, 0.2)]
    known = fit(3, [], [], *score_prior(ratings))
    for a, b in combinations(range(3), 2):
        z = (ratings[a].mean - ratings[b].mean) / math.hypot(ratings[a].std, ratings[b].std)
        assert known.certainties[a, b] == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))))
    assert np.median(score_prior(ratings)[1]) == WEAK


def test_a_prior_takes_the_direction_and_the_unknown() -> None:
    unknown, unsure = Unparsed("", "?"), Rating(math.nan, 0.1)
    ratings: list[Rating | Unparsed] = [Rating(0.2, 0.1), unknown, Rating(0.8, 0.1), unsure, Rating(0.5, 0.0)]
    means, deviations = score_prior(ratings, lower_better=True)
    assert means[0] > means[1] == means[3] == 0 > means[2]
    assert deviations[[0, 2, 4]].tolist() == [WEAK] * 3
    assert (deviations[[1, 3]] > 2 * WEAK).all()  # anywhere among the others


@pytest.mark.parametrize("ratings", [[], [Rating(3, 0)], [Rating(3, 0)] * 4, [Unparsed("", "?")] * 3])
def test_scores_that_tell_nothing_are_a_weak_prior(ratings: list[Rating | Unparsed]) -> None:
    means, deviations = score_prior(ratings)
    assert (means == 0).all() and (deviations == WEAK).all()


def test_scores_without_deviations_leave_neighbours_open() -> None:
    known = fit(16, [], [], *score_prior([Rating(i, 0) for i in range(16)]))
    assert known.certainties[15, 14] < 0.6 and known.certainties[15, 0] > 0.975
