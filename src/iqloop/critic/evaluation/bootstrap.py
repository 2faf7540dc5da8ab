"""Intervals of means and of ratios, by a percentile bootstrap over clusters (Efron and Tibshirani, 1993).

What was measured on one photograph hangs together, so photographs are drawn again with replacement, each with all that
was measured on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iqloop.critic.evaluation.correlation import LEVEL, RESAMPLES, Estimate


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Sum of the numerators over the sum of the denominators, with its interval of 95 %.

    A mean is the ratio of each cluster's sum to its count.

    Args:
        numerators: one for each cluster.
        denominators: as many.
        resamples: draws; 0, or a single cluster, leaves the interval out.
        seed: of the draws.
    """
    over, under = np.asarray(numerators, float), np.asarray(denominators, float)
    if over.shape != under.shape or over.ndim != 1:
        raise ValueError(f"expected as many numerators as denominators, got {over.shape} and {under.shape}")
    if not under.sum() > 0:
        return Estimate(None, reason="nothing to divide by")
    value = float(over.sum() / under.sum())
    if len(over) < 2 or not resamples:
        return Estimate(value)
    draws = np.random.default_rng(seed).integers(len(over), size=(resamples, len(over)))
    above, below = over[draws].sum(1), under[draws].sum(1)
    again = above[below > 0] / below[below > 0]
    if not len(again):
        return Estimate(value)
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))
