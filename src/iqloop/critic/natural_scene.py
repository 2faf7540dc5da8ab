"""Natural scene statistics: what the numbers of neighbouring pixels say of an image's quality, without its content.

Divided by its local contrast, the luminance of a good photograph is distributed as a Gaussian is, and so is almost
every other one's: noise, blur, blocks and halos each change shape and variance of that distribution, and of the
products of neighbours, in their own way.

Sources: MSCN coefficients and products of neighbours, 18 figures a scale, are those of Mittal, Moorthy and Bovik,
"No-Reference Image Quality Assessment in the Spatial Domain", 2012 (BRISQUE). Derivatives of the logarithm: Zhang and
Chandler, "No-reference image quality assessment based on log-derivative statistics of natural scenes", 2013 (DESIQUE).
Opponent colours: Zhang, Zhang and Bovik, "A Feature-Enriched Completely Blind Image Quality Evaluator", 2015
(IL-NIQE). Ours: three scales instead of two, each the mean of 2 x 2 pixels of the last; farther neighbours, whose
products tell halos, ringing and checkerboards; quantiles of the local contrast; a figure for JPEG's grid; light.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from iqloop.critic.gaussian_fits import TINY, asymmetric, symmetric

SMALLEST = 32
"""Least side in pixels; a smaller image is continued by its mirror images."""
SCALES = 3
COUNT = 2 + 14 + SCALES * 52
"""Figures of an image: of JPEG's grid, of light and colour, and of each scale."""

_TAPS = [math.exp(-((k - 3) ** 2) / (2 * (7 / 6) ** 2)) for k in range(7)]
WINDOW = [tap / sum(_TAPS) for tap in _TAPS]
"""BRISQUE's Gaussian window of 7 pixels and deviation 7 / 6, along one side; its sum is 1."""
LAGS = ((0, 2), (2, 0), (2, 2), (0, 3), (3, 0), (0, 4), (4, 0))
"""Farther neighbours: rows down, columns right."""
GRID = 8
"""Side of JPEG's blocks in pixels."""
EVERY = 4
"""Quantiles are taken of every fourth pixel, along both sides, at full size; of all of them at the third scale."""


def features(image: Tensor) -> Tensor:
    """Figures ``(COUNT,)`` of one image ``(3, H, W)``, sRGB in [0, 1], of any size; float32, differentiable."""
    pixels = at_least(image.float(), SMALLEST)
    planes = opponents(pixels * 255)
    found = [blocks(planes[0]), light(pixels, planes)]
    for scale in range(SCALES):
        found.append(statistics(planes, max(1, EVERY >> scale)))
        planes = functional.avg_pool2d(planes[None], 2, ceil_mode=True, count_include_pad=False)[0]
    return torch.cat(found)


def at_least(image: Tensor, side: int) -> Tensor:
    """An image ``(3, H, W)``, continued by mirroring to ``side`` pixels wherever it is smaller."""
    for dim in (1, 2):
        length = image.shape[dim]
        if length < side:
            index = torch.arange(side, device=image.device) % (2 * length)
            image = image.index_select(dim, torch.minimum(index, 2 * length - 1 - index))
    return image


def opponents(pixels: Tensor) -> Tensor:
    """Luminance, red against green, yellow against blue: planes ``(3, H, W)`` of RGB in the same units."""
    red, green, blue = pixels
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luminance, (red - green) / math.sqrt(2), (red + green - 2 * blue) / math.sqrt(6)])


