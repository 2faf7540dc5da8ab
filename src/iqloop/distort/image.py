"""The arrays that the distortions work on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""``(H, W, 3)`` uint8, RGB: a photograph as files have it."""
Image = NDArray[np.floating]
"""``(H, W, 3)`` float32, RGB; in [0, 1] on the way in, possibly beyond on the way out."""


def as_image(result: Any, like: Image) -> Image:
    """OpenCV's result as float32 of the input's shape; it drops axes of length one."""
    return np.asarray(result, dtype=np.float32).reshape(like.shape)


def to_float(image: Bytes) -> Image:
    """Bytes to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def to_bytes(image: Image) -> Bytes:
    """Clip to [0, 1] and round to 8 bits."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
