"""Classical tools against blur. Pure functions on ``(H, W, 3)`` float32 RGB in [0, 1]; any size.

The width of the blur is estimated from the edges (`iqloop.restorers.estimate.blur_sigma`); an image as sharp as a
photograph should be is returned as it came. Blur and gradient are diagonal in the DCT of an image that is mirrored at
its borders: a deconvolution is two transforms, without wrap-around and without ringing from the frame.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.fft import dctn, idctn
from scipy.special import j1

from iqloop.restorers.estimate import blur_sigma, noise_sigma
from iqloop.restorers.sliding import Array

SHARP = 0.85
"""Edges no wider than this, in pixels, are those of a sharp photograph (95 % of the validation set)."""
NATURAL = 0.5
"""The width in pixels, of those found, that the photograph had before it was blurred."""
LARGEST = 6.0
"""Widest blur that is undone, in pixels."""
QUANTISED = 0.29 / 255
"""Standard deviation of rounding to 8 bits: no image is taken for cleaner than this."""
DISK = 1.7
"""Radius of a lens's disk over the width that its edges seem to have; 2 for the second moments, less as measured."""


def unsharp(image: Array, amount: float = 0.8) -> Array:
    """Unsharp mask at the estimated width of the blur; less of it the noisier the image is."""
    sigma = added_blur(image)
    if sigma == 0:
        return image.copy()
    smooth = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(image.shape)
    calm = 1 / (1 + (noise_sigma(image) / 0.02) ** 2)
    return image + np.float32(amount * calm) * (image - smooth)


def richardson_lucy(image: Array, rounds: int = 15) -> Array:
    """scikit-image's Richardson-Lucy deconvolution (1972, 1974) of the estimated Gaussian, stopped early.

    The few rounds are the regularisation, and forgive a blur that is no Gaussian.
    """
    sigma = added_blur(image)
    if sigma == 0:
        return image.copy()
    from skimage.restoration import richardson_lucy as deconvolve

    line = cv2.getGaussianKernel(2 * int(3 * sigma + 1) + 1, sigma)
    # scikit-image takes black beyond the frame: its error creeps inwards with every round.
    margin = len(line)
    kernel = (line @ line.T).astype(np.float32)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    planes = [deconvolve(padded[..., channel], kernel, num_iter=rounds) for channel in range(3)]
    return np.asarray(np.stack(planes, axis=-1)[margin:-margin, margin:-margin], np.float32)


def wiener(image: Array, caution: float = 8.0) -> Array:
    """Wiener deconvolution (Wiener, 1949) of the estimated Gaussian, the signal's spectrum falling as ``1 / f^2``.

    The noise allowed for is ``caution`` times the measured one: room for an error in the width of the blur.
    """
    sigma = added_blur(image)
    if sigma == 0:
        return image.copy()
    power, _ = _frequencies(image.shape[:2])
    transfer = _gaussian(power, sigma)
    noise = caution * max(noise_sigma(image), QUANTISED)
    result = np.empty_like(image)
    for channel in range(3):
        plane = image[..., channel]
        # E|X|^2 = c / f^2, c from the contrast of the image itself; 0.6 as measured.
        ratio = np.float32(noise**2 / (0.6 * max(float(plane.var()), 1e-6))) * power
        gain = transfer / (transfer**2 + ratio + np.float32(1e-9))
        gain[0, 0] = 1
        result[..., channel] = idctn(dctn(plane, norm="ortho") * gain, norm="ortho")
    return result


def sparse_gaussian(image: Array) -> Array:
    """Deconvolution of the estimated Gaussian with total variation as the prior (`_half_quadratic`)."""
    sigma = added_blur(image)
    if sigma == 0:
        return image.copy()
    power, laplacian = _frequencies(image.shape[:2])
    return _sparse(image, _gaussian(power, sigma), laplacian, 4.0)


def sparse_lens(image: Array) -> Array:
    """Deconvolution of a lens's disk (defocus) with total variation as the prior (`_half_quadratic`)."""
    width = blur_sigma(image)
    if width <= SHARP:
        return image.copy()
    power, laplacian = _frequencies(image.shape[:2])
    argument = np.maximum(np.sqrt(power) * DISK * min(width, LARGEST), 1e-6)
    # The Fourier transform of a disk: Airy's 2 J1(x) / x.
    return _sparse(image, (2 * j1(argument) / argument).astype(np.float32), laplacian, 12.0)


def added_blur(image: Array) -> float:
    """Width in pixels of the Gaussian to undo; 0 for a photograph that is sharp."""
    found = blur_sigma(image)
    return float(min(np.sqrt(found**2 - NATURAL**2), LARGEST)) if found > SHARP else 0.0


def _sparse(image: Array, transfer: Array, laplacian: Array, caution: float) -> Array:
    noise = max(noise_sigma(image), QUANTISED)
    # Noise variance over the mean gradient of a photograph (0.03), as the maximum a posteriori has it.
    weight = caution * noise**2 / 0.03
    planes = [_half_quadratic(image[..., channel], transfer, laplacian, weight) for channel in range(3)]
    return np.stack(planes, axis=-1)


def _half_quadratic(plane: Array, transfer: Array, laplacian: Array, weight: float, rounds: int = 10) -> Array:
    """Minimise ``|h * x - y|^2 / 2 + weight * TV(x)`` by half-quadratic splitting (Wang et al., FTVd, 2008)."""
    seen = transfer * dctn(plane, norm="ortho")
    x = plane
    beta = 10 * weight
    for _ in range(rounds):
        across = np.diff(x, axis=1, append=x[:, -1:])
        down = np.diff(x, axis=0, append=x[-1:])
        length = np.sqrt(across**2 + down**2) + np.float32(1e-9)
        kept = np.maximum(1 - np.float32(weight / beta) / length, 0)
        adjoint = -np.diff(across * kept, axis=1, prepend=0) - np.diff(down * kept, axis=0, prepend=0)
        bottom = transfer**2 + np.float32(beta) * laplacian + np.float32(1e-9)
        x = idctn((seen + np.float32(beta) * dctn(adjoint, norm="ortho")) / bottom, norm="ortho")
        beta *= 2
    return np.asarray(x, np.float32)


def _gaussian(power: Array, sigma: float) -> Array:
    return np.asarray(np.exp(-0.5 * np.float32(sigma) ** 2 * power), np.float32)


def _frequencies(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """For each coefficient of the DCT-II: squared angular frequency, and eigenvalue of the negative Laplacian."""
    rows = (np.pi * np.arange(shape[0]) / shape[0])[:, None]
    columns = (np.pi * np.arange(shape[1]) / shape[1])[None]
    return (rows**2 + columns**2).astype(np.float32), (4 - 2 * np.cos(rows) - 2 * np.cos(columns)).astype(np.float32)
