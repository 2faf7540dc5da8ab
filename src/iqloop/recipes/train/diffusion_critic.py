"""A critic as the one who rewards a generator, chooses among its images, and judges what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from iqloop.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents.ranking import By
    from iqloop.critic.protocol import Critic
    from iqloop.restorers.diffusion.draft import Reward
    from iqloop.restorers.diffusion.pairs import Prefer

CAP = 7 / 8
"""Share of the critic's range beyond which nothing is gained, unless told."""
VIEW = 3 / 4
"""Least side of a view of an image, over the image's."""


def prefer_by(critic: Critic, by: By, margin: float, seed: int) -> Prefer:
    """Best against worst of the critic's ranking, where the best is ``margin`` stronger (`Ranked.strength`)."""
    from iqloop.agents import rank
    from iqloop.restorers.diffusion.pairs import Preferred

    def prefer(images: Sequence[Tensor], number: int) -> Preferred | None:
        ranking = rank([image.cpu() for image in images], critic, by=by, seed=seed + number)
        placed = [place for place in ranking.places if place.rank is not None]
        if len(placed) < 2 or placed[0].rank == placed[-1].rank:
            return None
        best, worst = placed[0], placed[-1]
        assert best.strength is not None and worst.strength is not None  # they have a rank
        apart = abs(best.strength - worst.strength)
        return Preferred(best.index, worst.index, apart) if apart >= margin else None

    return prefer


def reward_of(critic: Critic, cap: float | None, views: int, side: int, seed: int) -> Reward:
    """The critic's score over its range, in [0, 1] with 1 the best, of images of this side at least.

    Raises `UsageError` for a critic without a gradient or a finite range, or a cap outside of it.
    """
    from iqloop.critic.loss import CriticLoss, ViewJitter

    low, high = critic.score_range
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError(f"{critic.name} rates on an open range, which is no reward: take  --method dpo")
    if cap is None:
        cap = high - CAP * (high - low) if critic.lower_better else low + CAP * (high - low)
    jitter = ViewJitter(side=max(1, round(VIEW * side)))
    loss = CriticLoss(critic, cap=cap, reduction="none", views=views, jitter=jitter, seed=seed)

    def reward(images: Tensor, number: int) -> Tensor:
        # The views follow from the number alone: a run that goes on sees what an unbroken one would have seen.
        loss.step.fill_(number)
        worth: Tensor = 1 - loss(images)
        return worth

    return reward


def judge_by(critic: Critic) -> Callable[[Tensor], float]:
    """The critic's score of an image ``(3, H, W)``; NaN for an answer that cannot be read."""
    from iqloop.critic.verdicts import Rating

    def judge(image: Tensor) -> float:
        rating = critic.score([image])[0]
        return rating.mean if isinstance(rating, Rating) else math.nan

    return judge
