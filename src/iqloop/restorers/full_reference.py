"""How near an image is to what it should be: PSNR, SSIM and GMSD of two 8-bit images of one size.

SSIM: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004; scikit-image's.
GMSD: Xue et al., "Gradient Magnitude Similarity Deviation: A Highly Efficient Perceptual Image Quality Index", 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iqloop.distort.image import Bytes
from iqloop.errors import UsageError

PERFECT = 60.0
"""PSNR in dB that an equal image counts as, and that none exceeds."""
WINDOW = 11
"""Side of SSIM's window in pixels; smaller images have no SSIM."""
STABLE = 170.0
"""The constant of GMSD, for grey levels in [0, 255]."""
LUMA = (0.2989, 0.5870, 0.1140)
"""Weights of R, G and B in GMSD's grey image."""


@dataclass(frozen=True)
class Nearness:
    """The three figures of one image."""

    psnr: float
    """dB, at most `PERFECT`; higher is nearer."""
    ssim: float
    """At most 1, which is equal; mean over channels; NaN below `WINDOW` pixels."""
    gmsd: float
    """From 0, which is equal; lower is nearer."""


def nearness(image: Bytes, truth: Bytes) -> Nearness:
    """All three, of ``(H, W, 3)`` uint8 RGB images; raises `UsageError` for two sizes."""
    if image.shape != truth.shape:
        raise UsageError(f"expected two images of one size, got {image.shape} and {truth.shape}")
    return Nearness(min(psnr(image, truth), PERFECT), ssim(image, truth), gmsd(image, truth))


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images over all values; inf when they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def tensor_psnr(image: Tensor, truth: Tensor) -> float:
    """The same of two float tensors of one shape in [0, 1], not rounded to 8 bits; at most 100."""
    return -10 * math.log10(max(1e-10, float((image - truth).square().mean())))


def ssim(image: Bytes, truth: Bytes) -> float:
    """Structural similarity with the paper's Gaussian window of deviation 1.5."""
    from skimage.metrics import structural_similarity

    if min(image.shape[:2]) < WINDOW:
        return math.nan
    value = structural_similarity(
        image, truth, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(value)


def gmsd(image: Bytes, truth: Bytes) -> float:
    """Deviation of the similarity of gradient magnitudes, on grey images of half the size."""
    first, second = _gradients(image), _gradients(truth)
    similarity = (2 * first * second + STABLE) / (first**2 + second**2 + STABLE)
    return float(similarity.std())


def _gradients(image: Bytes) -> NDArray[np.float64]:
    """Magnitudes by Prewitt's operator, ``(H / 2, W / 2)``; outside of the image there is black, as in the paper."""
    grey = image.astype(np.float64) @ np.array(LUMA)
    mean = np.full((2, 2), 0.25)
    small = cv2.filter2D(grey, -1, mean, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)[::2, ::2]
    across = np.tile([1 / 3, 0, -1 / 3], (3, 1))
    horizontal, vertical = (
        cv2.filter2D(small, -1, kernel, borderType=cv2.BORDER_CONSTANT) for kernel in (across, across.T)
    )
    return np.asarray(np.hypot(horizontal, vertical), dtype=np.float64)