def statistics(planes: Tensor, every: int) -> Tensor:
    """The 52 figures of one scale, of planes ``(3, H, W)`` of `opponents` in [0, 255]."""
    normal, contrast = mscn(planes)
    m = normal[0]
    products = (m[:, 1:] * m[:, :-1], m[1:] * m[:-1], m[1:, 1:] * m[:-1, :-1], m[1:, :-1] * m[:-1, 1:])
    power = m.square().mean() + TINY
    rows, columns = m.shape
    farther = [(m[a:, b:] * m[: rows - a, : columns - b]).mean() / power for a, b in LAGS]
    tails = [(m**3).mean(), (m**4).mean().add(TINY).log() - 2 * power.log()]
    sharp = (contrast[0] + 0.1).log()
    marks = torch.quantile(sharp[::every, ::every].flatten(), sharp.new_tensor([0.05, 0.25, 0.5, 0.75, 0.95]))
    whole = [sharp.mean(), sharp.std(), *((plane + 0.1).log().mean() for plane in contrast[1:])]
    fitted = [*map(symmetric, normal), *map(asymmetric, products), *map(symmetric, derivatives(planes[0]))]
    return torch.cat([*fitted, torch.stack([*farther, *tails, *whole]), marks])


def mscn(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean subtracted contrast normalised coefficients of planes ``(C, H, W)`` in [0, 255], and the local contrast."""
    centred = planes - planes.mean((-2, -1), keepdim=True)  # E[x^2] - E[x]^2 loses digits far from 0
    mean = smooth(centred)
    contrast = (smooth(centred.square()) - mean.square()).clamp_min(1e-4).sqrt()
    return (centred - mean) / (contrast + 1), contrast


def smooth(planes: Tensor) -> Tensor:
    """Local weighted means of planes ``(C, H, W)`` by `WINDOW`, edges repeated.

    Sums of shifted planes: on one CPU core three times as fast as a convolution with one channel.
    """
    padded = functional.pad(planes[None], (3, 3, 3, 3), mode="replicate")[0]
    for dim, length in ((1, planes.shape[1]), (2, planes.shape[2])):
        total = padded.narrow(dim, 3, length) * WINDOW[3]
        for k in range(3):
            pair = padded.narrow(dim, k, length) + padded.narrow(dim, 6 - k, length)
            total = torch.add(total, pair, alpha=WINDOW[k])
        padded = total
    return padded


def derivatives(luminance: Tensor) -> list[Tensor]:
    """Six derivatives of the logarithm of luminance ``(H, W)`` in [0, 255], in tenths: along both sides and both
    diagonals, across a square, and across against along."""
    j = (luminance + 4).clamp_min(1).log() * 10
    centre, right, below, corner = j[:-1, :-1], j[:-1, 1:], j[1:, :-1], j[1:, 1:]
    square = corner + centre - below - right
    cross = j[1:-1, :-2] + j[1:-1, 2:] - j[:-2, 1:-1] - j[2:, 1:-1]
    return [j[:, 1:] - j[:, :-1], j[1:] - j[:-1], corner - centre, below - right, square, cross]


def blocks(luminance: Tensor) -> Tensor:
    """How far the steps at the strongest phase of a grid of `GRID` pixels exceed the others', across and down ``(2,)``:
    logarithms of the ratio. Found at any phase, since a crop may start anywhere."""
    steps = ((luminance[:, 1:] - luminance[:, :-1]).abs().mean(0), (luminance[1:] - luminance[:-1]).abs().mean(1))
    found = []
    for line in steps:
        phases = line[: len(line) // GRID * GRID].view(-1, GRID).mean(0).add(0.05).sort().values
        found.append((phases[-1] / phases[:-1].mean()).log())
    return torch.stack(found)


def light(pixels: Tensor, planes: Tensor) -> Tensor:
    """Fourteen figures of exposure and colour ``(14,)``, of an image in [0, 1] and its planes in [0, 255]."""
    y = planes[0] / 255
    marks = torch.quantile(y[::EVERY, ::EVERY].flatten(), y.new_tensor([0.02, 0.25, 0.5, 0.75, 0.98]))
    clipped = [torch.sigmoid((y - 0.97) * 60).mean(), torch.sigmoid((0.04 - y) * 60).mean()]
    least, most = pixels.amin(0), pixels.amax(0)
    spreads = [(plane.std() + 0.5).log() for plane in planes[1:]]
    cast = (planes[1].mean().square() + planes[2].mean().square() + 1).log()
    whole = [y.mean(), y.std(), *clipped, *spreads, cast, (most - least).mean(), least.mean()]
    return torch.cat([torch.stack(whole), marks])
