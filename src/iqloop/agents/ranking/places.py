"""An order of images as data: places, matches, and the ranking they make; and the order that ratings give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from iqloop.critic.verdicts import Preference, Rating, Unparsed

By = Literal["score", "comparison", "hybrid"]
"""How images are ranked; see `rank`."""


@dataclass(frozen=True)
class Ranked:
    """The place of one image."""

    index: int
    """Position in the input, from 0."""
    rank: int | None
    """1 is best; ties share the better rank (1, 1, 3); None when it could not be ranked."""
    strength: float | None
    """By score: the mean rating on the critic's range. Else the Bradley-Terry log-strength, of mean 0 over all that are
    ranked. None without a rank."""
    error: str | None = None
    """Why there is no rank."""
    standard_error: float | None = None
    """Of the strength; by score: the rating's standard deviation; None when it is not known."""
    score: float | None = None
    """The critic's mean rating, where it was asked."""


@dataclass(frozen=True)
class Match:
    """One comparison and what came of it."""

    a: int
    """Position of the first image in the input."""
    b: int
    """Position of the second."""
    preference: Preference
    """Of a over b, both presentation orders taken together."""
    round: int
    """From 1."""
    decisive: bool
    """The two are neighbours in the final order, or this was the knockout's final."""


@dataclass(frozen=True)
class Ranking:
    """An order and what it stands on."""

    places: tuple[Ranked, ...]
    """Best first; what could not be ranked comes last, in the order of the input."""
    by: By
    """What it stands on; ``"score"`` also where comparisons were asked for and would have told nothing new."""
    matches: tuple[Match, ...] = ()
    """In the order in which they were held."""
    unparsed: int = 0
    """Comparisons whose answer could not be read; they count as no information."""
    position_bias: float | None = None
    """Mean of `Preference.position_bias` over the matches that tell it; None when nothing was shown side by side."""
    disagreements: float | None = None
    """Share of the matches whose two presentation orders disagreed; None when none tells it."""
    note: str | None = None
    """What was done otherwise than asked, and why."""

    @property
    def order(self) -> tuple[int, ...]:
        """Positions of the ranked images in the input, best first."""
        return tuple(place.index for place in self.places if place.rank is not None)

    @property
    def best(self) -> int | None:
        """Position of the best image in the input; None when none could be ranked."""
        return next(iter(self.order), None)

    @property
    def comparisons(self) -> int:
        """How many were asked, those included that could not be read."""
        return len(self.matches) + self.unparsed


def rank_ratings(ratings: Sequence[Rating | Unparsed], lower_better: bool = False) -> list[Ranked]:
    """Order ratings, best first; ties and unreadable ones keep the order of the input."""
    faults = [fault_of(rating) for rating in ratings]
    scored = [(i, rating) for i, rating in enumerate(ratings) if isinstance(rating, Rating) and not faults[i]]
    scored.sort(key=lambda item: item[1].mean if lower_better else -item[1].mean)
    ranked: list[Ranked] = []
    for place, (index, rating) in enumerate(scored, start=1):
        rank = ranked[-1].rank if ranked and ranked[-1].strength == rating.mean else place
        error = rating.std if rating.std > 0 else None
        ranked.append(Ranked(index, rank, rating.mean, None, error, rating.mean))
    ranked.extend(Ranked(index, None, None, fault) for index, fault in enumerate(faults) if fault)
    return ranked


def fault_of(rating: Rating | Unparsed) -> str:
    """Why a rating ranks nothing; empty when it does."""
    if isinstance(rating, Unparsed):
        return rating.reason or "the answer could not be read"
    return "" if math.isfinite(rating.mean) else f"the score is {rating.mean}"
