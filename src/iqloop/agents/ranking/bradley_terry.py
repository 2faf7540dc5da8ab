"""Strengths from comparisons: the Bradley-Terry model, fitted by Newton's method (Biometrika 39, 1952).

The chance that i beats j is ``1 / (1 + exp(s_j - s_i))`` for log-strengths s. With comparisons (i, j, y), y in [0, 1]
the outcome for i, and a normal prior of mean m and deviation d, the strengths are those that maximise

    sum y log P(i beats j) + (1 - y) log P(j beats i)  -  sum (s_i - m_i)^2 / (2 d_i^2)

A tie is half a win for either (y = 1/2), and a critic's probability is an outcome as it stands; Davidson's model of
ties (JASA 65, 1970) needs a parameter more and counted ties, and a probability has them split already. The prior keeps
whoever won or lost every comparison at a finite strength; `WEAK` does little else.

A comparison counts as one trial, however sure the critic was: two of three images that beat each other in a ring end
with equal strengths, and with the errors that so few trials leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Vector = NDArray[np.float64]

WEAK = 2.0
"""Deviation of a prior that says hardly anything: by it, in half of all pairs the better one wins 7 times in 8 or more.
A larger one would take a few coin tosses for differences; a smaller one would shrink what is clear."""
PRECISION = 1e-10
"""Largest slope at which the strengths are found."""
STEPS = 100
"""More than Newton's method ever needs on this concave sum."""


@dataclass(frozen=True)
class Fit:
    """Strengths and how sure they are."""

    strengths: Vector
    """``(N,)`` log-strengths of mean 0."""
    covariance: Vector
    """``(N, N)`` of those: the inverse of the negative Hessian, less what is common to all and no comparison tells."""

    @property
    def standard_errors(self) -> Vector:
        """``(N,)``."""
        return np.asarray(np.sqrt(np.diag(self.covariance).clip(0)), float)

    @property
    def chances(self) -> Vector:
        """``(N, N)``: chance that the row's image would beat the column's."""
        return np.asarray(special.expit(self.strengths[:, None] - self.strengths), float)

    @property
    def variances(self) -> Vector:
        """``(N, N)`` of the difference of two strengths."""
        diagonal = np.diag(self.covariance)
        return (diagonal[:, None] + diagonal - 2 * self.covariance).clip(0)

    @property
    def certainties(self) -> Vector:
        """``(N, N)``: probability that the row's image is the stronger one, by the normal approximation."""
        deviations = np.sqrt(self.variances)
        gaps = self.strengths[:, None] - self.strengths
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(gaps == 0, 0.0, gaps / deviations)
        return np.asarray(special.ndtr(z), float)


def fit(
    count: int,
    pairs: Sequence[tuple[int, int]],
    outcomes: Sequence[float],
    prior_means: ArrayLike = 0.0,
    prior_deviations: ArrayLike = WEAK,
) -> Fit:
    """Log-strengths of ``count`` images.

    Args:
        count: N.
        pairs: who was compared, from 0; one pair may stand here several times.
        outcomes: as many, in [0, 1]: 1 the first won, 0 the second, 1/2 a tie.
        prior_means: a number, or one for each image.
        prior_deviations: the same, positive; what is common to all prior means has no influence.

    Raises `ValueError` for pairs, outcomes or deviations that are none.
    """
    who, results = np.asarray(pairs, int).reshape(-1, 2), np.asarray(outcomes, float)
    means = np.broadcast_to(np.asarray(prior_means, float), (count,))
    deviations = np.broadcast_to(np.asarray(prior_deviations, float), (count,))
    if results.shape != (len(who),) or not ((results >= 0) & (results <= 1)).all():
        raise ValueError(f"expected {len(who)} outcomes in [0, 1], got {outcomes}")
    if ((who < 0) | (who >= count)).any() or (who[:, 0] == who[:, 1]).any():
        raise ValueError(f"expected pairs of two different numbers below {count}, got {pairs}")
    if not (np.isfinite(means).all() and np.isfinite(deviations).all() and (deviations > 0).all()):
        raise ValueError(f"expected finite means and positive deviations, got {means} and {deviations}")
    precisions = deviations**-2.0

    def value(s: Vector) -> float:
        gaps = s[who[:, 0]] - s[who[:, 1]]
        likelihood = results @ special.log_expit(gaps) + (1 - results) @ special.log_expit(-gaps)
        return float(likelihood - ((s - means) ** 2 * precisions).sum() / 2)

    def slope_and_curvature(s: Vector) -> tuple[Vector, Vector]:
        chances = special.expit(s[who[:, 0]] - s[who[:, 1]])
        slope = -(s - means) * precisions
        np.add.at(slope, who[:, 0], results - chances)
        np.add.at(slope, who[:, 1], chances - results)
        curvature = np.diag(precisions)
        weights = chances * (1 - chances)
        for row, column, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
            np.add.at(curvature, (who[:, row], who[:, column]), sign * weights)
        return slope, curvature

    strengths = means.copy()
    for _ in range(STEPS):
        slope, curvature = slope_and_curvature(strengths)
        if np.abs(slope).max(initial=0.0) < PRECISION:
            break
        step, here = np.linalg.solve(curvature, slope), value(strengths)
        # Far from the solution a full step may overshoot; near it only rounding makes it look so.
        while value(strengths + step) < here - PRECISION * (1 + abs(here)):
            step = step / 2
        strengths = strengths + step
    centre = np.eye(count) - 1 / max(count, 1)
    covariance = np.linalg.inv(slope_and_curvature(strengths)[1])
    return Fit(centre @ strengths, centre @ covariance @ centre)
