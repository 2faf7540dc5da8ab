"""What is done to clean photographs so that a net may learn to undo it: one blind family for each task.

A family (`noisy`, `compressed`, `blurred`, `darkened`, `shrunk`) draws kind and strength from its generator and is a
pure function of it. Images are ``(H, W, 3)`` uint8 RGB in and out: what a net will meet was clipped, rounded to 8 bits.
The ranges are wider than the published ones of `iqloop.distort.tables`, from nothing to beyond the worst, and each
family but `shrunk` leaves a share of images clean: a net must do no harm to a photograph that has no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from iqloop import distort
from iqloop.distort import blur, colour, compression, noise
from iqloop.distort.image import Image, as_image

Bytes = NDArray[np.uint8]
Kind = Callable[[Image, np.random.Generator], Image]
"""One kind of damage on float RGB ``(H, W, 3)`` in [0, 1]; the result may leave the range."""

CLEAN_SHARE = 0.06
"""Fraction of images that a family leaves as they are."""
CLEAN_LIGHT_SHARE = 0.2
"""The same for darkness, which looks like a dark scene: only the number of those holds a net back from brightening."""
STRONGEST_NOISE = 55
"""Largest standard deviation of Gaussian noise, in grey levels: that of blind DnCNN (Zhang et al., 2017)."""
MIXED_SHARE = 0.15
"""Fraction of noisy images with two kinds of noise."""
ALIGNED_SHARE = 0.5
"""Fraction of JPEGs whose grid starts at the image's corner, as in a file that was never cropped."""
TWICE_SHARE = 0.2
"""Fraction of JPEGs that are saved again, on another grid and with another quality."""
JPEG_2000_SHARE = 0.15
GRID = 16
"""Pixels between equal places of JPEG's grid when chroma is halved."""


def noisy(image: Bytes, rng: np.random.Generator) -> Bytes:
    """One kind of noise or two, at a random strength."""
    if rng.random() < CLEAN_SHARE:
        return image.copy()
    x = to_float(image)
    for _ in range(2 if rng.random() < MIXED_SHARE else 1):
        # Clipped in between: a sensor that counts photons knows no negative light.
        x = np.clip(_draw(NOISES, rng)(x, rng), 0, 1)
    return to_bytes(x)


def compressed(image: Bytes, rng: np.random.Generator) -> Bytes:
    """JPEG of quality 5 to 95, once or twice, its grid anywhere; or JPEG 2000."""
    if rng.random() < CLEAN_SHARE:
        return image.copy()
    if rng.random() < JPEG_2000_SHARE:
        return compression.jpeg_2000(image, rng.uniform(22, 36))
    result = jpeg(image, rng.uniform(5, 95), *_corner(rng))
    if rng.random() < TWICE_SHARE:
        result = jpeg(result, rng.uniform(20, 95), *_corner(rng))
    return result


