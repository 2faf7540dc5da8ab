"""Classical tools against darkness. Pure functions on ``(H, W, 3)`` float32 RGB in [0, 1]; any size. None darkens.

How bright the scene was cannot be read off one image: each tool guesses in its own way, and a judge must choose.
"""

from __future__ import annotations

import cv2
import numpy as np

from iqloop.restorers.estimate import luminance
from iqloop.restorers.sliding import Array

TARGET = 0.42
"""Mean luma to aim at: half of the validation photographs are brighter, half darker (0.15 to 0.70)."""
WHITE = 0.98
"""Where the brightest half per cent of the values should be."""


def gamma(image: Array, target: float = TARGET) -> Array:
    """``x ** g`` with the ``g`` in [1/3, 1] that brings the mean luma to ``target``."""
    return np.asarray(image ** np.float32(_exponent(image, target)), np.float32)


def _exponent(image: Array, target: float) -> float:
    sample = image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)]
    low, high = 1 / 3, 1.0
    if float(luminance(sample).mean()) >= target:
        return high
    for _ in range(12):
        middle = (low + high) / 2
        if float(luminance(sample ** np.float32(middle)).mean()) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def shift(image: Array, target: float = TARGET) -> Array:
    """Add what the mean luma lacks of ``target``, as long as the brightest half per cent stays below white."""
    lack = target - float(luminance(image).mean())
    room = 1.0 - _brightest(image)
    return image + np.float32(max(min(lack, room), 0.0))


def stretch(image: Array) -> Array:
    """One gain, 1 to 4, that brings the brightest half per cent of the values to white."""
    return image * np.float32(np.clip(WHITE / max(_brightest(image), 0.05), 1.0, 4.0))


def clahe(image: Array, limit: float = 2.0) -> Array:
    """OpenCV's contrast-limited adaptive histogram equalisation (Zuiderveld, 1994) of HSV's V; hue is kept.

    A pixel that equalisation would darken stays as it is.
    """
    value = image.max(axis=2)
    levels = np.rint(value * 255).astype(np.uint8)
    equalised = cv2.createCLAHE(limit, (4, 4)).apply(levels).astype(np.float32).reshape(value.shape) / 255
    gain = np.maximum(equalised, value) / np.maximum(value, 1 / 255)
    return np.asarray(image * gain[..., None], np.float32)


def _brightest(image: Array) -> float:
    return float(np.quantile(image.max(axis=2), 0.995))
