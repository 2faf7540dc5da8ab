"""How far a critic's scores agree with people's mean opinions.

PLCC is reported twice, because the literature does both: raw, and after a logistic curve of four parameters that takes
the critic's scale and its saturation out of the comparison (Sheikh, Sabir and Bovik, "A Statistical Evaluation of
Recent Full Reference Image Quality Assessment Algorithms", 2006; the curve and its start as in DeQA-Score's
evaluation). SRCC and KRCC (tau-b, for ties) need no curve. RMSE is on the opinions' scale.

Every interval is a percentile bootstrap over images: the images are drawn again with replacement, and scores and
opinions stay together. The curve is fitted once, to all images, and is not fitted again to each draw; so the intervals
of the fitted figures leave its own uncertainty out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

RESAMPLES = 1000
"""Draws of a bootstrap."""
LEVEL = 0.95
"""Share of the draws inside an interval."""
MAX_CALLS = 10_000
"""Evaluations of the curve after which a fit has failed."""
PARAMETERS = 4
"""Of the curve: through no more different scores than that it can go as it likes."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, or why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    """Why ``value`` is None."""


@dataclass(frozen=True)
class Curve:
    """``(beta1 - beta2) / (1 + exp(-(x - beta3) / beta4)) + beta2``: from a score to an opinion."""

    beta: tuple[float, float, float, float]

    def __call__(self, scores: Vector) -> Vector:
        """Opinions ``(N,)`` of scores ``(N,)``."""
        return _logistic(scores, *self.beta)

    @property
    def rises(self) -> bool:
        """False when the fit has turned the critic around; PLCC after it then hides that people disagree."""
        return (self.beta[0] - self.beta[1]) * self.beta[3] > 0


@dataclass(frozen=True)
class Agreement:
    """All figures of one set of images. Correlations are in [-1, 1], 1 is best, whatever the critic's direction."""

    images: int
    srcc: Estimate
    """Spearman's rank correlation."""
    krcc: Estimate
    """Kendall's tau-b."""
    plcc: Estimate
    """Pearson's correlation of the scores as they are."""
    plcc_fitted: Estimate
    """The same after `curve`."""
    rmse: Estimate
    """Root mean squared error after `curve`, on the opinions' scale."""
    rmse_raw: Estimate
    """The same without a curve; only where both are on one scale."""
    curve: Curve | None
    """Takes scores with the opinions' direction: negated where the two differ."""


def agreement(
    scores: Sequence[float],
    opinions: Sequence[float],
    *,
    opposite: bool = False,
    same_scale: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Compare scores with opinions, image by image.

    Args:
        scores: the critic's.
        opinions: people's, as many.
        opposite: low is good for one of the two and high for the other; the scores are negated then.
        same_scale: both are on one scale, so that their raw difference means something.
        resamples: draws of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
    """
    x, y = np.asarray(scores, float), np.asarray(opinions, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"expected as many scores as opinions, got {x.shape} and {y.shape}")
    if opposite:
        x = -x
    times = resamples if len(x) > 1 else 0

    def estimate(figure: Callable[[Vector, Vector], float | None], said: Vector, reason: str) -> Estimate:
        value = figure(said, y)
        if value is None:
            return Estimate(None, reason=reason)
        rng = np.random.default_rng(seed)  # the same draws for each figure
        draws = (rng.integers(len(x), size=len(x)) for _ in range(times))
        again = [figure(said[draw], y[draw]) for draw in draws]
        return Estimate(value, *_interval(value, [one for one in again if one is not None]))

    flat = _why_flat(x, y)
    curve = flat if flat else fit(x, y)
    if isinstance(curve, str):
        plcc_fitted = rmse = Estimate(None, reason=curve)
    else:
        fitted = curve(x)
        plcc_fitted = estimate(pearson, fitted, "the fitted curve is flat")
        rmse = estimate(root_mean_square, fitted, "")
    raw = same_scale and not opposite and len(x) > 0
    return Agreement(
        images=len(x),
        srcc=estimate(spearman, x, flat),
        krcc=estimate(kendall, x, flat),
        plcc=estimate(pearson, x, flat),
        plcc_fitted=plcc_fitted,
        rmse=rmse,
        rmse_raw=estimate(root_mean_square, x, "")
        if raw
        else Estimate(None, reason="scores and opinions are not on one scale"),
        curve=None if isinstance(curve, str) else curve,
    )


def fit(scores: Vector, opinions: Vector) -> Curve | str:
    """The logistic curve of least squared error, or why there is none.

    It starts at ``[max y, min y, mean x, std x / 4]`` and gives up after `MAX_CALLS`; it is not tried where the scores
    take no more values than it has parameters.
    """
    from scipy import optimize

    if len(scores) <= PARAMETERS:
        return f"a curve of {PARAMETERS} parameters needs more images than {len(scores)}"
    if (values := len(np.unique(scores))) <= PARAMETERS:
        return f"a curve of {PARAMETERS} parameters needs more different scores than {values}"
    start = [opinions.max(), opinions.min(), scores.mean(), scores.std() / 4]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Without a covariance (which nobody reads) the curve may be as good as any.
            warnings.simplefilter("ignore")
            found = optimize.curve_fit(_logistic, scores, opinions, p0=start, maxfev=MAX_CALLS)[0]
    except (RuntimeError, ValueError) as error:
        return f"the logistic fit failed ({' '.join(str(error).split())})"
    if not np.isfinite(found).all():
        return "the logistic fit failed (it left the finite numbers)"
    first, second, third, fourth = (float(value) for value in found)
    return Curve((first, second, third, fourth))


def pearson(x: Vector, y: Vector) -> float | None:
    """Pearson's correlation; None when either does not vary.

    >>> pearson(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])), pearson(np.ones(3), np.arange(3.0))
    (1.0, None)
    """
    if len(x) < 2 or _is_flat(x) or _is_flat(y):
        return None
    # In units of the largest deviation: curves that saturate leave differences whose squares underflow.
    a, b = x - x.mean(), y - y.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(x: Vector, y: Vector) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None when either does not vary."""
    from scipy import stats

    return pearson(stats.rankdata(x), stats.rankdata(y))


def kendall(x: Vector, y: Vector) -> float | None:
    """Kendall's tau-b; None when either does not vary."""
    from scipy import stats

    if len(x) < 2 or _is_flat(x) or _is_flat(y):
        return None
    if len(x) == 2:
        return pearson(x, y)  # the same, and scipy divides by N - 2
    # The method decides on the p-value alone, whose exact form is slow.
    return float(stats.kendalltau(x, y, method="asymptotic").statistic)


def root_mean_square(x: Vector, y: Vector) -> float | None:
    """Root mean squared difference; None without values."""
    return float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else None


def _logistic(x: Vector, beta1: float, beta2: float, beta3: float, beta4: float) -> Vector:
    from scipy import special

    return np.asarray((beta1 - beta2) * special.expit((x - beta3) / beta4) + beta2)


def _interval(value: float, again: Sequence[float]) -> tuple[float | None, float | None]:
    """Percentiles of the draws, widened to the estimate where all draws lie on one side of it."""
    if not again:
        return None, None
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(float(low), value), max(float(high), value)


def _why_flat(x: Vector, y: Vector) -> str:
    if len(x) < 2:
        return f"a correlation needs two images, got {len(x)}"
    return "all scores are equal" if _is_flat(x) else "all opinions are equal" if _is_flat(y) else ""


def _is_flat(x: Vector) -> bool:
    return bool(x.min() == x.max())
