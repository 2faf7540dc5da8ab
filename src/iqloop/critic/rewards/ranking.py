"""VisualQuality-R1's reward (Wu et al. 2025): reinforcement learning to rank.

Each of B images is answered K times. Under Thurstone's model the k-th answer's score q_k(x_i) beats image x_j with

    p_k(x_i, x_j) = Phi((q_k(x_i) - mu(x_j)) / sqrt(var(x_i) + var(x_j) + gamma)),

mu and var being the mean and the unbiased variance of an image's K scores. Its reward is the mean fidelity to what
people said, p(x_i, x_j) = 1, 0 or, for equal opinions, 0.5:

    r_k(x_i) = 1 / (B - 1) sum_{j != i} [sqrt(p p_k) + sqrt((1 - p)(1 - p_k))].

The published code adds gamma inside the fidelity's roots too, which lets a reward exceed 1, puts random numbers in the
place of answers that do not parse, and pairs the images of one process only; none of that here. Only images of one
dataset may be paired: opinions of different datasets have different scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from iqloop.errors import UsageError

Variant = Literal["fidelity", "binary", "probability-average", "fixed-variance"]
"""The full reward, and the slides' ablations (Table 4)."""

GAMMA = 1e-6
"""Keeps the denominator above 0."""

Values = NDArray[np.float64]


def ranking_rewards(
    scores: Sequence[Sequence[float | None]],
    opinions: Sequence[float],
    groups: Sequence[str] | None = None,
    variant: Variant = "fidelity",
    gamma: float = GAMMA,
) -> list[list[float]]:
    """The reward, in [0, 1], of each of K answers about each of B images.

    Args:
        scores: B rows of K scores; None for an answer that did not parse, which is worth 0 and left out of its image's
            mean and variance. An image with no score at all is left out of the pairs.
        opinions: B mean opinion scores, higher is better, on any scale.
        groups: the dataset of each image; pairs are formed inside a dataset only. None is one dataset.
        variant: ``"fidelity"`` is the reward above; ``"binary"`` gives 1 where the order of q_k(x_i) and mu(x_j) is the
            people's (equal counts for equal opinions), else 0; ``"probability-average"`` puts the mean of p_k over
            the K answers in the place of p_k, as the slides' name for it is understood here: then all K answers that
            parse earn the same, and where rewards are normalised within the K nothing is left to learn from;
            ``"fixed-variance"`` sets every variance to 1.
        gamma: see above.

    An image that has nobody to be paired with earns 0 for every answer: there is nothing to learn from it.
    """
    if variant not in get_args(Variant):
        raise UsageError(f"unknown variant {variant!r}: expected one of {', '.join(get_args(Variant))}")
    if not len(scores) == len(opinions) == len(groups if groups is not None else opinions):
        raise UsageError(f"expected scores, opinions and groups of as many images, got {len(scores)}, {len(opinions)}")
    rows = [np.array([math.nan if score is None else score for score in row], dtype=np.float64) for row in scores]
    known = [row[~np.isnan(row)] for row in rows]
    means = [float(values.mean()) if values.size else math.nan for values in known]
    variances = [float(values.var(ddof=1)) if values.size > 1 else 0.0 for values in known]
    if variant == "fixed-variance":
        variances = [1.0] * len(rows)
    rewards = []
    for i, row in enumerate(rows):
        others = [
            j for j in range(len(rows)) if j != i and known[j].size and (groups is None or groups[j] == groups[i])
        ]
        total = np.zeros(len(row))
        for j in others:
            truth = 0.5 * (1 + np.sign(opinions[i] - opinions[j]))
            if variant == "binary":
                total += np.sign(row - means[j]) == np.sign(opinions[i] - opinions[j])
                continue
            p = _beats(row, means[j], variances[i] + variances[j] + gamma)
            if variant == "probability-average":
                p = np.where(np.isnan(row), row, np.nanmean(p) if known[i].size else math.nan)
            total += np.sqrt(truth * p) + np.sqrt((1 - truth) * (1 - p))
        worth = total / max(1, len(others))
        rewards.append([0.0 if math.isnan(row[k]) else float(worth[k]) for k in range(len(row))])
    return rewards


def _beats(scores: Values, mean: float, variance: float) -> Values:
    """Thurstone's probability that each score beats ``mean``; NaN stays NaN."""
    z = (scores - mean) / math.sqrt(variance)
    return np.array([math.nan if math.isnan(x) else 0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
