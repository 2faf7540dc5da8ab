"""The published numbers: which distortions exist, in which category, and their parameter at each severity.

DQ-495K's synthesiser (You et al., "Descriptive Image Quality Assessment in the Wild", 2024; the data behind
Q-Insight's degradation task): 12 categories, each with one or more functions, severity 1 to 5. Images are scaled to
[0, 1] unless a row says otherwise. The words are those of Q-Insight's prompt, mildest first; the published code pairs
them with the numbers nowhere, so their order is the pairing.

``shfit`` is the original spelling; `canonical` accepts ``shift`` too.
"""

from __future__ import annotations

from typing import Literal

Category = Literal[
    "noise",
    "compression",
    "blur",
    "darken",
    "brighten",
    "contrast-weaken",
    "contrast-strengthen",
    "saturate-weaken",
    "saturate-strengthen",
    "oversharpen",
    "pixelate",
    "quantization",
]

SEVERITY_WORDS: tuple[str, ...] = ("slight", "moderate", "obvious", "serious", "catastrophic")
"""Severity 1, 2, 3, 4, 5."""

Row = tuple[float, float, float, float, float]

PARAMETERS: dict[str, tuple[Row, ...]] = {
    # noise: standard deviations; YCrCb has sigma of Y and the factor for Cr and Cb
    "noise_gaussian_RGB": ((0.05, 0.10, 0.15, 0.20, 0.25),),
    "noise_gaussian_YCrCb": ((0.05, 0.06, 0.07, 0.08, 0.09), (1, 1.45, 1.9, 2.35, 2.8)),
    "noise_speckle": ((0.14, 0.21, 0.28, 0.35, 0.42),),
    "noise_spatially_correlated": ((0.08, 0.11, 0.14, 0.18, 0.22),),
    "noise_poisson": ((80, 60, 40, 25, 15),),  # photons at white
    "noise_impulse": ((0.01, 0.03, 0.05, 0.07, 0.10),),  # fraction of values
    # compression: Pillow's JPEG quality; JPEG 2000 target in dB
    "compression_jpeg": ((25, 18, 12, 8, 5),),
    "compression_jpeg_2000": ((29, 27.5, 26, 24.5, 23),),
    # blur, in pixels: sigma | radius, sigma | sigma, shift, iterations | radius | largest zoom | shift
    "blur_gaussian": ((1, 2, 3, 4, 5),),
    "blur_motion": ((5, 10, 15, 15, 20), (3, 5, 7, 9, 12)),
    "blur_glass": ((0.7, 0.9, 1.2, 1.4, 1.6), (1, 2, 2, 3, 4), (1, 1, 2, 2, 2)),
    "blur_lens": ((2, 3, 4, 6, 8),),
    "blur_zoom": ((1.03, 1.06, 1.10, 1.15, 1.21),),
    "blur_jitter": ((1, 2, 3, 4, 5),),
    # light: shift | exponent
    "brightness_darken_shfit_HSV": ((0.1, 0.2, 0.3, 0.4, 0.5),),
    "brightness_darken_shfit_RGB": ((0.1, 0.15, 0.2, 0.27, 0.35),),
    "brightness_darken_gamma_HSV": ((1.5, 1.8, 2.2, 2.7, 3.5),),
    "brightness_darken_gamma_RGB": ((1.4, 1.7, 2.1, 2.6, 3.2),),
    "brightness_brighten_shfit_HSV": ((0.1, 0.2, 0.3, 0.4, 0.5),),
    "brightness_brighten_shfit_RGB": ((0.1, 0.15, 0.2, 0.27, 0.35),),
    "brightness_brighten_gamma_HSV": ((0.7, 0.58, 0.47, 0.36, 0.25),),
    "brightness_brighten_gamma_RGB": ((0.8, 0.7, 0.6, 0.45, 0.3),),
    # contrast: factor about the mean | steepness of the stretch
    "contrast_weaken_scale": ((0.75, 0.6, 0.45, 0.3, 0.2),),
    "contrast_weaken_stretch": ((1.0, 0.9, 0.8, 0.6, 0.4),),
    "contrast_strengthen_scale": ((1.4, 1.7, 2.1, 2.6, 4.0),),
    "contrast_strengthen_stretch": ((2, 4, 6, 8, 10),),
    # saturation: factor
    "saturate_weaken_HSV": ((0.7, 0.55, 0.4, 0.2, 0.0),),
    "saturate_weaken_YCrCb": ((0.6, 0.4, 0.2, 0.1, 0.0),),
    "saturate_strengthen_HSV": ((3, 6, 12, 20, 64),),
    "saturate_strengthen_YCrCb": ((2, 3, 5, 8, 16),),
    # detail: amount of the unsharp mask | size factor | number of levels
    "oversharpen": ((2, 2.8, 4, 6, 8),),
    "pixelate": ((0.5, 0.4, 0.3, 0.25, 0.2),),
    "quantization_otsu": ((15, 11, 8, 5, 3),),
    "quantization_median": ((20, 15, 10, 6, 3),),
    "quantization_hist": ((24, 16, 8, 6, 4),),
    # in no category of DQ-495K, used alone
    "blur_gaussian_lensmask": ((2, 2.4, 3, 3.8, 5), (2, 4, 6, 8, 10)),  # exponent of the mask, sigma
    "brightness_vignette": ((0.5, 0.875, 1.25, 1.625, 2.0),),
}

