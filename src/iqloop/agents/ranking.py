"""Ranking by score: best first, ties share a rank, what could not be scored comes last and says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Rating, Unparsed


@dataclass(frozen=True)
class Ranked:
    """The place of one image."""

    index: int
    """Position in the input, from 0."""
    rank: int | None
    """1 is best; equal scores share the better rank (1, 1, 3); None without a score."""
    strength: float | None
    """The mean rating on the critic's range; None without one."""
    error: str | None = None
    """Why there is no score."""


def rank_ratings(ratings: Sequence[Rating | Unparsed], lower_better: bool = False) -> list[Ranked]:
    """Order ratings, best first; ties and unreadable ones keep the order of the input."""
    faults = [_fault(rating) for rating in ratings]
    scored = [(i, rating.mean) for i, rating in enumerate(ratings) if isinstance(rating, Rating) and not faults[i]]
    scored.sort(key=lambda item: item[1] if lower_better else -item[1])
    ranked: list[Ranked] = []
    for place, (index, mean) in enumerate(scored, start=1):
        rank = ranked[-1].rank if ranked and ranked[-1].strength == mean else place
        ranked.append(Ranked(index, rank, mean))
    ranked.extend(Ranked(index, None, None, fault) for index, fault in enumerate(faults) if fault)
    return ranked


def rank_by_score(images: Sequence[Tensor], critic: Critic) -> list[Ranked]:
    """Rank images ``(3, H, W)`` in [0, 1] of any sizes by the critic's score, in one call."""
    return rank_ratings(critic.score(images), critic.lower_better) if images else []


def _fault(rating: Rating | Unparsed) -> str:
    if isinstance(rating, Unparsed):
        return rating.reason or "the answer could not be read"
    return "" if math.isfinite(rating.mean) else f"the score is {rating.mean}"
