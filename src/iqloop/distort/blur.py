"""Blur on float RGB images ``(H, W, 3)`` in [0, 1]. Lengths are in pixels; borders are reflected."""

from __future__ import annotations

import cv2
import numpy as np

from iqloop.distort.colour import lens_mask
from iqloop.distort.image import Image, as_image


def gaussian(image: Image, sigma: float) -> Image:
    """Gaussian blur."""
    return as_image(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), image)


def motion(image: Image, rng: np.random.Generator, radius: float, sigma: float) -> Image:
    """One-sided Gaussian trail of ``2 radius + 1`` samples in a direction drawn from (-90, 90) degrees."""
    return _filter(image, motion_kernel(round(radius), sigma, np.deg2rad(rng.uniform(-90, 90))))


def motion_kernel(radius: int, sigma: float, angle: float) -> Image:
    """The trail as a square kernel of odd side ``4 radius + 1``, bilinearly rasterised, summing to 1."""
    steps = np.arange(2 * radius + 1, dtype=np.float32)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    centre = 2 * radius
    kernel = np.zeros((2 * centre + 1, 2 * centre + 1), dtype=np.float32)
    for step, weight in zip(steps, weights, strict=True):
        x, y = centre + step * np.cos(angle), centre + step * np.sin(angle)
        x0, y0 = int(np.floor(x)), int(np.floor(y))
        for dy, wy in ((0, 1 - (y - y0)), (1, y - y0)):
            for dx, wx in ((0, 1 - (x - x0)), (1, x - x0)):
                if y0 + dy < kernel.shape[0] and x0 + dx < kernel.shape[1]:
                    kernel[y0 + dy, x0 + dx] += weight * wy * wx
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def glass(image: Image, rng: np.random.Generator, sigma: float, shift: float, iterations: float) -> Image:
    """Gaussian blur, pixels displaced by up to ``shift`` a few times, Gaussian blur again.

    The original swaps neighbours in raster order; drawing every displacement at once has the same reach and is fast.
    """
    image = gaussian(image, sigma)
    for _ in range(max(1, round(iterations))):
        image = jitter(image, rng, shift)
    return gaussian(image, sigma)


def lens(image: Image, radius: float) -> Image:
    """Defocus: a disk, its rim anti-aliased so that radii between the published ones differ."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    disk = np.clip(radius + 0.5 - np.sqrt(x * x + y * y), 0, 1).astype(np.float32)
    return _filter(image, disk / disk.sum())


def zoom(image: Image, largest: float) -> Image:
    """Mean of the image and of its magnifications 1, 1.02, ... below ``largest``."""
    height, width = image.shape[:2]
    total = image.copy()
    zooms = np.arange(1.0, largest, 0.02)
    for factor in zooms:
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, float(factor))
        total += as_image(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), image)
    return total / np.float32(len(zooms) + 1)


def jitter(image: Image, rng: np.random.Generator, shift: float) -> Image:
    """Each pixel taken from a random place up to ``shift`` away in each direction."""
    height, width = image.shape[:2]
    reach = max(1, round(shift))
    y, x = np.mgrid[0:height, 0:width]
    y = np.clip(y + rng.integers(-reach, reach + 1, (height, width)), 0, height - 1)
    x = np.clip(x + rng.integers(-reach, reach + 1, (height, width)), 0, width - 1)
    return np.asarray(image[y, x])


def gaussian_lensmask(image: Image, gamma: float, sigma: float) -> Image:
    """Sharp in the centre, Gaussian blur towards the corners."""
    mask = lens_mask(image.shape[0], image.shape[1], gamma)[..., None]
    return mask * image + (1 - mask) * gaussian(image, sigma)


def _filter(image: Image, kernel: Image) -> Image:
    return as_image(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT), image)
