"""Classical treatments that were measured and not taken, kept so that the table in docs can be made again.

Pure functions on ``(H, W, 3)`` float32 RGB in [0, 1]; any size is not promised.
"""

from __future__ import annotations

import cv2
import numpy as np

from iqloop.restorers.classical import ClassicalTool
from iqloop.restorers.estimate import noise_sigma
from iqloop.restorers.sliding import Array
from iqloop.restorers.tool import Tool, ToolInfo, Treatment


def nlm(image: Array, level: float, colour: float) -> Array:
    """OpenCV's non-local means (Buades, Coll and Morel, 2005); levels out of 255."""
    coded = np.rint(image * 255).astype(np.uint8)
    cleaned = cv2.fastNlMeansDenoisingColored(coded, None, level, colour, 5, 15)
    return image + (cleaned.astype(np.float32) - coded) / np.float32(255)


def nlm_blind(image: Array) -> Array:
    """`nlm` at 0.65 times the estimated noise level."""
    level = 0.65 * 255 * noise_sigma(image)
    return nlm(image, level, level) if level > 0.3 else image


def bilateral_blind(image: Array) -> Array:
    """OpenCV's bilateral filter at 2.5 times the estimated noise level."""
    return np.asarray(cv2.bilateralFilter(image, 7, 2.5 * noise_sigma(image) + 1e-4, 2.0), np.float32)


def _candidate(name: str, treats: Treatment, function: object, summary: str) -> Tool:
    return ClassicalTool(ToolInfo(name, (treats,), summary), function)  # type: ignore[arg-type]


def rejected() -> list[Tool]:
    """The tools that lost, ready for `iqloop.restorers.measure.measure`."""
    from iqloop.restorers import light

    return [
        _candidate("nlm", "noise", nlm_blind, "OpenCV fastNlMeansDenoisingColored"),
        _candidate("bilateral", "noise", bilateral_blind, "OpenCV bilateralFilter"),
        _candidate("median-3", "noise", lambda x: cv2.medianBlur(x, 3), "OpenCV medianBlur"),
        _candidate("nlm-4", "compression", lambda x: nlm(x, 4, 6), "OpenCV fastNlMeansDenoisingColored, h = 4"),
        _candidate("bilateral-weak", "compression", lambda x: cv2.bilateralFilter(x, 7, 0.05, 2.0), "OpenCV"),
        _candidate("tv-weak", "compression", _tv_weak, "scikit-image denoise_tv_chambolle, weight 0.02"),
        _candidate("stretch-gamma", "darken", lambda x: light.gamma(light.stretch(x).clip(0, 1), 0.34), "both in turn"),
    ]


def _tv_weak(image: Array) -> Array:
    from skimage.restoration import denoise_tv_chambolle

    clean = denoise_tv_chambolle(image, 0.02, channel_axis=-1)
    return np.asarray(clean, np.float32)
