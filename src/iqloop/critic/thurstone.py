"""A preference from two ratings: Thurstone's law of comparative judgement, case III (Psychological Review 34, 1927).

Ratings are taken as independent normal variables, so P(A better) = Phi((mu_A - mu_B) / sqrt(sigma_A^2 + sigma_B^2)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iqloop.critic.verdicts import Choice, Preference, Rating, Unparsed

SIMILAR_BAND = 0.1
"""Two ratings whose probability is this near to one half are called similar."""


def likelier(probability: float, tie_band: float) -> Choice:
    """The choice by the probability that A is better; within ``tie_band`` of one half, and at it, "similar"."""
    away = abs(probability - 0.5)
    return "similar" if away < tie_band or away == 0 else "A" if probability > 0.5 else "B"


def prefer(a: Rating, b: Rating, lower_better: bool = False, similar_band: float = SIMILAR_BAND) -> Preference:
    """Which rating is better, and with what probability.

    Args:
        a: rating of image A; its provenance becomes the preference's.
        b: rating of image B, on the same scale.
        lower_better: the direction of that scale.
        similar_band: how near to one half a probability means ``"similar"``; 0 leaves only one half itself.

    With both deviations 0 the probability is 1, 0.5 or 0.
    """
    difference = b.mean - a.mean if lower_better else a.mean - b.mean
    spread = math.hypot(a.std, b.std)
    if spread == 0:
        probability = 0.5 + 0.5 * ((difference > 0) - (difference < 0))
    else:
        probability = 0.5 * (1 + math.erf(difference / spread / math.sqrt(2)))
    choice = likelier(probability, similar_band)
    unparsed = a.unparsed + b.unparsed
    return Preference(choice, probability, method="thurstone", unparsed=unparsed, provenance=a.provenance)


def by_ratings(
    a: Sequence[Rating | Unparsed], b: Sequence[Rating | Unparsed], lower_better: bool = False
) -> list[Preference | Unparsed]:
    """`prefer` for each pair; a rating that did not parse leaves the pair `Unparsed`."""
    preferences: list[Preference | Unparsed] = []
    for x, y in zip(a, b, strict=True):
        if isinstance(x, Unparsed):
            preferences.append(x)
        elif isinstance(y, Unparsed):
            preferences.append(y)
        else:
            preferences.append(prefer(x, y, lower_better))
    return preferences
