"""A reward beside the distance to the clean image: what it is, what it weighs, and who judges what comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from iqloop.errors import UsageError
from iqloop.restorers.training.guard import Guard
from iqloop.restorers.training.learner import Learner, Loss, distance
from iqloop.restorers.training.stream import Batch
from iqloop.restorers.training.validation import Judges

Reward = Callable[[Tensor, int], Tensor]
"""Rewards ``(B,)``, 1 the best and 0 the worst, of images ``(B, 3, H, W)`` that may leave [0, 1] at a step, from 0 on;
differentiable, and a function of both: a run that goes on sees what an unbroken one would have seen."""


@dataclass(frozen=True)
class Guidance:
    """What is made smaller: ``fidelity`` times the distance, plus ``weight`` times what is missing to the best reward.

    Raises `UsageError` when a number is out of range, or the guard asks for a judge that is not there.
    """

    reward: Reward
    weight: float
    fidelity: float = 1.0
    """Weight of the distance to the clean image: the anchor without which a net draws whatever pleases."""
    judges: Judges = field(default_factory=dict)
    """Look at held-out photographs, at every measurement."""
    guard: Guard | None = None
    """None keeps the last weights."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else decides the result, by name, as JSON types: a run goes on only if it is the same."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise UsageError(f"the reward's weight must be positive, got {self.weight}")
        if not 0 <= self.fidelity < math.inf:
            raise UsageError(f"fidelity must be at least 0, got {self.fidelity}")
        known = ("psnr", "ssim", *self.judges)
        if self.guard is not None and self.guard.figure not in known:
            raise UsageError(f"the guard goes by {self.guard.figure!r}: expected one of {', '.join(known)}")

    def said(self) -> dict[str, Any]:
        """What it adds to the settings of a run."""
        guard = None if self.guard is None else asdict(self.guard)
        return {"reward_weight": self.weight, "fidelity": self.fidelity, "guard": guard, **self.about}


def guided_step(
    learner: Learner,
    batch: Batch,
    guidance: Guidance,
    step: int,
    *,
    rate: float,
    loss: Loss,
    bf16: bool,
    clip: float,
    average_decay: float,
) -> dict[str, Tensor]:
    """One step of AdamW down both losses; ``step`` counts from 0.

    Returns scalars without a gradient: ``loss``, ``gradient`` (as `Learner.step`), ``fidelity`` (the distance, without
    its weight) and ``reward`` (the mean over the batch).
    """
    answer, target = learner.answer(batch, bf16)
    fidelity, reward = distance(answer, target, loss), guidance.reward(answer, step).mean()
    value = guidance.fidelity * fidelity + guidance.weight * (1 - reward)
    norm = learner.advance(value, rate, clip, average_decay)
    return {"loss": value.detach(), "gradient": norm, "fidelity": fidelity.detach(), "reward": reward.detach()}
