"""What people would say of a synthetic distortion: a mean opinion score in [1, 5] per function and severity.

Source: KADID-10k's mean human score per distortion type and level (Lin et al., QoMEX 2019), read off at the parameter
of DQ-495K's function. KADID has Gaussian, lens and motion blur, JPEG and JPEG 2000, white, impulse and multiplicative
noise, jitter and darkening, with parameters that partly end before DQ-495K's: beyond them the curve is continued by
hand, falling and above 1. Functions that KADID lacks (YCrCb, correlated and Poisson noise, glass and zoom blur) are set
by hand between their relatives. So the scale is people's, the interpolation ours; no image of KADID was used.
"""

from __future__ import annotations

from iqloop.distort.tables import canonical

CLEAN = 4.6
"""KADID's mean for its mildest levels, which people cannot see."""

_MEANS: dict[str, tuple[float, float, float, float, float]] = {
    "noise_gaussian_RGB": (3.25, 2.30, 1.85, 1.55, 1.35),
    "noise_gaussian_YCrCb": (2.60, 2.20, 1.90, 1.65, 1.45),
    "noise_speckle": (2.65, 2.20, 1.90, 1.65, 1.50),
    "noise_spatially_correlated": (3.00, 2.50, 2.10, 1.80, 1.60),
    "noise_poisson": (2.70, 2.50, 2.25, 1.90, 1.60),
    "noise_impulse": (2.61, 2.13, 1.85, 1.65, 1.45),
    "compression_jpeg": (3.90, 3.40, 2.70, 2.10, 1.55),
    "compression_jpeg_2000": (3.40, 3.00, 2.50, 2.10, 1.70),
    "blur_gaussian": (2.91, 1.87, 1.60, 1.42, 1.30),
    "blur_motion": (2.90, 2.20, 1.80, 1.60, 1.40),
    "blur_glass": (3.00, 2.40, 1.90, 1.60, 1.40),
    "blur_lens": (2.65, 2.15, 1.76, 1.44, 1.30),
    "blur_zoom": (3.00, 2.30, 1.90, 1.60, 1.40),
    "blur_jitter": (2.40, 1.90, 1.60, 1.40, 1.25),
    "brightness_darken_shfit_HSV": (4.30, 3.90, 3.50, 3.10, 2.70),
    "brightness_darken_shfit_RGB": (4.20, 3.90, 3.60, 3.20, 2.80),
    "brightness_darken_gamma_HSV": (4.20, 3.90, 3.60, 3.20, 2.70),
    "brightness_darken_gamma_RGB": (4.20, 3.90, 3.60, 3.20, 2.80),
}

FUNCTIONS: tuple[str, ...] = tuple(_MEANS)
"""The functions of the four perceived classes, in a fixed order."""


def mean_opinion(name: str, severity: float) -> float:
    """Mean opinion score in [1, 5] of a function at a severity in [0, 5]; 0 is the clean image."""
    row = (CLEAN, *_MEANS[canonical(name)])
    lower = min(int(severity), 4)
    t = severity - lower
    return (1 - t) * row[lower] + t * row[lower + 1]
