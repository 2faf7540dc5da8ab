"""How much a critic's score of one image changes from seed to seed.

A written answer that is drawn at a temperature is one of many that could have come, and published demos show one draw.
The spread over seeds says how far such a score can be trusted; a deterministic mode must have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The scores of one image."""

    scores: tuple[float, ...]
    """One for each seed whose answer could be read."""
    unparsed: int
    """Seeds whose answer could not."""
    mean: float | None
    """None without a score."""
    std: float | None
    """Sample standard deviation (divided by N - 1); None with fewer than two scores."""
    span: float | None
    """Highest score less the lowest; None with fewer than two."""


@dataclass(frozen=True)
class Stability:
    """The spreads of all images together."""

    images: int
    measured: int
    """Images with at least two scores, which alone have a spread."""
    std_mean: float | None
    """Mean of the images' standard deviations; None when there is none."""
    std_median: float | None
    std_max: float | None
    std_pooled: float | None
    """Root of the mean variance, weighted by N - 1."""
    span_max: float | None
    """The largest difference between two scores of one image."""
    answers: int
    """Seeds times images."""
    unparsed: int
    """Answers that could not be read; they count in no spread."""
    unparsed_share: float | None
    """`unparsed` of `answers`, in [0, 1]; None without answers."""


def spread(scores: Iterable[float | None]) -> Spread:
    """The spread of one image's scores, None where an answer could not be read.

    >>> spread([3.0, None, 4.0, 5.0])
    Spread(scores=(3.0, 4.0, 5.0), unparsed=1, mean=4.0, std=1.0, span=2.0)
    """
    said = list(scores)
    known = tuple(one for one in said if one is not None)
    several = len(known) > 1
    return Spread(
        known,
        len(said) - len(known),
        float(np.mean(known)) if known else None,
        float(np.std(known, ddof=1)) if several else None,
        max(known) - min(known) if several else None,
    )


def stability(spreads: Sequence[Spread]) -> Stability:
    """The spreads of several images together."""
    measured = [one for one in spreads if one.std is not None and one.span is not None]
    deviations = np.array([one.std for one in measured], float)
    degrees = np.array([len(one.scores) - 1 for one in measured], float)
    answers = sum(len(one.scores) + one.unparsed for one in spreads)
    unparsed = sum(one.unparsed for one in spreads)
    known = len(measured) > 0
    return Stability(
        images=len(spreads),
        measured=len(measured),
        std_mean=float(deviations.mean()) if known else None,
        std_median=float(np.median(deviations)) if known else None,
        std_max=float(deviations.max()) if known else None,
        std_pooled=float(np.sqrt((degrees * deviations**2).sum() / degrees.sum())) if known else None,
        span_max=max((one.span for one in measured if one.span is not None), default=None),
        answers=answers,
        unparsed=unparsed,
        unparsed_share=unparsed / answers if answers else None,
    )


def by_image(answers: Iterable[tuple[str, float | None]]) -> Mapping[str, Spread]:
    """The spread of each image, of pairs (image, score) in any order."""
    scores: dict[str, list[float | None]] = {}
    for image, score in answers:
        scores.setdefault(image, []).append(score)
    return {image: spread(row) for image, row in scores.items()}
