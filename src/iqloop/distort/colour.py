"""Light, contrast and saturation on float RGB images ``(H, W, 3)`` in [0, 1]; the caller clips."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from iqloop.distort.image import Image


def to_ycrcb(image: Image) -> Image:
    """RGB to YCrCb, chroma centred on 0.5."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb), dtype=np.float32)


def from_ycrcb(image: Image) -> Image:
    """YCrCb to RGB."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32), cv2.COLOR_YCrCb2RGB), dtype=np.float32)


def shift_value(image: Image, shift: float) -> Image:
    """Add ``shift`` to V of HSV."""
    return _on_hsv(image, 2, lambda v: np.clip(v + np.float32(shift), 0, 1))


def shift_rgb(image: Image, shift: float) -> Image:
    """Add ``shift`` to R, G and B."""
    return image + np.float32(shift)


def gamma_value(image: Image, gamma: float) -> Image:
    """V of HSV to the power ``gamma``."""
    return _on_hsv(image, 2, lambda v: v ** np.float32(gamma))


def gamma_rgb(image: Image, gamma: float) -> Image:
    """R, G and B to the power ``gamma``."""
    return np.asarray(image ** np.float32(gamma), dtype=np.float32)


def contrast_scale(image: Image, factor: float) -> Image:
    """Scale about the mean of each channel."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray(mean + np.float32(factor) * (image - mean), dtype=np.float32)


def contrast_stretch(image: Image, steepness: float) -> Image:
    """``1 / (1 + (mean / x) ** steepness)``: an S-curve through the mean; up to 1 it flattens."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray(1 / (1 + (mean / (image + 1e-4)) ** np.float32(steepness)), dtype=np.float32)


def saturate_hsv(image: Image, factor: float) -> Image:
    """Scale S of HSV."""
    return _on_hsv(image, 1, lambda s: np.clip(s * np.float32(factor), 0, 1))


def saturate_ycrcb(image: Image, factor: float) -> Image:
    """Scale Cr and Cb about their centre."""
    ycrcb = to_ycrcb(image)
    ycrcb[..., 1:] = 0.5 + (ycrcb[..., 1:] - 0.5) * np.float32(factor)
    return from_ycrcb(ycrcb)


def vignette(image: Image, gamma: float) -> Image:
    """Darken towards the corners: V of HSV times `lens_mask`."""
    mask = lens_mask(image.shape[0], image.shape[1], gamma)
    return _on_hsv(image, 2, lambda v: v * mask)


def lens_mask(height: int, width: int, gamma: float) -> Image:
    """``(1 - r) ** gamma`` with r the distance from the centre over half the diagonal; ``(H, W)``."""
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
    x = np.arange(width, dtype=np.float32)[None] - (width - 1) / 2
    r = np.sqrt(x * x + y * y) / max(np.hypot(height, width) / 2, 1e-6)
    return np.asarray(np.clip(1 - r, 0, 1) ** gamma, dtype=np.float32)


def _on_hsv(image: Image, channel: int, change: Callable[[Image], Image]) -> Image:
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), dtype=np.float32)
    hsv[..., channel] = change(hsv[..., channel])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.float32)
