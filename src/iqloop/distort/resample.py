"""Down- and up-sampling of uint8 RGB images ``(H, W, 3)``, by Pillow, anti-aliased."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from iqloop.errors import UsageError

Filter = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]


def resize(image: NDArray[np.uint8], factor: float, filter: Filter = "bicubic") -> NDArray[np.uint8]:
    """Scale both sides by ``factor`` (rounded, at least one pixel)."""
    if not 0 < factor < 64:
        raise UsageError(f"factor must be in (0, 64), got {factor:g}")
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling[filter.upper()]))


def downsample(image: NDArray[np.uint8], scale: int, filter: Filter = "bicubic") -> NDArray[np.uint8]:
    """The low-resolution half of a super-resolution pair: sides divided by ``scale``."""
    return resize(image, 1 / scale, filter)


def down_up(image: NDArray[np.uint8], scale: float, filter: Filter = "bicubic") -> NDArray[np.uint8]:
    """Down by ``scale`` and back to the same size: detail lost, size kept."""
    height, width = image.shape[:2]
    small = Pillow.fromarray(resize(image, 1 / scale, filter))
    return np.asarray(small.resize((width, height), Pillow.Resampling[filter.upper()]))


def short_side(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Short side down to ``side`` (bicubic), only if it is longer, as in DQ-495K (224)."""
    shortest = min(image.shape[:2])
    return image if shortest <= side else resize(image, side / shortest)
