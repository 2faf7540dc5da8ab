"""Stage 1 of the generator: an autoencoder whose latents are standardised and fit into a code book.

Learned in this order, each a pure step on what came before: without a code book, but with noise on the latents, so that
the decoder forgives what the U-Net will get wrong; then the latents' mean and deviation are folded into the 1 x 1
convolutions on both sides, which changes no output and makes them what diffusion expects; then the code book is found
by k-means. Learned code books of this size collapse; k-means cannot.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EDGES = 1.0
"""Weight of the error of differences between neighbours beside that of the pixels."""
COLOURS = 3.0
"""The same of the error of the means of `PATCH` x `PATCH` pixels: without it three numbers for four pixels are spent on
light and shade alone, and green eyes turn brown (docs/log.md)."""
PATCH = 4


def loss_of(model: Any, images: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Mean absolute error of pixels, of neighbours' differences and of small patches' means.

    Args:
        model: a `VQModel`.
        images: ``(B, 3, H, W)`` in [-1, 1].
        noise: standard deviation of what is added to the latents, in units of their own.
        generator: draws it, on the CPU.
    """
    latents = model.encode(images).latents
    spread = latents.detach().std(dim=(0, 2, 3), keepdim=True)
    drawn = torch.randn(latents.shape, generator=generator).to(latents)
    decoded = model.decode(latents + noise * spread * drawn, force_not_quantize=True).sample.float()
    error: Tensor = decoded - images
    edges = sum(error.diff(dim=axis).abs().mean() for axis in (-1, -2))
    return error.abs().mean() + EDGES * edges + COLOURS * F.avg_pool2d(error, PATCH).abs().mean()


@torch.no_grad()
def standardise(model: Any, images: Tensor) -> None:
    """Make each channel of the latents of ``images`` zero in mean and one in deviation; what is decoded stays."""
    latents = model.encode(images).latents
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out = model.quant_conv, model.post_quant_conv
    into.weight.div_(deviation[:, None, None, None])
    into.bias.sub_(mean).div_(deviation)
    out.bias.add_(out.weight[:, :, 0, 0] @ mean)
    out.weight.mul_(deviation[None, :, None, None])


@torch.no_grad()
def fill_codes(model: Any, images: Tensor, generator: torch.Generator, rounds: int = 12, most: int = 120_000) -> None:
    """Replace the code book by the k-means centres of the latents of ``images``; centres that nobody uses stay."""
    codes = model.quantize.embedding.weight
    latents = model.encode(images).latents.permute(0, 2, 3, 1).reshape(-1, codes.shape[1]).float()
    latents = latents[torch.randperm(len(latents), generator=generator)[:most]]
    centres = latents[torch.arange(len(codes)) % len(latents)].clone()
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in latents.split(8192)])
        count = torch.bincount(nearest, minlength=len(centres)).clamp(min=0)
        total = torch.zeros_like(centres).index_add_(0, nearest, latents)
        used = count > 0
        centres[used] = total[used] / count[used, None]
    codes.copy_(centres)
