"""The array that the distortions work on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating]
"""``(H, W, 3)`` float32, RGB; in [0, 1] on the way in, possibly beyond on the way out."""


def as_image(result: Any, like: Image) -> Image:
    """OpenCV's result as float32 of the input's shape; it drops axes of length one."""
    return np.asarray(result, dtype=np.float32).reshape(like.shape)
