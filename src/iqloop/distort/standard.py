"""The field's standard damages, one number each: what restorers are measured on, and what papers report.

White noise is Gaussian (sigma 25 and 50 since BM3D, Dabov et al., 2007), JPEG is libjpeg's (quality 10 and 40 since
ARCNN, Dong et al., 2015). Each function takes ``(H, W, 3)`` uint8 RGB and a generator, which only noise draws from, and
gives a new array of the same kind and size: clipped, rounded to 8 bits.
"""

from __future__ import annotations

import cv2
import numpy as np

from iqloop.distort import colour, compression, noise
from iqloop.distort.image import Bytes, to_bytes, to_float


def clean(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Nothing: a copy."""
    return image.copy()


def gaussian_noise(image: Bytes, rng: np.random.Generator, sigma: float) -> Bytes:
    """White noise of ``sigma`` grey levels, clipped and rounded."""
    return to_bytes(noise.gaussian_rgb(to_float(image), rng, sigma / 255))


def gaussian_blur(image: Bytes, rng: np.random.Generator, sigma: float) -> Bytes:
    """``cv2.GaussianBlur(image, (0, 0), sigma)``."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)


def gamma(image: Bytes, rng: np.random.Generator, exponent: float) -> Bytes:
    """R, G and B in [0, 1] to a power."""
    return to_bytes(colour.gamma_rgb(to_float(image), exponent))


def jpeg(image: Bytes, rng: np.random.Generator, quality: float) -> Bytes:
    """JPEG by libjpeg, 4:2:0, on the image's own grid; the quality is rounded."""
    return compression.jpeg(image, quality)
