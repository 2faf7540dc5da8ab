"""Bicubic change of size: the baseline of upscaling, the way back from it, and images brought to one size."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def enlarge(image: Tensor, scale: int) -> Tensor:
    """Bicubic upscaling of ``(3, H, W)`` in [0, 1] to ``(3, H * scale, W * scale)``; the image itself for scale 1."""
    if scale == 1:
        return image
    large = functional.interpolate(image[None].float(), scale_factor=scale, mode="bicubic", align_corners=False)
    return large[0].clamp(0, 1)


def at_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, antialiased where it shrinks: ``(3, H, W)`` in [0, 1] at a height and width; itself if it has them."""
    if size_of(image) == size:
        return image
    resized = functional.interpolate(image[None].float(), size=size, mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1)


def at_one_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with as many pixels: the smaller is enlarged, in its own proportions.

    So a viewer sees them who shows both equally large: nothing of the larger one is lost, neither its detail nor its
    noise. Proportions that differ by less than a pixel are taken to be equal, and the sizes then are.
    """
    (height, width), (high, wide) = size_of(a), size_of(b)
    if height * width > high * wide:
        b, a = at_one_size(b, a)
        return a, b
    factor = math.sqrt(high * wide / (height * width))
    size = round(height * factor), round(width * factor)
    if abs(size[0] - high) <= 1 and abs(size[1] - wide) <= 1:
        size = (high, wide)
    return at_size(a, size), b


def size_of(image: Tensor) -> tuple[int, int]:
    """Height and width."""
    return int(image.shape[-2]), int(image.shape[-1])
