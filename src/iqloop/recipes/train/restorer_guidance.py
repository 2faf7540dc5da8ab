"""A critic as the one who rewards a restorer while it learns, and another who judges what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from iqloop.errors import UsageError

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic
    from iqloop.restorers.training.guidance import Guidance

StopOn = Literal["critic", "psnr", "ssim", "none"]
"""What chooses the weights: ``critic`` is the held-out one; ``none`` keeps the last."""


@dataclass(frozen=True)
class Wanted:
    """What a command line asks for."""

    weight: float
    """Of the critic's loss, which is 1 at the worst and 0 at the best end of its range."""
    cap: float | None = None
    """Score beyond which nothing is gained; None takes seven eighths of the range, the range's end is none."""
    views: int = 1
    """Random views of each patch; 0 is the patch itself."""
    fidelity: float = 1.0
    """Weight of the pixel loss."""
    stop_on: StopOn = "critic"
    patience: int = 5
    psnr_loss: float = 0.3
    """dB that the kept weights may lose at most."""


def guidance_by(critic: Critic, held_out: Critic, wanted: Wanted, side: int, seed: int) -> Guidance:
    """The critic's reward, both critics as judges, and the guard.

    Args:
        critic: rewards; its scores have a gradient.
        held_out: another one, that rewards nothing.
        wanted: how.
        side: of the restored patches, in pixels.
        seed: of the views.

    Raises:
        UsageError: the critics are the same, or the first has no gradient or no finite range, or the cap is outside.
    """
    from iqloop.recipes.train.diffusion_critic import judge_by, reward_of
    from iqloop.restorers.training.guard import Guard
    from iqloop.restorers.training.guidance import Guidance

    if (critic.name, critic.version) == (held_out.name, held_out.version):
        raise UsageError(
            f"the held-out critic must be another than the one that trains, got {critic.name} for both: "
            "choose  --held-out-critic"
        )
    if not all(math.isfinite(end) for end in critic.score_range):
        raise UsageError(f"{critic.name} rates on an open range, which is no loss: take another  --critic")
    guard = None
    if wanted.stop_on != "none":
        by_critic = wanted.stop_on == "critic"
        figure = held_out.name if by_critic else wanted.stop_on
        guard = Guard(figure, by_critic and held_out.lower_better, wanted.psnr_loss, wanted.patience)
    return Guidance(
        reward_of(critic, wanted.cap, wanted.views, side, seed),
        wanted.weight,
        wanted.fidelity,
        {critic.name: judge_by(critic), held_out.name: judge_by(held_out)},
        guard,
        {
            "critic": f"{critic.name} {critic.version}",
            "cap": wanted.cap,
            "views": wanted.views,
            "held_out_critic": f"{held_out.name} {held_out.version}",
        },
    )
