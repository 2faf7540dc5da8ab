"""How noisy and how blurred an image is, from the image alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from iqloop.restorers.sliding import BLOCK, ORDER, TRANSFORM, Array, windows

FLATTEST = 0.2
"""Share of the windows, those with the least structure, in which all that moves is taken for noise."""
_BINS = 12
_MAD = 0.6745


def luminance(image: Array) -> Array:
    """``(H, W)`` BT.601 luma of ``(H, W, 3)`` RGB."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _sound_windows(plane: Array) -> tuple[Array, Array]:
    """Means ``(n,)`` and DCT coefficients ``(n, 64)`` of windows spread over the plane.

    Windows that touch black or white are left out, as long as others remain: there the noise is clipped.
    """
    if min(plane.shape) < BLOCK:
        return np.zeros(0, np.float32), np.zeros((0, 64), np.float32)
    stride = max(3, int(np.sqrt(plane.size / 60000)))
    pixels = windows(plane, stride).reshape(-1, 64)
    inside = (pixels.min(1) > 1 / 255) & (pixels.max(1) < 254 / 255)
    if inside.sum() >= 16:
        pixels = pixels[inside]
    found = np.asarray(pixels @ TRANSFORM.T, np.float32)
    return found[:, 0] / np.float32(BLOCK), found


def _structure(found: Array) -> Array:
    """Energy of the lowest frequencies: windows are chosen by it, so that choosing does not bias the higher ones."""
    return np.asarray((found[:, (ORDER > 0) & (ORDER <= 2)] ** 2).sum(1), np.float32)


def noise_sigma(image: Array) -> float:
    """Standard deviation of the noise in ``(H, W, 3)`` in [0, 1], over all values; 0 if smaller than 8 x 8."""
    a, b, c = noise_level_function(image)
    return float(np.sqrt(np.mean(a + b * image + c * image**2)))


def noise_spectrum(plane: Array, share: float = FLATTEST) -> Array:
    """Noise in each of the 64 DCT coefficients of ``(H, W)``: standard deviations ``(64,)``.

    Noise that a camera or a codec has smoothed is weaker in the high frequencies. The lowest ones chose the windows,
    so they are set to the largest value among their neighbours.
    """
    _, found = _sound_windows(plane)
    if not len(found):
        return np.zeros(64, np.float32)
    structure = _structure(found)
    found = found[structure <= np.quantile(structure, max(share, min(1.0, 16 / len(structure))))]
    sigma = np.median(np.abs(found), axis=0) / _MAD
    low = ORDER <= 2
    sigma[low] = sigma[(ORDER == 3) | (ORDER == 4)].mean()
    return np.asarray(sigma, np.float32)


def noise_level_function(image: Array) -> tuple[float, float, float]:
    """Variance of the noise as ``a + b * x + c * x**2`` of the value ``x`` in [0, 1]; never negative.

    Read noise, shot noise and speckle in turn (cf. Foi et al., 2008). Each brightness has its own flattest windows;
    in them the high frequencies give the deviation by its median (Donoho and Johnstone, 1994; the choice of windows
    in the manner of Ponomarenko et al., 2007).
    """
    means, variances, weights = [], [], []
    for channel in range(image.shape[2]):
        mean, found = _sound_windows(image[..., channel])
        structure = _structure(found)
        bins = np.minimum((mean * _BINS).astype(int), _BINS - 1)
        for b in np.unique(bins):
            members = np.flatnonzero(bins == b)
            members = members[np.argsort(structure[members], kind="stable")[: max(8, int(len(members) * FLATTEST))]]
            if len(members) < 8:
                continue
            means.append(float(mean[members].mean()))
            variances.append(float((np.median(np.abs(found[members][:, ORDER >= 5])) / _MAD) ** 2))
            weights.append(float(np.sqrt(len(members))))
    if not means:
        return 0.0, 0.0, 0.0
    x, v = np.array(means), np.array(variances)
    # Relative errors: a window of twice the variance has twice the uncertainty.
    scale = np.array(weights) / (v + 1e-6)
    design = np.stack([np.ones_like(x), x, x**2], 1) * scale[:, None]
    a, b, c = nnls(design, v * scale)[0]
    return float(a), float(b), float(c)


def blur_sigma(image: Array) -> float:
    """Standard deviation in pixels of the Gaussian that would blur an ideal edge as the sharpest edges here are.

    An edge of width ``s`` seen through Gaussians of widths ``a < b`` has gradients in the ratio
    ``R = sqrt((s^2 + b^2) / (s^2 + a^2))`` (after Zhuo and Sim, "Defocus map estimation from a single image", 2011).
    Returns 0 when there is no edge to measure.
    """
    plane = luminance(image)
    if min(plane.shape) < 16:
        return 0.0
    return _edge_width(plane, 1.0, 2.0)


def _edge_width(plane: Array, narrow: float, wide: float) -> float:
    fine, coarse = _gradient(plane, narrow), _gradient(plane, wide)
    ridge = fine >= cv2.dilate(fine, np.ones((3, 3), np.uint8)) * 0.999
    strong = fine >= max(float(np.quantile(fine, 0.97)), 1e-4)
    where: NDArray[np.bool_] = ridge & strong
    if where.sum() < 8:
        return 0.0
    ratio = np.maximum(fine[where] / np.maximum(coarse[where], 1e-9), 1.0001) ** 2
    squared = (wide**2 - ratio * narrow**2) / (ratio - 1)
    return float(np.sqrt(max(float(np.median(squared)), 0.0)))


def _gradient(plane: Array, sigma: float) -> Array:
    smooth = cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return np.asarray(cv2.magnitude(across, down), np.float32)
