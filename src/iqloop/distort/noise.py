"""Noise on float RGB images ``(H, W, 3)`` in [0, 1]; the result may leave the range, the caller clips."""

from __future__ import annotations

import cv2
import numpy as np

from iqloop.distort.colour import from_ycrcb, to_ycrcb
from iqloop.distort.image import Image, as_image


def gaussian_rgb(image: Image, rng: np.random.Generator, sigma: float) -> Image:
    """White noise of standard deviation ``sigma``, independent in R, G and B."""
    return image + _normal(rng, image.shape) * np.float32(sigma)


def gaussian_ycrcb(image: Image, rng: np.random.Generator, sigma_y: float, chroma_factor: float) -> Image:
    """White noise in YCrCb; chroma gets ``sigma_y * chroma_factor``."""
    sigma = np.array([sigma_y, sigma_y * chroma_factor, sigma_y * chroma_factor], dtype=np.float32)
    return from_ycrcb(to_ycrcb(image) + _normal(rng, image.shape) * sigma)


def speckle(image: Image, rng: np.random.Generator, sigma: float) -> Image:
    """Multiplicative noise: ``x + x * n``."""
    return image + image * _normal(rng, image.shape) * np.float32(sigma)


def spatially_correlated(image: Image, rng: np.random.Generator, sigma: float) -> Image:
    """White noise, then a 3 x 3 box over image and noise."""
    return as_image(cv2.blur(gaussian_rgb(image, rng, sigma), (3, 3)), image)


def poisson(image: Image, rng: np.random.Generator, photons: float) -> Image:
    """Shot noise of a sensor that counts ``photons`` at white."""
    return (rng.poisson(image * photons) / photons).astype(np.float32)


def impulse(image: Image, rng: np.random.Generator, amount: float) -> Image:
    """Salt and pepper, half each, on a fraction ``amount`` of all values."""
    u = rng.random(image.shape, dtype=np.float32)
    return np.where(u < amount / 2, np.float32(0), np.where(u > 1 - amount / 2, np.float32(1), image))


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    return rng.standard_normal(shape, dtype=np.float32)
