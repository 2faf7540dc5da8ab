"""The distortion synthesiser: DQ-495K's published distortions, seeded, at any severity.

>>> import numpy as np
>>> from iqloop import distort
>>> clean = np.full((64, 64, 3), 128, np.uint8)
>>> distort.apply(clean, "noise_gaussian_RGB", "moderate", seed=1).shape
(64, 64, 3)
"""

from iqloop.distort.resample import down_up, downsample, resize, short_side
from iqloop.distort.synthesise import Distortion, apply, apply_all, draw, draw_mixture
from iqloop.distort.tables import CATEGORIES, PARAMETERS, SEVERITY_WORDS, Category, parameters

NAMES: tuple[str, ...] = tuple(PARAMETERS)
"""Every function of the table."""

__all__ = [
    "CATEGORIES",
    "NAMES",
    "PARAMETERS",
    "SEVERITY_WORDS",
    "Category",
    "Distortion",
    "apply",
    "apply_all",
    "down_up",
    "downsample",
    "draw",
    "draw_mixture",
    "parameters",
    "resize",
    "short_side",
]
