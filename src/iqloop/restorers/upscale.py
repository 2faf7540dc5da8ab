"""Classical enlargement. Pure functions on ``(H, W, 3)`` float32 RGB in [0, 1], to ``scale`` times the size."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from iqloop.restorers.sliding import Array


def bicubic(image: Array, scale: int) -> Array:
    """Bicubic interpolation (Keys, 1981, a = -0.5): the same numbers as Pillow's, without rounding to 8 bits."""
    height, width = image.shape[:2]
    return _array(_resize(_tensor(image), height * scale, width * scale))


def backproject(image: Array, scale: int, rounds: int = 5) -> Array:
    """Bicubic, then corrected until its own reduction is the input (Irani and Peleg, 1991).

    The reduction is Pillow's antialiased bicubic, the degradation of most super-resolution benchmarks.
    """
    small = _tensor(image)
    height, width = image.shape[:2]
    large = _resize(small, height * scale, width * scale)
    for _ in range(rounds):
        lack = small - _resize(large, height, width)
        large = large + _resize(lack, height * scale, width * scale)
    return _array(large)


def _resize(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.interpolate(x, (height, width), mode="bicubic", antialias=True)


def _tensor(image: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def _array(x: torch.Tensor) -> Array:
    return np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
