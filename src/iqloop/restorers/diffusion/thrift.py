"""Memory for large images: the code book of a `VQModel`, looked up in parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PART = 8192
"""Latents that are compared with the whole code book at once: 256 MiB for 8,192 codes."""


def in_parts(pipeline: Any) -> None:
    """Make a pipeline's `VQModel`, if it has one, compare a part of its latents with its codes at a time.

    diffusers holds the distances of all latents to all codes: 8 GiB for an image of 512 x 512 and 8,192 codes. The
    result is the same. Only for use without a gradient.
    """
    coder = getattr(pipeline, "vqvae", None)
    if coder is None or not hasattr(coder, "quantize"):
        return
    book = coder.quantize

    def forward(latents: Tensor) -> tuple[Tensor, Tensor, tuple[None, None, Tensor]]:
        """What `VectorQuantizer.forward` gives, for latents ``(B, C, H, W)``; its loss is of no use here and is 0."""
        flat = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
        codes = book.embedding.weight
        nearest = torch.cat([torch.cdist(part.float(), codes.float()).argmin(1) for part in flat.split(PART)])
        batch, channels, height, width = latents.shape
        chosen = book.embedding(nearest).view(batch, height, width, channels).permute(0, 3, 1, 2)
        return chosen.contiguous(), latents.new_zeros(()), (None, None, nearest)

    book.forward = forward
