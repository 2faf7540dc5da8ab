"""Classical tools against noise. Pure functions on ``(H, W, 3)`` float32 RGB in [0, 1]; any size from 1 x 1 on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iqloop.restorers.estimate import noise_level_function, noise_sigma, noise_spectrum
from iqloop.restorers.sliding import HARD, Array, shrink_plane

_OPPONENT = np.array(
    [[3**-0.5, 3**-0.5, 3**-0.5], [2**-0.5, 0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]], np.float32
)
"""Orthonormal brightness and two colour differences: white noise in RGB stays white noise of the same size."""
CLEAN = 0.5 / 255
"""Noise below this is left alone by `total_variation`: half a step of 8 bits."""
FEW = 0.002
"""Share of black and white outliers that a clean photograph may have."""


def dct(image: Array, strength: float = 1.0, stride: int = 2) -> Array:
    """Sliding-window DCT: hard threshold, then an empirical Wiener filter.

    Blind: the noise level as a function of brightness is estimated and made constant (variance stabilisation), then
    the noise in each DCT coefficient is measured in the flattest windows, so that shot noise, speckle and noise that
    was smoothed all meet thresholds of their own.
    """
    grid, forward, mean = _stabiliser(image)
    stable = np.interp(image, grid, forward).astype(np.float32) @ _OPPONENT.T
    clean = np.empty_like(stable)
    for channel in range(3):
        plane = np.ascontiguousarray(stable[..., channel])
        sigma = noise_spectrum(plane) * np.float32(strength)
        clean[..., channel] = shrink_plane(plane, HARD * sigma, sigma, stride)
    return np.asarray(np.interp(clean @ _OPPONENT, mean, grid), np.float32)


def _stabiliser(image: Array) -> tuple[Array, Array, Array]:
    """``(grid, forward, mean)``: a curve after which the noise has one level, and the way back.

    ``forward`` at ``grid`` is the curve, [0, 1] to [0, 1]. ``mean`` at ``grid`` is what noisy values, clipped as the
    file clips them, average to after it: reading that one backwards is the unbiased inverse (Mäkitalo and Foi, 2011);
    reading ``forward`` backwards would darken strong speckle by several per cent.
    """
    grid = np.linspace(0, 1, 513)
    a, b, c = noise_level_function(image)
    measured = a + b * grid + c * grid**2
    # The floor bounds the slope in the dark to 5 times that of the mean.
    variance = np.maximum(measured, max(0.04 * float(measured.mean()), 1e-9))
    forward = np.concatenate([[0], np.cumsum(1 / np.sqrt((variance[1:] + variance[:-1]) / 2))])
    forward /= forward[-1]
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    noisy = np.clip(grid[:, None] + np.sqrt(measured)[:, None] * nodes, 0, 1)
    mean = np.interp(noisy, grid, forward) @ (weights / weights.sum())
    mean = np.maximum.accumulate(mean + 1e-7 * grid)
    return grid.astype(np.float32), forward.astype(np.float32), mean.astype(np.float32)


def total_variation(image: Array, factor: float = 0.85) -> Array:
    """scikit-image's total variation denoising (Chambolle, 2004) at ``factor`` times the estimated noise level."""
    sigma = noise_sigma(image)
    if sigma < CLEAN:
        return image.copy()
    from skimage.restoration import denoise_tv_chambolle

    clean = denoise_tv_chambolle(image, weight=factor * sigma, channel_axis=-1)
    return np.asarray(clean, np.float32)


def median_switch(image: Array) -> Array:
    """Replace salt and pepper by the median of their sound neighbours; leave every other value alone.

    A value is an impulse when it is black or white and far from the median of its 3 x 3, and the channel has enough of
    them to be noise (switching median, Sun and Neuvo, 1994; growing window, Hwang and Haddad, 1995).
    """
    result = image.copy()
    for channel in range(3):
        bad = _impulses(np.rint(image[..., channel] * 255).astype(np.uint8))
        if bad.mean() > FEW:
            result[..., channel] = _refill(image[..., channel], bad)
    return result


def _impulses(plane: NDArray[np.uint8]) -> NDArray[np.bool_]:
    value = plane.astype(np.int16)
    middle = cv2.medianBlur(plane, 3).reshape(plane.shape).astype(np.int16)
    # JPEG or a resize may have moved an impulse a little off black or white.
    extreme = (value <= 2) | (value >= 253)
    return np.asarray(extreme & (np.abs(value - middle) > 12))


def _refill(plane: Array, bad: NDArray[np.bool_], largest: int = 3) -> Array:
    """Each bad value becomes the median of the good ones in the smallest of three windows that holds three of them."""
    result = plane.copy()
    padded = np.pad(np.where(bad, np.float32(np.nan), plane), largest, mode="symmetric")
    rows, columns = np.nonzero(bad)
    for radius in range(1, largest + 1):
        size = 2 * radius + 1
        view = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
        around = view[rows + largest - radius, columns + largest - radius].reshape(len(rows), size * size)
        enough = np.isfinite(around).sum(1) >= (3 if radius < largest else 1)
        if enough.any():
            result[rows[enough], columns[enough]] = np.nanmedian(around[enough], axis=1)
        rows, columns = rows[~enough], columns[~enough]
    return result
