"""Arrays in the layouts that users have -> pixels and alpha as a photo holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iqloop.errors import ImageReadError
from iqloop.io.photo import Photo, hash_pixels

Array = NDArray[Any]

_SLACK: Final = 1e-5
"""Rounding that is let pass (and clamped) in floats that should lie in [0, 1]."""


def from_tensor(tensor: Tensor) -> Photo:
    """A photo of ``(H, W)``, ``(C, H, W)`` or ``(1, C, H, W)``, C = 1 to 4 (2 and 4: the last is alpha), uint8 or float
    in [0, 1], on any device. Raises ImageReadError."""
    fresh = tensor.detach().cpu()
    if fresh.is_floating_point():
        fresh = fresh.float()
    if fresh.ndim == 4 and fresh.shape[0] == 1:
        fresh = fresh[0]
    if fresh.ndim == 2:
        fresh = fresh[None]
    if fresh.ndim != 3 or not 1 <= fresh.shape[0] <= 4:
        raise ImageReadError(
            None, f"expected a tensor (3, H, W), (1, H, W) or (1, C, H, W), got {tuple(tensor.shape)}: permute it"
        )
    return from_array(np.moveaxis(fresh.numpy(), 0, -1))


def from_array(array: Array) -> Photo:
    """A photo of ``(H, W)`` or ``(H, W, C)``, C = 1 to 4 (2 and 4: the last is alpha), uint8, uint16, bool or float in
    [0, 1]. Raises ImageReadError."""
    pixels, alpha, greyscale = planes(array, None)
    return Photo(
        pixels=pixels,
        alpha=alpha,
        bit_depth=16 if array.dtype == np.uint16 else 8,
        greyscale=greyscale,
        format="",
        exif=None,
        icc=None,
        path=None,
        frames=1,
        sha256=hash_pixels(pixels, alpha),
    )


def planes(array: Array, path: Path | None) -> tuple[Tensor, Tensor | None, bool]:
    """``(3, H, W)`` and ``(1, H, W)`` or None, float32 in [0, 1], and whether there was one colour channel."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not 1 <= array.shape[-1] <= 4:
        raise ImageReadError(
            path, f"expected an array (H, W) or (H, W, C) with C of 1 to 4, got {array.shape}: transpose it"
        )
    if array.size == 0:
        raise ImageReadError(path, f"expected at least one pixel, got shape {array.shape}")
    # Turned as the bytes they mostly are. What comes of it is ours alone, and is not copied again.
    tensor = torch.from_numpy(_unit(np.ascontiguousarray(np.moveaxis(array, -1, 0)), path))
    colours = tensor.shape[0] - (tensor.shape[0] in (2, 4))
    if colours == tensor.shape[0] == 3:
        return tensor, None, False
    pixels = tensor[:colours]
    return (
        pixels.repeat(3, 1, 1) if colours == 1 else pixels.clone(),
        tensor[colours:].clone() if tensor.shape[0] > colours else None,
        colours == 1,
    )


def _unit(array: Array, path: Path | None) -> NDArray[np.float32]:
    """The values as float32 in [0, 1], a new array; n / 255 and n / 65535 come back exactly when written."""
    if array.dtype == np.uint8:
        return np.divide(array, np.float32(255), dtype=np.float32)
    if array.dtype == np.uint16:
        return np.divide(array, np.float32(65535), dtype=np.float32)
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype.kind != "f":
        raise ImageReadError(
            path, f"expected samples of uint8, uint16 or float in [0, 1], got {array.dtype}: convert them"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # so written, NaN fails too
        raise ImageReadError(path, f"expected float samples in [0, 1], got [{low:g}, {high:g}]: rescale or clip them")
    return np.clip(array.astype(np.float32), 0, 1)