CATEGORIES: dict[Category, tuple[str, ...]] = {
    "noise": (
        "noise_gaussian_RGB",
        "noise_gaussian_YCrCb",
        "noise_speckle",
        "noise_spatially_correlated",
        "noise_poisson",
        "noise_impulse",
    ),
    "compression": ("compression_jpeg", "compression_jpeg_2000"),
    "blur": ("blur_gaussian", "blur_motion", "blur_glass", "blur_lens", "blur_zoom", "blur_jitter"),
    "darken": (
        "brightness_darken_shfit_HSV",
        "brightness_darken_shfit_RGB",
        "brightness_darken_gamma_HSV",
        "brightness_darken_gamma_RGB",
    ),
    "brighten": (
        "brightness_brighten_shfit_HSV",
        "brightness_brighten_shfit_RGB",
        "brightness_brighten_gamma_HSV",
        "brightness_brighten_gamma_RGB",
    ),
    "contrast-weaken": ("contrast_weaken_scale", "contrast_weaken_stretch"),
    "contrast-strengthen": ("contrast_strengthen_scale", "contrast_strengthen_stretch"),
    "saturate-weaken": ("saturate_weaken_HSV", "saturate_weaken_YCrCb"),
    "saturate-strengthen": ("saturate_strengthen_HSV", "saturate_strengthen_YCrCb"),
    "oversharpen": ("oversharpen",),
    "pixelate": ("pixelate",),
    "quantization": ("quantization_otsu", "quantization_median", "quantization_hist"),
}
"""DQ-495K draws the category first, uniformly, then a function of it, uniformly."""


def canonical(name: str) -> str:
    """The table's spelling of a function's name."""
    return name.replace("_shift_", "_shfit_")


def parameters(name: str, severity: float) -> tuple[float, ...]:
    """The function's parameters at a severity in [1, 5], linear between the published columns."""
    lower = min(int(severity), 4)
    t = severity - lower
    return tuple((1 - t) * row[lower - 1] + t * row[lower] for row in PARAMETERS[canonical(name)])


def severity_value(severity: float | str) -> float:
    """A severity as a number: words map to 1 to 5, numbers pass."""
    if isinstance(severity, str):
        if severity in SEVERITY_WORDS:
            return float(SEVERITY_WORDS.index(severity) + 1)
        return float(severity)
    return float(severity)
