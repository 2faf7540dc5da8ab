"""Reward back-propagation: the gradient of a reward through the decoder and the last steps of sampling.

DRaFT-K (Clark et al. 2023, "Directly Fine-Tuning Diffusion Models on Differentiable Rewards",
https://arxiv.org/abs/2309.17400); a reward that ends at a cap is of ReFL (Xu et al. 2023, "ImageReward",
https://arxiv.org/abs/2304.05977). Three anchors hold against what pleases a reward alone: the predictions may not go
far from those without the adapter; an enlarged image must shrink to what it was made from; and where the photograph
that was made small is at hand, it must be like that, as in the training of a restorer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from iqloop.errors import UsageError
from iqloop.restorers.diffusion.models import DiffusionModel, Given, rows_of
from iqloop.restorers.diffusion.pairs import seeds_of
from iqloop.restorers.diffusion.sampling import inconsistency, noise_of, sample
from iqloop.restorers.diffusion.tune import Figures

Reward = Callable[[Tensor, int], Tensor]
"""Rewards ``(B,)``, more is better, of images ``(B, 3, H, W)`` in [0, 1]; a function of them and of the number it is
given, so that a reward which looks at random views sees the same ones in a run that goes on."""
Batches = Callable[[int], Given]
"""What is known of the images of a step; the same whenever it is asked. `ORIGINAL` is kept from the model."""
ORIGINAL = "original"
"""Name of what enlarged images should look like, ``(B, 3, H, W)`` in [0, 1], among what is known of them."""


@dataclass(frozen=True)
class DraftSettings:
    """How a reward is followed. Raises `UsageError` when a number is out of range."""

    sample_steps: int = 10
    """Of DDIM."""
    gradient_steps: int = 1
    """The last so many of them have a gradient: the paper's K."""
    kl: float = 1.0
    """Weight of the mean square distance between predictions with and without the adapter."""
    fidelity: float = 4.0
    """Weight of the mean absolute distance between the output, shrunk, and the input; for super-resolution alone."""
    anchor: float = 4.0
    """Weight of the mean absolute distance between the output and the photograph that the input was made from, where
    that is known."""
    checkpointing: bool = False
    """Compute the steps once more instead of keeping their activations: less memory, more time."""

    def __post_init__(self) -> None:
        if not 1 <= self.gradient_steps <= self.sample_steps:
            raise UsageError(
                f"gradient_steps must be from 1 to the {self.sample_steps} sampling steps, got {self.gradient_steps}"
            )
        for name in ("kl", "fidelity", "anchor"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must not be negative, got {getattr(self, name)}")


class RewardObjective:
    """DRaFT-K as an objective of `iqloop.restorers.diffusion.tune`."""

    def __init__(
        self, model: DiffusionModel, batches: Batches, reward: Reward, settings: DraftSettings, seed: int
    ) -> None:
        self._model, self._batches, self._reward = model, batches, reward
        self._settings, self._seed = settings, seed

    def __call__(self, step: int, rows: range) -> tuple[Tensor, Figures]:
        """Mean loss of some rows of a step's batch; the same whenever it is asked."""
        model, settings = self._model, self._settings
        place = next(model.network.parameters()).device
        whole = self._batches(step)
        given = {name: value.to(place) for name, value in rows_of(whole, rows).items()}
        original = given.pop(ORIGINAL, None)
        seeds = seeds_of(len(next(iter(whole.values()))), self._seed, step)
        noise = noise_of(model.shape(given), seeds[rows.start : rows.stop], place)
        drawn = sample(
            model,
            given,
            noise,
            settings.sample_steps,
            gradient_steps=settings.gradient_steps,
            drift=True,
            checkpointing=settings.checkpointing,
        )
        assert drawn.drift is not None
        # Each part of a batch looks at views of its own.
        reward = self._reward(drawn.images, step * len(seeds) + rows.start).mean()
        drift = drawn.drift.mean()
        loss = settings.kl * drift - reward
        figures = {"reward": reward.detach(), "drift": drift.detach()}
        if "image" in given:
            unlike = inconsistency(drawn.images, given["image"]).mean()
            loss = loss + settings.fidelity * unlike
            figures["inconsistency"] = unlike.detach()
        if original is not None:
            away = (drawn.images - original).abs().mean()
            loss = loss + settings.anchor * away
            figures["distance"] = away.detach()
        return loss, figures