def blurred(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Gaussian, lens or motion blur; a little noise on top of a part of them."""
    if rng.random() < CLEAN_SHARE:
        return image.copy()
    x = _draw(BLURS, rng)(to_float(image), rng)
    if rng.random() < 0.3:
        x = noise.gaussian_rgb(x, rng, rng.uniform(0, 5) / 255)
    return to_bytes(x)


def darkened(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Too little light by gamma, by a shift or by both; the noise of a dark place on a part of them."""
    if rng.random() < CLEAN_LIGHT_SHARE:
        return image.copy()
    x = np.clip(_draw(DARKENINGS, rng)(to_float(image), rng), 0, 1)
    if rng.random() < 0.3:
        add = (_gaussian_noise(10), lambda dark, random: noise.poisson(dark, random, _log_uniform(random, 60, 1000)))
        x = add[int(rng.integers(2))](x, rng)
    return to_bytes(x)


def shrunk(image: Bytes, rng: np.random.Generator, scale: int) -> Bytes:
    """Sides divided by ``scale``, mostly by Pillow's bicubic; light blur, noise or JPEG on a part of them."""
    spoiled = rng.random() < 0.25
    if spoiled and rng.random() < 0.5:
        image = to_bytes(blur.gaussian(to_float(image), rng.uniform(0.2, 0.5) * scale))
    kind = rng.random()
    small = distort.downsample(image, scale, "bicubic" if kind < 0.75 else "box" if kind < 0.88 else "bilinear")
    if spoiled and rng.random() < 0.5:
        small = to_bytes(noise.gaussian_rgb(to_float(small), rng, rng.uniform(0, 6) / 255))
    if spoiled and rng.random() < 0.5:
        small = jpeg(small, rng.uniform(60, 95), *_corner(rng))
    return small


def clean(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Nothing: a copy."""
    return image.copy()


def gaussian_noise(image: Bytes, rng: np.random.Generator, sigma: float) -> Bytes:
    """White noise of ``sigma`` grey levels, clipped and rounded."""
    return to_bytes(noise.gaussian_rgb(to_float(image), rng, sigma / 255))


def gaussian_blur(image: Bytes, rng: np.random.Generator, sigma: float) -> Bytes:
    """``cv2.GaussianBlur(image, (0, 0), sigma)``; draws nothing."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)


def gamma(image: Bytes, rng: np.random.Generator, exponent: float) -> Bytes:
    """R, G and B in [0, 1] to a power; draws nothing."""
    return to_bytes(colour.gamma_rgb(to_float(image), exponent))


def jpeg_quality(image: Bytes, rng: np.random.Generator, quality: int) -> Bytes:
    """JPEG on the image's own grid; draws nothing."""
    return compression.jpeg(image, quality)


def jpeg(image: Bytes, quality: float, top: int = 0, left: int = 0) -> Bytes:
    """JPEG by libjpeg, 4:2:0, as if ``top`` rows and ``left`` columns had been cropped off afterwards."""
    larger = np.pad(image, ((top, 0), (left, 0), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(compression.jpeg(larger, quality)[top:, left:])


def linear_motion(image: Image, length: float, angle: float) -> Image:
    """The camera moved on a straight line of ``length`` pixels (1: not at all), evenly; ``angle`` in radians."""
    reach = int(np.ceil(length / 2))
    way = np.linspace(-(length - 1) / 2, (length - 1) / 2, 8 * reach + 1)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3), dtype=np.float32)
    x, y = reach + 1 + way * np.cos(angle), reach + 1 + way * np.sin(angle)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            np.add.at(kernel, (top + dy, left + dx), (1 - np.abs(y - top - dy)) * (1 - np.abs(x - left - dx)))
    kernel /= kernel.sum()
    return as_image(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT), image)


def to_float(image: Bytes) -> Image:
    """Bytes to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def to_bytes(image: Image) -> Bytes:
    """Clip to [0, 1] and round to 8 bits."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _gaussian_noise(strongest: float) -> Kind:
    return lambda x, rng: noise.gaussian_rgb(x, rng, rng.uniform(0, strongest) / 255)


def _grey_noise(x: Image, rng: np.random.Generator) -> Image:
    """The same noise in R, G and B, as of film or of a scan."""
    grain = rng.standard_normal((*x.shape[:2], 1), dtype=np.float32)
    return x + grain * np.float32(rng.uniform(0, STRONGEST_NOISE) / 255)


def _correlated_noise(x: Image, rng: np.random.Generator) -> Image:
    """Noise that went through a camera's interpolation, the scene sharp: white noise blurred, then scaled again."""
    field = blur.gaussian(rng.standard_normal(x.shape, dtype=np.float32), rng.uniform(0.5, 1.5))
    return x + field / np.float32(field.std() + 1e-6) * np.float32(rng.uniform(0, 40) / 255)


def _table_correlated_noise(x: Image, rng: np.random.Generator) -> Image:
    """DQ-495K's, whose 3 x 3 box softens the scene as well."""
    return noise.spatially_correlated(x, rng, rng.uniform(0, 0.24))


def _poisson(x: Image, rng: np.random.Generator) -> Image:
    return noise.poisson(x, rng, _log_uniform(rng, 12, 1000))


def _chroma_noise(x: Image, rng: np.random.Generator) -> Image:
    return noise.gaussian_ycrcb(x, rng, rng.uniform(0, 0.12), rng.uniform(1, 3))


def _trail(x: Image, rng: np.random.Generator) -> Image:
    radius = rng.uniform(1, 12)
    return blur.motion(x, rng, radius, max(0.5, 0.6 * radius))


def _shifted_gamma(x: Image, rng: np.random.Generator) -> Image:
    return colour.shift_rgb(colour.gamma_rgb(x, rng.uniform(1, 2.5)), -rng.uniform(0, 0.15))


NOISES: tuple[tuple[float, Kind], ...] = (
    (0.44, _gaussian_noise(STRONGEST_NOISE)),
    (0.06, _grey_noise),
    (0.10, _chroma_noise),
    (0.10, _poisson),
    (0.10, lambda x, rng: noise.speckle(x, rng, rng.uniform(0, 0.45))),
    (0.08, lambda x, rng: noise.impulse(x, rng, rng.uniform(0, 0.12))),
    (0.06, _correlated_noise),
    (0.06, _table_correlated_noise),
)
"""Share of each kind of noise, and the kind."""
BLURS: tuple[tuple[float, Kind], ...] = (
    (0.56, lambda x, rng: blur.gaussian(x, max(0.05, rng.uniform(0, 3.5)))),
    (0.22, lambda x, rng: blur.lens(x, rng.uniform(0.5, 5))),
    (0.16, lambda x, rng: linear_motion(x, rng.uniform(1, 19), rng.uniform(0, np.pi))),
    (0.06, _trail),
)
"""Share of each kind of blur, and the kind."""
DARKENINGS: tuple[tuple[float, Kind], ...] = (
    (0.36, lambda x, rng: colour.gamma_rgb(x, rng.uniform(1, 4))),
    (0.22, lambda x, rng: colour.gamma_value(x, rng.uniform(1, 4))),
    (0.16, lambda x, rng: colour.shift_rgb(x, -rng.uniform(0, 0.36))),
    (0.16, lambda x, rng: colour.shift_value(x, -rng.uniform(0, 0.5))),
    (0.10, _shifted_gamma),
)
"""Share of each way to darken, and the way."""


def _draw(kinds: Sequence[tuple[float, Kind]], rng: np.random.Generator) -> Kind:
    shares = np.cumsum([share for share, _ in kinds])
    return kinds[min(int(np.searchsorted(shares, rng.random() * shares[-1], side="right")), len(kinds) - 1)][1]


def _corner(rng: np.random.Generator) -> tuple[int, int]:
    """Where JPEG's grid starts, as rows and columns cropped off."""
    if rng.random() < ALIGNED_SHARE:
        return 0, 0
    return int(rng.integers(GRID)), int(rng.integers(GRID))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
