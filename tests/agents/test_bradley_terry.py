"""Strengths from comparisons: agreement with choix, and what must hold of any such fit."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqloop.agents.ranking.bradley_terry import WEAK, fit


def drawn(count: int, trials: int, seed: int) -> tuple[list[tuple[int, int]], list[float]]:
    """Random pairs of images of random strengths, and who won."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(size=count)
    pairs = [(int(a), int(b)) for a, b in (rng.choice(count, 2, replace=False) for _ in range(trials))]
    chances = [1 / (1 + math.exp(strengths[b] - strengths[a])) for a, b in pairs]
    return pairs, [float(rng.random() < chance) for chance in chances]


def in_order(pairs: list[tuple[int, int]], outcomes: list[float]) -> list[tuple[int, int]]:
    """As choix has it: winner, loser."""
    return [(a, b) if y == 1 else (b, a) for (a, b), y in zip(pairs, outcomes, strict=True)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("deviation", [0.5, WEAK])
def test_equals_choix_with_the_same_penalty(seed: int, deviation: float) -> None:
    pairs, outcomes = drawn(9, 60, seed)
    ours = fit(9, pairs, outcomes, prior_deviations=deviation).strengths
    # choix subtracts alpha * |s|^2, the logarithm of a normal prior of variance 1 / (2 alpha).
    theirs = choix.opt_pairwise(9, in_order(pairs, outcomes), alpha=1 / (2 * deviation**2), tol=1e-10)
    assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-4)


def test_equals_choix_without_a_penalty() -> None:
    pairs, outcomes = drawn(6, 400, 1)
    ours = fit(6, pairs, outcomes, prior_deviations=1e4).strengths
    theirs = choix.ilsr_pairwise(6, in_order(pairs, outcomes), tol=1e-12)
    assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-4)


def test_a_share_is_that_many_wins() -> None:
    pairs, shares = [(0, 1), (1, 2), (0, 2)], [0.75, 0.25, 0.5]
    ours = fit(3, pairs * 4, shares * 4).strengths
    wins = [pair for pair, share in zip(pairs, shares, strict=True) for _ in range(round(4 * share))]
    losses = [(b, a) for (a, b), share in zip(pairs, shares, strict=True) for _ in range(round(4 * (1 - share)))]
    theirs = choix.opt_pairwise(3, wins + losses, alpha=1 / (2 * WEAK**2), tol=1e-10)
    assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-4)


def test_errors_are_those_of_the_second_derivative() -> None:
    pairs, outcomes = drawn(4, 30, 3)
    found = fit(4, pairs, outcomes)
    curvature = np.eye(4) / WEAK**2
    for a, b in pairs:
        p = found.chances[a, b]
        curvature[np.ix_([a, b], [a, b])] += p * (1 - p) * np.array([[1, -1], [-1, 1]])
    expected = np.linalg.inv(curvature)
    gap = expected[0, 0] + expected[2, 2] - 2 * expected[0, 2]
    assert found.variances[0, 2] == pytest.approx(gap)
    assert found.standard_errors == pytest.approx(np.sqrt(np.diag(found.covariance)))


def test_nothing_known_is_the_prior() -> None:
    found = fit(3, [], [], prior_means=[0.0, 1.0, 2.0], prior_deviations=[0.5, 1.0, 2.0])
    assert found.strengths == pytest.approx([-1.0, 0.0, 1.0])
    assert found.variances[0, 2] == pytest.approx(0.25 + 4.0)
    assert found.certainties[2, 0] == pytest.approx(0.5 * (1 + math.erf(2 / math.sqrt(4.25) / math.sqrt(2))))


def test_errors_shrink_with_more_comparisons() -> None:
    pairs = list(combinations(range(5), 2))
    errors = [fit(5, pairs * times, [0.8] * len(pairs) * times).standard_errors.max() for times in (1, 2, 4, 8)]
    assert all(later < 0.85 * earlier for earlier, later in pairwise(errors))


def test_a_ring_is_a_tie_that_is_not_sure() -> None:
    ring = fit(3, [(0, 1), (1, 2), (2, 0)], [1.0, 1.0, 1.0])
    assert ring.strengths == pytest.approx([0, 0, 0], abs=1e-9)
    assert ring.certainties == pytest.approx(np.full((3, 3), 0.5))
    assert ring.standard_errors.min() > 0.5


def test_contradiction_leaves_more_doubt_than_agreement() -> None:
    pairs = list(combinations(range(8), 2))
    rng = np.random.default_rng(0)
    sane = fit(8, pairs, [1.0] * len(pairs))
    random = fit(8, pairs, rng.integers(0, 2, len(pairs)).astype(float).tolist())
    spread = [found.strengths.std() / found.standard_errors.mean() for found in (sane, random)]
    assert spread[0] > 1.5 and spread[1] < 1
    assert random.standard_errors.mean() > 0.3


def test_whoever_wins_everything_stays_finite() -> None:
    found = fit(3, [(0, 1), (0, 2), (1, 2)] * 50, [1.0] * 150)
    assert np.isfinite(found.strengths).all() and found.strengths[0] < 20
    assert list(np.argsort(-found.strengths)) == [0, 1, 2]


def test_far_priors_are_reached_safely() -> None:
    found = fit(4, [(0, 3), (1, 2)], [1.0, 1.0], prior_means=[-300, 0, 100, 300], prior_deviations=[50, 50, 50, 50])
    assert np.isfinite(found.strengths).all()
    assert found.strengths[1] > found.strengths[2] - 5


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_names_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs, outcomes = drawn(6, 15, seed)
    outcomes = list(rng.random(15))
    renamed = rng.permutation(6)
    one = fit(6, pairs, outcomes)
    other = fit(6, [(renamed[b], renamed[a]) for a, b in pairs], [1 - y for y in outcomes])
    assert other.strengths[renamed] == pytest.approx(one.strengths, abs=1e-8)
    assert other.standard_errors[renamed] == pytest.approx(one.standard_errors, abs=1e-8)


def test_few_images() -> None:
    assert fit(0, [], []).strengths.shape == (0,)
    alone = fit(1, [], [])
    assert alone.strengths.tolist() == [0.0] and alone.standard_errors.tolist() == [0.0]
    two = fit(2, [(1, 0)], [1.0])
    assert two.strengths[1] > 0 > two.strengths[0]


@pytest.mark.parametrize(
    ("pairs", "outcomes", "deviation"),
    [
        ([(0, 1)], [], 1),
        ([(0, 1)], [1.2], 1),
        ([(0, 1)], [math.nan], 1),
        ([(0, 0)], [1.0], 1),
        ([(0, 2)], [1.0], 1),
        ([(0, 1)], [1.0], 0),
        ([(0, 1)], [1.0], math.nan),
    ],
)
def test_what_is_no_comparison_is_refused(
    pairs: list[tuple[int, int]], outcomes: list[float], deviation: float
) -> None:
    with pytest.raises(ValueError, match="expected"):
        fit(2, pairs, outcomes, prior_deviations=deviation)
