"""Bicubic change of size by a whole factor: the baseline of upscaling, and the way back for its consistency check."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def enlarge(image: Tensor, scale: int) -> Tensor:
    """Bicubic upscaling of ``(3, H, W)`` in [0, 1] to ``(3, H * scale, W * scale)``; the image itself for scale 1."""
    if scale == 1:
        return image
    large = functional.interpolate(image[None].float(), scale_factor=scale, mode="bicubic", align_corners=False)
    return large[0].clamp(0, 1)


def shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic down-sampling of ``(3, H, W)`` in [0, 1] to ``size`` (height, width)."""
    if tuple(image.shape[-2:]) == size:
        return image
    small = functional.interpolate(image[None].float(), size=size, mode="bicubic", align_corners=False, antialias=True)
    return small[0].clamp(0, 1)
