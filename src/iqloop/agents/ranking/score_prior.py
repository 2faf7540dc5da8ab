"""What scores say of strengths before anything is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iqloop.agents.ranking.bradley_terry import WEAK, Vector
from iqloop.critic.verdicts import Rating, Unparsed


def score_prior(ratings: Sequence[Rating | Unparsed], lower_better: bool = False) -> tuple[Vector, Vector]:
    """Means and deviations ``(N,)`` of log-strengths.

    A rating ``m +- d`` becomes ``k m +- k d``, so that one strength is greater than another with the probability of
    Thurstone's law for the two ratings, whatever k is. How much a point of score is worth in comparisons is not known
    beforehand: k takes the median deviation to `WEAK`, from which comparisons can still lead anywhere.

    A rating without a deviation gets the median one; where none has any, scores are taken to be off by as much as they
    differ (their sample deviation). Whoever has no rating starts in the middle, known to be anywhere.
    """
    known = [i for i, rating in enumerate(ratings) if isinstance(rating, Rating) and math.isfinite(rating.mean)]
    means, deviations = np.zeros(len(ratings)), np.full(len(ratings), WEAK)
    if not known:
        return means, deviations
    found = [rating for rating in ratings if isinstance(rating, Rating) and math.isfinite(rating.mean)]
    scores = np.array([-rating.mean if lower_better else rating.mean for rating in found])
    spreads = np.array([rating.std if math.isfinite(rating.std) else 0.0 for rating in found])
    given = spreads[spreads > 0]
    usual = float(np.median(given)) if len(given) else float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    if usual == 0:
        return means, deviations
    means[known] = (scores - scores.mean()) * (WEAK / usual)
    deviations[known] = np.where(spreads > 0, spreads, usual) * (WEAK / usual)
    unknown = [i for i in range(len(ratings)) if i not in known]
    deviations[unknown] = math.hypot(WEAK, float(means[known].std()))
    return means, deviations
