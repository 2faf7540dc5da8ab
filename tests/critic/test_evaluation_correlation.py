"""Correlation with opinions: against scipy on fixed numbers, both directions, and where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from iqloop.critic.evaluation.correlation import Agreement, Curve, agreement, fit

SCORES = [1.2, 1.9, 2.1, 2.6, 2.6, 3.3, 3.1, 3.9, 4.2, 4.8, 4.5, 1.4]
OPINIONS = [10.0, 25.0, 18.0, 41.0, 35.0, 60.0, 66.0, 80.0, 88.0, 92.0, 95.0, 22.0]
FIGURES = ("srcc", "krcc", "plcc", "plcc_fitted", "rmse")


def values(found: Agreement) -> dict[str, float | None]:
    return {name: getattr(found, name).value for name in FIGURES}


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return (b1 - b2) / (1 + np.exp(-(x - b3) / b4)) + b2


def test_figures_equal_scipys() -> None:
    """Ties among the scores; numbers as computed with scipy 1.17."""
    x, y = np.array(SCORES), np.array(OPINIONS)
    found = agreement(SCORES, OPINIONS, resamples=0)
    assert found.srcc.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.krcc.value == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found.plcc.value == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    start = [y.max(), y.min(), x.mean(), x.std() / 4]
    beta, _ = optimize.curve_fit(logistic, x, y, p0=start, maxfev=10000)
    fitted = logistic(x, *beta)
    assert found.plcc_fitted.value == pytest.approx(stats.pearsonr(fitted, y).statistic, abs=1e-6)
    assert found.rmse.value == pytest.approx(np.sqrt(np.mean((fitted - y) ** 2)), abs=1e-4)
    golden = {"srcc": 0.963224, "krcc": 0.870254, "plcc": 0.975641, "plcc_fitted": 0.987796, "rmse": 4.660129}
    assert values(found) == pytest.approx(golden, abs=1e-5)
    assert found.srcc.low is None, "no resamples, no interval"


def test_a_curve_is_found_again() -> None:
    x = np.linspace(1, 5, 40)
    beta = (90.0, 10.0, 3.0, 0.4)
    found = fit(x, logistic(x, *beta))
    assert isinstance(found, Curve) and found.rises
    assert found.beta == pytest.approx(beta, rel=1e-4)
    assert found(np.array([3.0])) == pytest.approx([50.0], abs=0.01)


def test_direction_changes_nothing() -> None:
    """A critic with lower_better, against the same opinions: negated scores, the same figures."""
    high = agreement(SCORES, OPINIONS, resamples=20)
    low = agreement([-score for score in SCORES], OPINIONS, opposite=True, resamples=20)
    assert low == high
    assert high.srcc.value is not None and high.srcc.value > 0.9
    against = agreement([-score for score in SCORES], OPINIONS, resamples=0)
    assert against.srcc.value == pytest.approx(-high.srcc.value)
    assert against.curve is not None and not against.curve.rises, "the curve turns the critic around, and it is told"


def test_intervals_are_seeded_and_hold_the_estimate() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=80)
    noisy = truth + rng.normal(size=80)
    found = agreement(noisy.tolist(), truth.tolist(), same_scale=True, resamples=300, seed=1)
    assert found == agreement(noisy.tolist(), truth.tolist(), same_scale=True, resamples=300, seed=1)
    other = agreement(noisy.tolist(), truth.tolist(), same_scale=True, resamples=300, seed=2)
    for name in (*FIGURES, "rmse_raw"):
        one = getattr(found, name)
        assert one.low < one.value < one.high
        assert getattr(other, name).value == one.value
    assert found.srcc.low != other.srcc.low
    assert found.srcc.low is not None and found.srcc.high is not None
    assert 0.1 < found.srcc.high - found.srcc.low < 0.5
    theory = 1.96 / np.sqrt(80 - 3)  # Fisher's z
    z = np.arctanh(found.plcc.value or 0)
    assert found.plcc.low == pytest.approx(np.tanh(z - theory), abs=0.1)
    assert found.plcc.high == pytest.approx(np.tanh(z + theory), abs=0.1)


def test_perfect_agreement_has_no_width() -> None:
    found = agreement([1.0, 2, 3, 4, 5, 6], [1.0, 2, 3, 4, 5, 6], same_scale=True, resamples=50)
    for one in (found.srcc, found.krcc, found.plcc):
        assert (one.low, one.value, one.high) == pytest.approx((1, 1, 1))
    assert (found.rmse_raw.low, found.rmse_raw.value, found.rmse_raw.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("scores", "opinions", "reason"),
    [
        ([], [], "needs two images, got 0"),
        ([3.0], [2.0], "needs two images, got 1"),
        ([3.0, 3, 3, 3, 3, 3], [1.0, 2, 3, 4, 5, 6], "all scores are equal"),
        ([1.0, 2, 3, 4, 5, 6], [3.0, 3, 3, 3, 3, 3], "all opinions are equal"),
    ],
)
def test_where_nothing_can_be_said(scores: list[float], opinions: list[float], reason: str) -> None:
    found = agreement(scores, opinions, resamples=5)
    assert set(values(found).values()) == {None}
    assert all(reason in str(getattr(found, name).reason) for name in FIGURES)
    assert found.curve is None and found.rmse_raw.value is None


def test_a_fit_that_fails_leaves_the_raw_figures() -> None:
    few = agreement([1.0, 2, 3, 4], [1.0, 2, 2.5, 4], resamples=5)
    assert few.plcc.value is not None and few.plcc_fitted.value is None
    assert "more images than 4" in str(few.plcc_fitted.reason)
    coarse = agreement([1.0, 2, 3, 4] * 5, [1.0, 2, 2.5, 4] * 5, resamples=5)
    assert coarse.plcc.value is not None and "more different scores than 4" in str(coarse.plcc_fitted.reason)
    # A parabola: the curve runs after a step that never ends.
    hard = agreement([-2.0, -1, 0, 1, 2, 1e6], [0.0, 0, 0, 0, 0, np.nextafter(0, 1)], resamples=0)
    assert hard.srcc.value is not None
    assert hard.plcc_fitted.value is None or abs(hard.plcc_fitted.value) <= 1


def test_a_fit_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iqloop.critic.evaluation.correlation.MAX_CALLS", 2)
    found = agreement(SCORES, OPINIONS, resamples=5)
    assert found.plcc.value is not None and found.plcc_fitted.value is None and found.rmse.value is None
    assert str(found.plcc_fitted.reason).startswith("the logistic fit failed")


def test_as_many_scores_as_opinions() -> None:
    with pytest.raises(ValueError, match="as many scores as opinions"):
        agreement([1.0], [1.0, 2.0])
