"""Over-sharpening, pixelation and quantisation of float RGB images ``(H, W, 3)`` in [0, 1]; the caller clips."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from iqloop.distort.image import Image, as_image


def oversharpen(image: Image, amount: float) -> Image:
    """Unsharp mask with a 5 x 5 Gaussian: ``x + amount (x - blurred)``."""
    blurred = as_image(cv2.GaussianBlur(image, (5, 5), 0, borderType=cv2.BORDER_REFLECT), image)
    return image + np.float32(amount) * (image - blurred)


def pixelate(image: Image, scale: float) -> Image:
    """Down by box average, up by nearest neighbour."""
    height, width = image.shape[:2]
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    bytes_ = Pillow.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    coarse = bytes_.resize(small, Pillow.Resampling.BOX).resize((width, height), Pillow.Resampling.NEAREST)
    return np.asarray(coarse, dtype=np.float32) / 255


def quantise_otsu(image: Image, classes: float) -> Image:
    """Each channel to ``classes`` levels with the thresholds of multi-level Otsu, each level its class's mean.

    Otsu's thresholds minimise the variance within the classes; on a histogram of 256 bins the minimum is found
    exactly by dynamic programming, so 15 classes are as possible as 3.
    """
    return _per_channel(image, lambda channel: _otsu_levels(channel, max(2, round(classes))))


def quantise_median(image: Image, classes: float) -> Image:
    """Each channel to ``classes`` levels of equal population, each level its class's median."""

    def levels(channel: NDArray[np.uint8]) -> Image:
        count = max(2, round(classes))
        edges = np.quantile(channel, np.linspace(0, 1, count + 1)[1:-1])
        centres = np.quantile(channel, (np.arange(count) + 0.5) / count)
        return np.asarray(centres[np.searchsorted(edges, np.arange(256), side="left")], dtype=np.float32)

    return _per_channel(image, levels)


def quantise_hist(image: Image, classes: float) -> Image:
    """Each channel to ``classes`` levels of equal width between its smallest and largest value."""

    def levels(channel: NDArray[np.uint8]) -> Image:
        low, high = float(channel.min()), float(channel.max())
        count = max(2, round(classes))
        width = max(high - low, 1.0) / count
        index = np.clip((np.arange(256) - low) // width, 0, count - 1)
        return np.asarray(low + (index + 0.5) * width, dtype=np.float32)

    return _per_channel(image, levels)


def _per_channel(image: Image, levels: Callable[[NDArray[np.uint8]], Image]) -> Image:
    bytes_ = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    planes = [levels(bytes_[..., c])[bytes_[..., c]] for c in range(3)]
    return np.stack(planes, axis=-1).astype(np.float32) / 255


def _otsu_levels(channel: NDArray[np.uint8], classes: int) -> Image:
    """Lookup table (256,) from value to its class's mean."""
    count = np.bincount(channel.ravel(), minlength=256).astype(np.float64)
    value = np.arange(256.0)
    mass, first = np.concatenate([[0], np.cumsum(count)]), np.concatenate([[0], np.cumsum(count * value)])
    # Between-class variance is the sum over classes of (sum of values)^2 / mass: gain[i, j] for the bins i..j-1.
    m, s = mass[None] - mass[:, None], first[None] - first[:, None]
    gain = np.where(m > 0, s * s / np.maximum(m, 1e-12), 0.0)
    gain[np.tril_indices(257)] = -np.inf
    best, cuts = gain[0].copy(), []
    for _ in range(classes - 1):
        total = best[:, None] + gain
        cuts.append(total.argmax(axis=0))
        best = total.max(axis=0)
    edges = [256]
    for cut in reversed(cuts):
        edges.append(int(cut[edges[-1]]))
    edges = sorted({*edges, 0})
    table = np.arange(256.0)
    for low, high in pairwise(edges):
        if mass[high] > mass[low]:
            table[low:high] = (first[high] - first[low]) / (mass[high] - mass[low])
    return table.astype(np.float32)
