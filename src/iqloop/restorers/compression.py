"""Classical tools against compression. Pure functions on ``(H, W, 3)`` float32 RGB in [0, 1]; any size."""

from __future__ import annotations

import cv2
import numpy as np

from iqloop.restorers.estimate import luminance
from iqloop.restorers.sliding import BLOCK, ORDER, TRANSFORM, Array, coefficients, shrink_plane
from iqloop.restorers.sliding import HARD as THRESHOLD

# ITU-T T.81 (1992), tables K.1 and K.2: what libjpeg, and with it nearly every writer, scales by its quality.
LUMA: Array = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
).ravel()
CHROMA: Array = np.array(
    [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]],
    np.float32,
)
CHROMA = np.pad(CHROMA, (0, 4), constant_values=99).ravel()

HARD, WIENER, CELL = 0.45, 0.28, 0.3
"""Threshold, noise level and half width of the cell, in quantisation steps; measured on JPEG of quality 5 to 25."""


def quantisation(table: Array, quality: int) -> Array:
    """libjpeg's scaling of a table ``(64,)`` by quality 1 to 100; steps in units of [0, 255]."""
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.clip(np.floor((table * percent + 50) / 100), 1, 255), np.float32)


def jpeg_quality(image: Array) -> tuple[int, tuple[int, int]] | None:
    """The libjpeg quality that ``image`` went through last and the offset of its 8 x 8 grid; None if none is seen.

    DCT coefficients on the grid lie near multiples of the quantisation step (Fan and de Queiroz, 2003). The sign of
    it is the mean of ``cos(2 pi c / step)``: 1 on the multiples, about 0 for anything else.
    """
    plane = luminance(image) * 255 - 128
    if min(plane.shape) < 2 * BLOCK:
        return None
    offset = _grid(plane)
    found = coefficients(plane, BLOCK, offset)[:, (ORDER >= 1) & (ORDER <= 4)]
    found = found[:20000]
    best: tuple[float, int] | None = None
    for quality in range(2, 96):
        step = quantisation(LUMA, quality)[(ORDER >= 1) & (ORDER <= 4)]
        live = np.abs(found) > step / 2
        # A smooth ramp has a few frequencies of one value each, which fits some step by chance.
        values = np.rint(found / step) + 1000 * np.arange(len(step))
        if live.sum() < 32 or len(np.unique(values[live])) < 6:
            continue
        likeness = float(np.cos(2 * np.pi * found / step)[live].mean())
        # Half and third of the true step fit as well: the first, coarsest good fit is the true one.
        if likeness > 0.5 and (best is None or likeness > best[0] + 0.12):
            best = (likeness, quality)
    return None if best is None else (best[1], offset)


def _grid(plane: Array) -> tuple[int, int]:
    """Where the 8 x 8 grid begins: the rows and columns across which steps stand out most."""
    offsets = []
    for axis in (0, 1):
        # Second difference: a step between blocks against the steps inside them.
        d = np.abs(np.diff(plane, axis=axis))
        profile = np.median(np.minimum(d, 32), axis=1 - axis) + d.clip(0, 32).mean(axis=1 - axis)
        phases = [float(profile[p::BLOCK].mean()) for p in range(BLOCK)]
        strongest = int(np.argmax(phases))
        usual = float(np.median(phases))
        # The usual grid, unless another is clearly seen: an image is seldom cropped after compression.
        aligned = phases[BLOCK - 1] >= usual + 0.5 * (phases[strongest] - usual)
        offsets.append(0 if aligned else (strongest + 1) % BLOCK)
    return offsets[0], offsets[1]


def deblock_dct(image: Array) -> Array:
    """Deblock a JPEG by the DCT of all shifts, at the quantisation that is read off the image.

    Shifted transforms (Nosratinia, 2001), with a hard threshold and an empirical Wiener filter in place of
    requantisation, and the result held near the quantisation cells of the file (Zakhor, 1992). An image without the
    mark of JPEG is returned as it came.
    """
    seen = jpeg_quality(image)
    if seen is None:
        return image.copy()
    quality, offset = seen
    ycc = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb), np.float32) * np.float32(255)
    luma, steps = np.ascontiguousarray(ycc[..., 0]), quantisation(LUMA, quality)
    ycc[..., 0] = _hold(shrink_plane(luma, HARD * steps, WIENER * steps), luma, steps, offset)
    for channel in (1, 2):
        ycc[..., channel] = _deblock_chroma(ycc[..., channel], quantisation(CHROMA, quality))
    return np.asarray(cv2.cvtColor(ycc / 255, cv2.COLOR_YCrCb2RGB), np.float32)


def smooth_dct(image: Array, level: float = 5.0) -> Array:
    """Sliding DCT in YCbCr at a fixed, low noise level (of 255), half as much again for chroma.

    For codecs whose quantisation cannot be read off the image: JPEG 2000, WebP, a JPEG that was resized.
    """
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    for channel, factor in enumerate((1.0, 1.5, 1.5)):
        sigma = np.full(BLOCK * BLOCK, level / 255 * factor, np.float32)
        ycc[..., channel] = shrink_plane(np.ascontiguousarray(ycc[..., channel]), THRESHOLD * sigma, sigma)
    return np.asarray(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB), np.float32)


def _deblock_chroma(plane: Array, steps: Array) -> Array:
    """Chroma is stored at half size (4:2:0): filter it there, and add the change to the full plane."""
    height, width = plane.shape
    half = (max(1, height // 2), max(1, width // 2))
    small = np.asarray(cv2.resize(plane, half[::-1], interpolation=cv2.INTER_AREA), np.float32).reshape(half)
    change = shrink_plane(small, HARD * steps, WIENER * steps) - small
    large = cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR)
    return plane + np.asarray(large, np.float32).reshape(height, width)


def _hold(filtered: Array, decoded: Array, steps: Array, offset: tuple[int, int]) -> Array:
    """Clamp the coefficients on the file's grid to within `CELL` steps of the decoded ones; whole blocks only."""
    top, left = offset
    rows, columns = (decoded.shape[0] - top) // BLOCK, (decoded.shape[1] - left) // BLOCK
    inner = (slice(top, top + rows * BLOCK), slice(left, left + columns * BLOCK))
    result = filtered.copy()
    wanted, given = coefficients(filtered[inner], BLOCK), coefficients(decoded[inner], BLOCK)
    held = np.clip(wanted, given - CELL * steps, given + CELL * steps) @ TRANSFORM
    result[inner] = held.reshape(rows, columns, BLOCK, BLOCK).swapaxes(1, 2).reshape(rows * BLOCK, columns * BLOCK)
    return result
