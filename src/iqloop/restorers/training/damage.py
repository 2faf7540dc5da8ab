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

from iqloop import distort
from iqloop.distort import blur, colour, compression, noise
from iqloop.distort.image import Bytes as Bytes
from iqloop.distort.image import Image, as_image, to_bytes, to_float

Kind = Callable[[Image, np.random.Generator], Image]
"""One kind of damage on float RGB ``(H, W, 3)`` in [0, 1]; the result may leave the range."""

CLEAN_SHARE = 0.06
"""Fraction of images that a family leaves as they are."""
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
    if rng.random() < CLEAN_SHARE:
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


def camera_noise(x: Image, rng: np.random.Generator, shot: float, read: float) -> Image:
    """What a camera makes of its sensor's noise: raw light behind a Bayer pattern, interpolated, balanced, in gamma.

    The scene keeps its own sharpness: the difference between the noisy and the clean raw image, both developed alike,
    is added to it.

    Args:
        x: ``(H, W, 3)`` in [0, 1], at least 2 x 2.
        rng: draws the balance, the pattern's place, the interpolation and the noise.
        shot: variance for each unit of raw light, of photons (Brooks et al., "Unprocessing images for learned raw
            denoising", 2019: 0.0001 to 0.012).
        read: variance without light.
    """
    gains = np.array([rng.uniform(1.2, 2.4), 1.0, rng.uniform(1.2, 2.4)], np.float32)
    raw = np.clip(x, 0, 1) ** np.float32(2.2) / gains
    code = (cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2RGB_EA)[int(rng.integers(2))]
    top, left = int(rng.integers(2)), int(rng.integers(2))
    # An even image around it, so that the pattern may begin anywhere.
    height, width = x.shape[:2]
    raw = np.pad(raw, ((top, (height + top) % 2), (left, (width + left) % 2), (0, 0)), mode="symmetric")
    # R G over G B: what OpenCV calls BG, after the second row.
    mosaic = raw[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = raw[::2, ::2, 0], raw[1::2, 1::2, 2]
    grain = rng.standard_normal(mosaic.shape, dtype=np.float32) * np.sqrt(mosaic * np.float32(shot) + np.float32(read))
    developed = []
    for sensor in (mosaic, mosaic + grain):
        # 16 bits, half of them for what noise pushes above white: clipped light is clipped after the gains.
        coded = np.rint(np.clip(sensor * 32768 + 4096, 0, 65535)).astype(np.uint16)
        linear = (cv2.demosaicing(coded, code).astype(np.float32) - 4096) / 32768 * gains
        developed.append(np.clip(linear, 0, 1) ** np.float32(1 / 2.2))
    added = (developed[1] - developed[0])[top : top + height, left : left + width]
    return as_image(x + added, x)


def read_noise(shot: float) -> float:
    """The variance without light that goes with one of photons: the regression of Brooks et al. over phones."""
    return float(np.exp(2.18 * np.log(shot) + 1.2))


def _camera_noise(x: Image, rng: np.random.Generator) -> Image:
    """`camera_noise` of any light; half of it saved as cameras do."""
    shot = _log_uniform(rng, 1e-4, 1.2e-2)
    noisy = camera_noise(x, rng, shot, read_noise(shot) * float(np.exp(rng.normal(0, 0.26))))
    if rng.random() < 0.5:
        noisy = to_float(jpeg(to_bytes(noisy), rng.uniform(85, 99), *_corner(rng)))
    return noisy


def _trail(x: Image, rng: np.random.Generator) -> Image:
    radius = rng.uniform(1, 12)
    return blur.motion(x, rng, radius, max(0.5, 0.6 * radius))


def _shifted_gamma(x: Image, rng: np.random.Generator) -> Image:
    return colour.shift_rgb(colour.gamma_rgb(x, rng.uniform(1, 2.5)), -rng.uniform(0, 0.15))


NOISES: tuple[tuple[float, Kind], ...] = (
    (0.34, _gaussian_noise(STRONGEST_NOISE)),
    (0.14, _camera_noise),
    (0.06, _grey_noise),
    (0.08, _chroma_noise),
    (0.08, _poisson),
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
