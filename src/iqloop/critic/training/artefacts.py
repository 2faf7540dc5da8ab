"""Faults that restorers and generators make, each with the opinion that people would have of it.

The distortions of DQ-495K and KADID are what cameras and files do. A critic that judges restored images must also know
enlarged ones, halos, ringing, checkerboards, invented grain and smears, or it takes some of them for detail. Nobody
rated these: see `iqloop.critic.training.opinion_curves` for where their scores come from. No network made any of them,
so none is preferred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iqloop import distort
from iqloop.critic.training.crops import label_of
from iqloop.critic.training.opinion_curves import opinion_of
from iqloop.distort import colour, compression, detail
from iqloop.distort.image import Bytes, to_bytes, to_float

Floats = NDArray[np.float32]
Likeness = Callable[[Bytes, Bytes], float]
"""GMSD of two images of one size."""
Maker = Callable[[Bytes, np.random.Generator, Likeness], tuple[Bytes, float]]
"""From an image: one with a fault of a random strength, and its score in [1, 5] if the image was clean."""

SCALES = (1.5, 2.0, 2.0, 2.0, 3.0, 4.0)
"""Factors by which images are shrunk and enlarged, to be drawn from."""
SECOND_SHARE, THIRD_SHARE = 0.15, 0.05
"""Fractions of the images with a distortion of DQ-495K that get one, or two, of other classes as well."""


def classic(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Distortions of DQ-495K in the classes noise, blur, compression and darken: one, seldom two or three."""
    count = 1 + int(rng.random() < SECOND_SHARE) + int(rng.random() < THIRD_SHARE)
    classes = [("noise", "blur", "compression", "darken")[i] for i in rng.permutation(4)[:count]]
    mixture = distort.draw_mixture(classes, rng)
    return distort.apply_all(image, mixture, seed=_seed(rng)), label_of(mixture).score


