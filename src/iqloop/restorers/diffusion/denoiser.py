"""Stage 2 of the generator: the U-Net learns to remove noise from latents, beside the low-resolution image.

Velocity prediction (Salimans & Ho 2022, https://arxiv.org/abs/2202.00512, appendix D): the target is
``sqrt(a) * noise - sqrt(1 - a) * latents``. Its squared error weights each time as min(SNR, 5)-weighting nearly does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def loss_of(
    denoiser: Any, scheduler: Any, latents: Tensor, given: Tensor, noise: Tensor, times: Tensor, each: bool = False
) -> Tensor:
    """Mean squared error of the velocity.

    Args:
        denoiser: the U-Net.
        scheduler: holds the noise schedule.
        latents: ``(B, 3, H, W)``, clean.
        given: ``(B, 3, H, W)``, the low-resolution images in [-1, 1].
        noise: as ``latents``, of unit deviation.
        times: ``(B,)``, whole numbers below the schedule's length.
        each: one loss for each of the B, instead of their mean.
    """
    noisy = scheduler.add_noise(latents, noise, times)
    target = scheduler.get_velocity(latents, noise, times)
    answer = denoiser(torch.cat([noisy, given], dim=1), times).sample.float()
    losses: Tensor = (answer - target).square().mean(dim=(1, 2, 3))
    return losses if each else losses.mean()


def drawn(latents: Tensor, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise like ``latents`` and a time for each, spread evenly over the schedule; drawn on the CPU."""
    count = len(latents)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    # One time from each equal part: a batch sees the whole schedule, and the loss varies less.
    times = (torch.arange(count) + torch.rand(count, generator=generator)) * (length / count)
    return noise, times.long().clamp(max=length - 1).to(latents.device)
