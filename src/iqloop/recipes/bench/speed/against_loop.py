"""The part of ``iqloop bench all`` about a critic's modes, beside the plain loop of the published demos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from iqloop.recipes.bench.critic import BASELINE, PLAIN, modes
from iqloop.recipes.bench.speed.figures import Part, row
from iqloop.recipes.bench.speed.rounds import interleave

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.critic.engine import QwenCritic


def measure(critic: QwenCritic, images: Sequence[Tensor], rounds: int) -> Part:
    """Every mode of `iqloop.recipes.bench.critic` on square images ``(3, S, S)`` in [0, 1]."""
    seconds = interleave({name: partial(ask, images) for name, ask in modes(critic).items()}, rounds)
    bases = {PLAIN: PLAIN, BASELINE: BASELINE}
    side = images[0].shape[-1]
    return Part(
        "Critic modes",
        f"{critic.name}. Images of {side} x {side}: {len(images)}. The plain loop is what the published demos do, on "
        "the same weights: the stock model, text before image, one sampled answer for one image at a time.",
        "ms/image",
        1000,
        tuple(row(name, seconds, bases, len(images)) for name in seconds),
    )
