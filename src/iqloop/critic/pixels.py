"""From pixels to patches, differentiable and equal to the published processor.

Qwen2-VL's processor resizes to multiples of two patches within a pixel budget, normalises with CLIP's mean and
deviation, and cuts patches (14 x 14 in the published checkpoints) in 2 x 2 groups. The resize is done as Pillow does it
on bytes: horizontally, rounded and clipped, then vertically, rounded and clipped; rounding passes the gradient straight
through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PATCH, MERGE, FRAMES = 14, 2, 2
UNIT = PATCH * MERGE
"""Sides are multiples of this, in pixels: one visual token. These are the published checkpoints' sizes; an own one may
have patches of another size."""


class _ToBytes(torch.autograd.Function):
    """Round to whole grey levels and clip; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((x >= 0) & (x <= 1))
        # In place from the second step on: a fresh buffer for each costs more than the arithmetic.
        return torch.mul(x, 255).round_().clamp_(0, 255).div_(255)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (inside,) = ctx.saved_tensors
        return torch.as_tensor(gradients[0] * inside)


def fitted_size(height: int, width: int, min_pixels: int, max_pixels: int, unit: int = UNIT) -> tuple[int, int]:
    """Sides as multiples of ``unit``, the area within the budget, the aspect kept as nearly as that allows.

    Qwen2-VL's rule, without its refusal of aspects above 200, which a strip of pixels would meet.
    """
    tall, wide = max(unit, round(height / unit) * unit), max(unit, round(width / unit) * unit)
    if tall * wide > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        tall = max(unit, math.floor(height / beta / unit) * unit)
        wide = max(unit, math.floor(width / beta / unit) * unit)
    elif tall * wide < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        tall = math.ceil(height * beta / unit) * unit
        wide = math.ceil(width * beta / unit) * unit
    if tall * wide > max_pixels:
        # A strip whose short side is held at one unit still has to fit, enlarged or not.
        limit = max(unit, max_pixels // unit // unit * unit)
        tall, wide = min(tall, limit), min(wide, limit)
    return tall, wide


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with anti-aliasing, as Pillow does it on bytes; ``(3, H, W)`` in [0, 1] to ``(3, height, width)``."""
    x = _ToBytes.apply(image[None])
    options: dict[str, Any] = {"mode": "bicubic", "align_corners": False, "antialias": True}
    if width != x.shape[-1]:
        x = _ToBytes.apply(F.interpolate(x, size=(x.shape[-2], width), **options))
    if height != x.shape[-2]:
        x = _ToBytes.apply(F.interpolate(x, size=(height, width), **options))
    return torch.as_tensor(x[0])


def patchify(images: Tensor, frames: int = FRAMES, patch: int = PATCH) -> tuple[Tensor, Tensor]:
    """Equal-sized images ``(B, 3, H, W)`` in [0, 1], sides multiples of two patches, as patches.

    Returns ``(B * patches, 3 * frames * patch * patch)`` and the grids ``(B, 3)`` of (frames, rows, columns). A still
    image is shown to the model as `FRAMES` equal frames; 1 is for `iqloop.critic.fast`, which knows that.
    """
    batch, channels, height, width = images.shape
    x = images - torch.tensor(MEAN, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    x = x / torch.tensor(STD, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    rows, columns = height // patch, width // patch
    x = x.view(batch, channels, rows // MERGE, MERGE, patch, columns // MERGE, MERGE, patch)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
    grid = torch.tensor([[1, rows, columns]] * batch, device=images.device)
    return x.reshape(batch * rows * columns, -1), grid


def pack(views: Sequence[Tensor], frames: int = FRAMES, patch: int = PATCH) -> tuple[Tensor, Tensor]:
    """Images ``(3, H, W)`` of any sizes (multiples of two patches) as one run of patches and their grids ``(N, 3)``."""
    parts = [patchify(view[None], frames, patch) for view in views]
    return torch.cat([patches for patches, _ in parts]), torch.cat([grid for _, grid in parts])
