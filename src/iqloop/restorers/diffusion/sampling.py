"""Sampling with a gradient: DDIM (Song et al. 2021, https://arxiv.org/abs/2010.02502), the last steps of it kept.

Without a gradient the images are to the bit those of the pipeline, for the same noise (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from iqloop.restorers.diffusion.lora import without
from iqloop.restorers.diffusion.models import DiffusionModel, Given


class Sample(NamedTuple):
    """What came out of B noises."""

    images: Tensor
    """``(B, 3, H, W)`` in [0, 1]."""
    latents: Tensor
    """``(B, C, h, w)``, as they were decoded."""
    drift: Tensor | None
    """``(B,)``: how far the predictions are from those without the adapter, mean square over values and steps."""


def sample(
    model: DiffusionModel,
    given: Given,
    noise: Tensor,
    steps: int,
    *,
    gradient_steps: int = 0,
    drift: bool = False,
    checkpointing: bool = False,
) -> Sample:
    """Draw images.

    Args:
        model: parts of a pipeline.
        given: what is known of each image.
        noise: ``(B, C, h, w)`` of unit deviation (`noise_of`).
        steps: of DDIM; deterministic, nothing else is drawn.
        gradient_steps: the last so many keep their gradient, and so does the decoder; 0 keeps none.
        drift: compare each prediction with the one without the adapter, on the same latents: of the steps with a
            gradient, or of all where none has one.
        checkpointing: compute the predictions once more in the backward pass instead of keeping all they stand on.
    """
    scheduler = model.scheduler
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    first = len(scheduler.timesteps) - gradient_steps
    drifts: list[Tensor] = []
    for i, time in enumerate(scheduler.timesteps):
        keeps = gradient_steps > 0 and i >= first
        with torch.set_grad_enabled(keeps):
            if keeps and checkpointing:
                answer = checkpoint(predict, model, latents, time, given, use_reentrant=False)
            else:
                answer = predict(model, latents, time, given)
            if drift and (keeps or gradient_steps == 0):
                drifts.append(squared(answer - before(model, latents, time, given)))
            latents = scheduler.step(answer, time, latents).prev_sample
    with torch.set_grad_enabled(gradient_steps > 0):
        images = model.decode(latents, given)
    return Sample(images, latents, torch.stack(drifts).mean(0) if drifts else None)


def predict(model: DiffusionModel, latents: Tensor, time: Tensor, given: Given) -> Tensor:
    """The prediction ``(B, C, h, w)`` of one step, with classifier-free guidance (Ho & Salimans 2022) above 1."""
    shown = model.scheduler.scale_model_input(latents, time)
    if model.guidance <= 1:
        return model.answer(shown, time, given)
    none = model.unconditional(given)
    both = {name: torch.cat([none[name], given[name]]) for name in none}
    off, on = model.answer(torch.cat([shown, shown]), time, both).chunk(2)
    return off + model.guidance * (on - off)


def before(model: DiffusionModel, latents: Tensor, time: Tensor, given: Given) -> Tensor:
    """The same prediction without the adapter, and without a gradient."""
    with torch.no_grad(), without(model.network):
        return predict(model, latents.detach(), time, given)


def squared(error: Tensor) -> Tensor:
    """Mean square of each of ``(B, ...)``."""
    return error.square().flatten(1).mean(1)


def noise_of(shape: tuple[int, int, int], seeds: Sequence[int], device: torch.device) -> Tensor:
    """Noise ``(B, C, h, w)`` of unit deviation, drawn on the CPU from a seed for each."""
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)


def eight_bits(images: Tensor) -> Tensor:
    """Rounded to the values that a file holds."""
    return (images.clamp(0, 1) * 255).round() / 255


def inconsistency(images: Tensor, small: Tensor) -> Tensor:
    """Mean absolute distance ``(B,)`` of images in [0, 1], shrunk by antialiased bicubic, from ``small`` in [-1, 1]."""
    shrunk = functional.interpolate(images, size=small.shape[-2:], mode="bicubic", antialias=True)
    return (shrunk - (small / 2 + 0.5)).abs().flatten(1).mean(1)
