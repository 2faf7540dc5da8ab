"""Filtering in the DCT of overlapping 8 x 8 windows, averaged where the windows overlap.

The common engine of the DCT tools: translation-invariant denoising (Coifman and Donoho, 1995; Yu and Sapiro, "DCT
image denoising", IPOL 2011) and deblocking by shifted transforms (Nosratinia, 2001). What happens to the coefficients
of a window is the caller's function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

Array = NDArray[np.float32]

BLOCK = 8

Shrink = Callable[[Sequence[Array]], tuple[Array, Array]]
"""From the coefficients ``(n, 64)`` of the same windows in each plane to new ones ``(n, 64)`` and weights ``(n,)``."""

_BASIS = dct(np.eye(BLOCK), axis=0, norm="ortho")
TRANSFORM: Array = np.kron(_BASIS, _BASIS).astype(np.float32)
"""``(64, 64)``, orthonormal: ``TRANSFORM @ window.ravel()`` is the 2-D DCT-II, ``8 * vertical + horizontal``."""
ORDER: NDArray[np.int64] = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel()
"""``(64,)``: vertical plus horizontal frequency of each coefficient; 0 is the mean."""

HARD = 2.7
"""Threshold in standard deviations of the noise (2.7 in BM3D and DA3D, 3.0 in Yu and Sapiro)."""

_BAND = 1 << 16
"""Windows worked on at once: bounds memory to some 50 MB at any image size."""


def windows(plane: Array, stride: int, offset: tuple[int, int] = (0, 0)) -> Array:
    """The 8 x 8 windows of ``(H, W)`` from ``offset`` on, as ``(rows, columns, 64)``; none beyond the border."""
    view = np.lib.stride_tricks.sliding_window_view(plane, (BLOCK, BLOCK))[offset[0] :: stride, offset[1] :: stride]
    return view.reshape(*view.shape[:2], BLOCK * BLOCK)


def coefficients(plane: Array, stride: int, offset: tuple[int, int] = (0, 0)) -> Array:
    """DCT coefficients of `windows`, ``(n, 64)``; ``n`` is 0 for a plane that is smaller than a window."""
    if min(plane.shape) < BLOCK + max(offset):
        return np.zeros((0, BLOCK * BLOCK), np.float32)
    found = windows(plane, stride, offset).reshape(-1, BLOCK * BLOCK) @ TRANSFORM.T
    return np.asarray(found, np.float32)


def shrink_plane(plane: Array, threshold: Array, sigma: Array, stride: int = 2) -> Array:
    """Two passes over ``(H, W)``: a hard threshold, then the Wiener filter that the first result suggests.

    ``threshold`` and ``sigma`` are ``(64,)``, one for each coefficient, in the units of the plane. The windows' means
    are kept. Windows that needed few coefficients are smooth and weigh more (Dabov et al., BM3D, 2007).
    """

    def hard(found: Sequence[Array]) -> tuple[Array, Array]:
        keep = np.abs(found[0]) > threshold
        keep[:, 0] = True
        return found[0] * keep, (1 / (1 + keep.sum(1))).astype(np.float32)

    def wiener(found: Sequence[Array]) -> tuple[Array, Array]:
        power = found[1] ** 2
        gain = power / (power + sigma**2 + np.float32(1e-12))
        gain[:, 0] = 1
        return found[0] * gain, (1 / (1 + (gain**2).sum(1))).astype(np.float32)

    return filter_windows([plane, filter_windows([plane], hard, stride)], wiener, stride)


def filter_windows(planes: Sequence[Array], shrink: Shrink, stride: int = 2) -> Array:
    """Replace each window's coefficients by ``shrink`` of them and average the windows.

    Args:
        planes: one or more ``(H, W)`` float32 of the same size, any size from 1 x 1 on; mirrored at the borders.
        shrink: see `Shrink`; gets one array for each plane.
        stride: distance of the windows, 1 to 8; 1 is the most thorough and four times as costly as 2.

    Returns:
        ``(H, W)`` float32.
    """
    height, width = planes[0].shape
    padded = [np.pad(p, _padding(height, width, stride), mode="symmetric") for p in planes]
    total = np.zeros(padded[0].shape, np.float32)
    weight = np.zeros(padded[0].shape, np.float32)
    views = [np.lib.stride_tricks.sliding_window_view(p, (BLOCK, BLOCK))[::stride, ::stride] for p in padded]
    rows, columns = views[0].shape[:2]
    step = max(1, _BAND // columns)
    for top in range(0, rows, step):
        band = [v[top : top + step].reshape(-1, BLOCK * BLOCK) @ TRANSFORM.T for v in views]
        shrunk, weights = shrink(band)
        pixels = ((shrunk @ TRANSFORM) * weights[:, None]).reshape(-1, columns, BLOCK, BLOCK)
        weights = weights.reshape(-1, columns)
        count = len(weights)
        for i in range(BLOCK):
            vertical = slice(top * stride + i, top * stride + i + (count - 1) * stride + 1, stride)
            for j in range(BLOCK):
                horizontal = slice(j, j + (columns - 1) * stride + 1, stride)
                total[vertical, horizontal] += pixels[:, :, i, j]
                weight[vertical, horizontal] += weights
    result = total / weight
    return result[BLOCK : BLOCK + height, BLOCK : BLOCK + width]


def _padding(height: int, width: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    # A whole window on each side, and more at the far side so that the last window ends at the last pixel.
    return (BLOCK, BLOCK + -height % stride), (BLOCK, BLOCK + -width % stride)
