"""What people would say of faults that DQ-495K's table lacks or begins too coarsely: curves from a strength to [1, 5].

Mean human scores of KADID-10k per type and level (Lin et al., QoMEX 2019), at the parameters that its generator has for
them; straight lines between the levels, and beyond the last one a point by hand. No image of KADID was used.
"""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np

from iqloop.critic.training.opinion import CLEAN

Fault = Literal["noise", "blur", "jpeg", "sharpening", "blocks", "levels", "saturation", "gmsd"]

_CURVES: dict[Fault, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # PSNR in dB of white noise: types 11 and 12
    "noise": (
        (14, 17, 20, 23, 25.2, 27, 30, 33, 36, 40, 46, 60),
        (1.4, 1.8, 2.3, 2.71, 3.05, 3.39, 3.8, 4.05, 4.25, 4.45, 4.57, CLEAN),
    ),
    # deviation in pixels of a Gaussian: type 1
    "blur": ((0.1, 0.5, 1, 2, 5), (CLEAN, 4.38, 2.91, 1.87, 1.3)),
    # quality: type 10 at 43 to 7, and its neighbours in the table of opinions
    "jpeg": ((7, 18, 25, 36, 43, 70, 95), (1.95, 3.4, 3.8, 4.25, 4.34, 4.5, CLEAN)),
    # amount of an unsharp mask: type 24
    "sharpening": ((0, 1, 2, 3, 6, 12), (CLEAN, 3.58, 2.64, 2.14, 1.61, 1.34)),
    # size left over by pixelation: type 21
    "blocks": ((0.29, 0.569, 0.699, 0.784, 0.887, 1), (1.5, 2.79, 2.9, 3.1, 3.89, CLEAN)),
    # levels a channel: type 22
    "levels": ((2, 4, 7, 10, 13, 16, 20, 40), (1.3, 2.1, 2.8, 3.37, 3.69, 3.93, 4.17, CLEAN)),
    # factor of the colour channels: type 8
    "saturation": ((1, 2, 3, 6, 9, 20), (CLEAN, 3.33, 2.65, 1.82, 1.52, 1.3)),
    # GMSD from the clean image, for faults nobody rated: the mean opinion of crops with noise, blur, JPEG or sharpening
    # by their GMSD. The four kinds go together (rank correlation -0.89), so a fifth is taken to go with them.
    "gmsd": (
        (0, 0.01, 0.025, 0.0375, 0.0625, 0.0875, 0.1125, 0.1375, 0.1625, 0.1875, 0.25, 0.35),
        (CLEAN, 4.15, 3.5, 3.1, 2.7, 2.35, 2.1, 1.93, 1.77, 1.63, 1.45, 1.3),
    ),
}


def opinion_of(fault: Fault, strength: float) -> float:
    """Mean opinion score in [1, 5] of a fault of this strength, in the unit of its curve."""
    return float(np.interp(strength, *_CURVES[fault]))


def together(*scores: float) -> float:
    """The score of an image with several faults: each leaves a share of the distance from 1 to a clean image."""
    return 1 + (CLEAN - 1) * prod((score - 1) / (CLEAN - 1) for score in scores)