def noisy(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """White noise that is milder than DQ-495K's mildest."""
    deviation = _log_uniform(0.004, 0.06, rng)
    return to_bytes(to_float(image) + deviation * _normal(image.shape, rng)), opinion_of("noise", _decibels(deviation))


def softened(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Gaussian blur that is milder than DQ-495K's mildest."""
    sigma = rng.uniform(0.3, 1.2)
    return to_bytes(_soft(to_float(image), sigma)), opinion_of("blur", sigma)


def coded(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """JPEG that is milder than DQ-495K's mildest."""
    quality = int(rng.integers(25, 96))
    return compression.jpeg(image, quality), opinion_of("jpeg", quality)


def sharpened(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """An unsharp mask, from hardly visible to catastrophic."""
    amount = _log_uniform(0.1, 9, rng)
    return to_bytes(_sharper(to_float(image), amount, rng.uniform(0.8, 1.5))), opinion_of("sharpening", amount)


def pixelated(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Larger pixels."""
    left = rng.uniform(0.25, 0.85)
    return to_bytes(detail.pixelate(to_float(image), left)), opinion_of("blocks", left)


def banded(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Few levels in each channel."""
    levels = int(rng.integers(4, 25))
    return to_bytes(detail.quantise_hist(to_float(image), levels)), opinion_of("levels", levels)


def gaudy(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Too much colour."""
    factor = _log_uniform(1, 12, rng)
    return to_bytes(colour.saturate_ycrcb(to_float(image), factor)), opinion_of("saturation", factor)


def enlarged(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Shrunk, and enlarged by one of four filters."""
    scale = float(rng.choice(SCALES))
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    up = filters[int(rng.integers(4))]
    out = _shrunk_and_back(image, scale, up)
    score = opinion_of("gmsd", likeness(out, image))
    # GMSD looks at images of half the size, on which doubled pixels do not show.
    return out, min(score, opinion_of("blocks", 1 / scale)) if up == Image.Resampling.NEAREST else score


def enlarged_and_sharpened(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Shrunk, enlarged and sharpened: from what helps to halos."""
    soft = to_float(_shrunk_and_back(image, float(rng.choice(SCALES))))
    out = to_bytes(_sharper(soft, _log_uniform(0.3, 6, rng), rng.uniform(0.7, 2)))
    return out, opinion_of("gmsd", likeness(out, image))


def ringing(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """High frequencies cut off at once, which rings; half of the time sharpened."""
    cutoff, reach = rng.uniform(0.3, 0.9), np.arange(-10, 11)
    window = cutoff * np.sinc(cutoff * reach)
    cut = np.asarray(cv2.sepFilter2D(to_float(image), -1, window / window.sum(), window / window.sum()), np.float32)
    out = to_bytes(_sharper(cut, float(rng.choice((0.5, 1.5))), 1) if rng.random() < 0.5 else cut)
    return out, opinion_of("gmsd", likeness(out, image))


def smeared(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Texture wiped off and edges kept, as careless denoising does."""
    if rng.random() < 0.5:
        kept = cv2.bilateralFilter(to_float(image), 7, rng.uniform(0.03, 0.25), rng.uniform(1.5, 4))
        out = to_bytes(np.asarray(kept, np.float32))
    else:
        out = np.asarray(cv2.medianBlur(image, int(rng.choice((3, 5)))), np.uint8)
    return out, opinion_of("gmsd", likeness(out, image))


def checkered(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """A pattern of two or four pixels, everywhere or along edges, as a careless net's upsampling leaves it."""
    half = int(rng.choice((1, 1, 2)))
    rows, columns = (line // half % 2 * 2 - 1 for line in np.mgrid[: image.shape[0], : image.shape[1]])
    pattern = rows * columns if rng.random() < 0.6 else columns * (rows > 0)
    weight = _edges(image, 2) if rng.random() < 0.5 else np.ones(image.shape[:2], np.float32)
    return _added(image, (pattern * weight)[..., None], _log_uniform(0.004, 0.12, rng))


def grained(image: Bytes, rng: np.random.Generator, likeness: Likeness) -> tuple[Bytes, float]:
    """Fine texture that the photograph does not have, mostly where it has some, as a generator invents it."""
    grain = _normal((*image.shape[:2], 3 if rng.random() < 0.3 else 1), rng)
    grain = grain - _soft(grain, rng.uniform(1, 2.5))
    finest = rng.uniform(0, 0.8)
    grain = _soft(grain, finest) if finest > 0.15 else grain
    weight = _edges(image, rng.uniform(1, 4)) if rng.random() < 0.7 else np.ones(image.shape[:2], np.float32)
    return _added(image, grain / grain.std() * weight[..., None], _log_uniform(0.004, 0.12, rng))


COMMON: Mapping[Maker, int] = {
    classic: 9, noisy: 1, softened: 1, coded: 1, sharpened: 3, pixelated: 1, banded: 1, gaudy: 1, enlarged: 2,
    enlarged_and_sharpened: 2, ringing: 1, smeared: 1,
}  # fmt: skip
"""What befalls photographs, and how often."""
ENLARGING: Mapping[Maker, int] = {
    softened: 1, coded: 1, sharpened: 3, enlarged: 4, enlarged_and_sharpened: 4, ringing: 2, smeared: 1,
}  # fmt: skip
"""What befalls those that are enlarged."""
ADDED: Mapping[Maker, int] = {noisy: 2, checkered: 2, grained: 5}
"""What comes on top of something else; the cost multiplies (`iqloop.critic.training.opinion_curves.together`)."""


def _added(image: Bytes, pattern: Floats, amount: float) -> tuple[Bytes, float]:
    """An image with a pattern over it: it costs what white noise of its power does."""
    out = to_bytes(to_float(image) + np.float32(amount) * pattern.astype(np.float32))
    error = float(np.sqrt(np.mean((to_float(out) - to_float(image)) ** 2)))
    return out, opinion_of("noise", _decibels(error))


def _edges(image: Bytes, sigma: float) -> Floats:
    """Where there is detail ``(H, W)``: 1 on average, at most 4."""
    grey = to_float(image).mean(2)
    found = _soft(np.abs(grey - _soft(grey, 1.5)), sigma)
    return np.asarray(np.minimum(found / (found.mean() + np.float32(1e-3)), np.float32(4)), np.float32)


def _shrunk_and_back(image: Bytes, scale: float, up: Image.Resampling = Image.Resampling.BICUBIC) -> Bytes:
    height, width = image.shape[:2]
    size = (max(8, round(width / scale)), max(8, round(height / scale)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), up), dtype=np.uint8)


def _sharper(image: Floats, amount: float, sigma: float) -> Floats:
    return image + np.float32(amount) * (image - _soft(image, sigma))


def _soft(image: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), float(sigma)), np.float32).reshape(image.shape)


def _decibels(deviation: float) -> float:
    return -20 * float(np.log10(max(deviation, 1e-3)))


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    return rng.standard_normal(shape, dtype=np.float32)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
