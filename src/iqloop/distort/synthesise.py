"""Apply the published distortions to a photograph: one, or several in a row; seeded and reproducible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqloop.distort import blur, colour, compression, detail, noise
from iqloop.distort.image import Image
from iqloop.distort.tables import CATEGORIES, PARAMETERS, Category, canonical, parameters, severity_value
from iqloop.errors import UsageError


@dataclass(frozen=True)
class Distortion:
    """One distortion at one severity."""

    name: str
    """A function of `iqloop.distort.tables.PARAMETERS`."""
    severity: float
    """In [1, 5]; whole numbers are the published ones."""


_SEEDED: dict[str, Callable[..., Image]] = {
    "noise_gaussian_RGB": noise.gaussian_rgb,
    "noise_gaussian_YCrCb": noise.gaussian_ycrcb,
    "noise_speckle": noise.speckle,
    "noise_spatially_correlated": noise.spatially_correlated,
    "noise_poisson": noise.poisson,
    "noise_impulse": noise.impulse,
    "blur_motion": blur.motion,
    "blur_glass": blur.glass,
    "blur_jitter": blur.jitter,
}
_PLAIN: dict[str, Callable[..., Image]] = {
    "blur_gaussian": blur.gaussian,
    "blur_lens": blur.lens,
    "blur_zoom": blur.zoom,
    "blur_gaussian_lensmask": blur.gaussian_lensmask,
    "brightness_darken_shfit_HSV": lambda image, shift: colour.shift_value(image, -shift),
    "brightness_darken_shfit_RGB": lambda image, shift: colour.shift_rgb(image, -shift),
    "brightness_darken_gamma_HSV": colour.gamma_value,
    "brightness_darken_gamma_RGB": colour.gamma_rgb,
    "brightness_brighten_shfit_HSV": colour.shift_value,
    "brightness_brighten_shfit_RGB": colour.shift_rgb,
    "brightness_brighten_gamma_HSV": colour.gamma_value,
    "brightness_brighten_gamma_RGB": colour.gamma_rgb,
    "brightness_vignette": colour.vignette,
    "contrast_weaken_scale": colour.contrast_scale,
    "contrast_weaken_stretch": colour.contrast_stretch,
    "contrast_strengthen_scale": colour.contrast_scale,
    "contrast_strengthen_stretch": colour.contrast_stretch,
    "saturate_weaken_HSV": colour.saturate_hsv,
    "saturate_weaken_YCrCb": colour.saturate_ycrcb,
    "saturate_strengthen_HSV": colour.saturate_hsv,
    "saturate_strengthen_YCrCb": colour.saturate_ycrcb,
    "oversharpen": detail.oversharpen,
    "pixelate": detail.pixelate,
    "quantization_otsu": detail.quantise_otsu,
    "quantization_median": detail.quantise_median,
    "quantization_hist": detail.quantise_hist,
}
_CODECS: dict[str, Callable[..., NDArray[np.uint8]]] = {
    "compression_jpeg": compression.jpeg,
    "compression_jpeg_2000": compression.jpeg_2000,
}


def apply(image: NDArray[np.uint8], name: str, severity: float | str, seed: int = 0) -> NDArray[np.uint8]:
    """Distort one photograph.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.
        name: a function of the published table (`iqloop.distort.NAMES`).
        severity: in [1, 5] or a word, slight to catastrophic; 0 gives a copy.
        seed: for the functions that draw; the same seed gives the same image on any machine.

    Returns:
        ``(H, W, 3)`` uint8, RGB, of the same size.

    Raises:
        UsageError: unknown name, severity out of range, or an image of another kind.
    """
    name, severity = canonical(name), severity_value(severity)
    if name not in PARAMETERS:
        raise UsageError(f"unknown distortion {name!r}: expected one of {', '.join(sorted(PARAMETERS))}")
    if severity != 0 and not 1 <= severity <= 5:
        raise UsageError(f"severity must be 0 or in [1, 5], got {severity:g}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"expected an (H, W, 3) uint8 RGB array, got {image.dtype} {image.shape}")
    if severity == 0:
        return image.copy()
    values = parameters(name, severity)
    if name in _CODECS:
        return _CODECS[name](image, *values)
    x: Image = image.astype(np.float32) / 255
    seeded = name in _SEEDED
    x = _SEEDED[name](x, np.random.default_rng(seed), *values) if seeded else _PLAIN[name](x, *values)
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def apply_all(image: NDArray[np.uint8], mixture: Sequence[Distortion], seed: int = 0) -> NDArray[np.uint8]:
    """Distort a photograph several times in the given order; each step draws from its own seed."""
    for step, distortion in enumerate(mixture):
        image = apply(image, distortion.name, distortion.severity, seed=seed + 7919 * step)
    return image


def draw(category: Category | str, rng: np.random.Generator, severity: float | None = None) -> Distortion:
    """A function of ``category``, uniformly, at ``severity`` or at a whole severity from 1 to 5, uniformly."""
    if category not in CATEGORIES:
        raise UsageError(f"unknown category {category!r}: expected one of {', '.join(CATEGORIES)}")
    functions = CATEGORIES[category]
    return Distortion(functions[rng.integers(len(functions))], severity or float(rng.integers(1, 6)))


# In the order in which they arise: the scene's light, the lens, the sensor, the file.
_ORDER = ("darken", "blur", "noise", "compression")


def draw_mixture(categories: Sequence[str], rng: np.random.Generator) -> tuple[Distortion, ...]:
    """One distortion of each category, in the order in which a camera makes them: light, lens, sensor, file."""
    ranked = sorted(categories, key=lambda c: _ORDER.index(c) if c in _ORDER else -1)
    return tuple(draw(category, rng) for category in ranked)
