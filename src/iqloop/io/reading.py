"""The way in: any source -> Photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.errors import ImageReadError
from iqloop.io.arrays import from_array, from_tensor
from iqloop.io.decode import decode, from_pillow
from iqloop.io.files import read_bytes
from iqloop.io.photo import Photo

Source: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any] | Tensor
"""A file's path or its bytes; a PIL image; an array ``(H, W)`` or ``(H, W, C)`` of uint8, uint16 or float in [0, 1]; a
tensor ``(C, H, W)`` or ``(1, C, H, W)`` of uint8 or float in [0, 1]. C is 1 to 4; with 2 and 4 the last is alpha."""


def read(source: Source) -> Photo:
    """The photo in ``source``, upright, ``(3, H, W)`` float32 in [0, 1] on the CPU.

    Reads PNG, JPEG, WebP, TIFF, BMP and GIF (first frame) in every common mode: 1 to 16 bits and float TIFF, grey,
    palette, CMYK (to sRGB, by the embedded profile if there is one), with and without alpha. Pixels with another RGB
    profile than sRGB are not converted. Raises ImageReadError, which names the file and says what to do.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return decode(read_bytes(path), path)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source), None)
    if isinstance(source, Image.Image):
        return from_pillow(source)
    if isinstance(source, Tensor):
        return from_tensor(source)
    if isinstance(source, np.ndarray):
        return from_array(source)
    raise ImageReadError(
        None, f"expected a path, bytes, a PIL image, a numpy array or a tensor, got {type(source).__name__}"
    )


def to_batch(source: Source | Sequence[Source]) -> list[Tensor]:
    """The pixels ``(3, H, W)`` of one source, of each in a sequence, or of each in a batch ``(B, C, H, W)`` (tensor) or
    ``(B, H, W, C)`` (array). Sizes may differ. Raises ImageReadError."""
    if isinstance(source, list | tuple):
        return [read(one).pixels for one in source]
    if isinstance(source, Tensor | np.ndarray) and source.ndim == 4:
        return [read(one).pixels for one in source]
    return [read(source).pixels]  # type: ignore[arg-type]  # a Sequence that is neither list nor tuple: read says so
