"""Is it still the same picture? Structure of a candidate against the input, block by block.

Both images are low-passed first, so that what a tool is meant to remove (grain, blocking, blur) does not count as
content; then the contrast and structure terms of SSIM (Wang et al., "Image Quality Assessment: From Error Visibility to
Structural Similarity", 2004, eq. 9 and 10) are taken over square blocks. We differ from SSIM on purpose: the luminance
term is left out, blocks do not overlap, the stabilising constants are larger (a gate must not measure the noise that
is left in flat blocks), and besides the mean over all blocks the mean of the worst few percent is returned: one
invented face in a large photograph hardly moves the first and drops the second.

For ``darken`` both luminances are standardised and only the structure term is used: brightening is meant to change
brightness and contrast. Colour is checked apart, on block means (chromaticities for ``darken``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601 luma weights, as in SSIM's usual colour handling."""
CONTRAST_CONSTANT = 0.06**2
"""C2 of SSIM with K2 = 0.06: twice the usual, because what a low-pass leaves of strong noise has a deviation near
0.02."""
STANDARD_CONTRAST = 0.15
"""Deviation of a photograph of ordinary contrast, to which luminances are brought: the constant above is meant for
it."""
NOISE_LEFT = 0.015
"""Largest deviation that noise may have after the low-pass and the gain; see `contrast_gain`."""
MAX_GAIN = 10.0
"""Largest gain; more would measure the steps of 8 bits."""
WORST_SHARE = 0.05
"""Share of the blocks that make up `Fidelity.worst`; at least one block."""


@dataclass(frozen=True)
class Fidelity:
    """How much of the input's content a candidate keeps."""

    mean: float
    """Contrast times structure term, mean over blocks, in [-1, 1]; 1 is the same picture."""
    worst: float
    """The same, mean over the worst 5 % of the blocks."""
    colour_shift: float
    """Mean over blocks of the largest channel difference of the block means, in [0, 1]."""


def luminance(image: Tensor) -> Tensor:
    """Luma of an image ``(3, H, W)`` in [0, 1]: ``(1, 1, H, W)``."""
    weights = torch.tensor(LUMA, dtype=image.dtype, device=image.device)
    return torch.einsum("c,chw->hw", weights, image)[None, None]


def low_pass(luma: Tensor, sigma: float) -> Tensor:
    """Gaussian low-pass of a luminance ``(1, 1, H, W)``, ``sigma`` in pixels; borders are repeated, the size is kept.

    By OpenCV, whose separable filter is some ten times faster on a CPU than a convolution by torch.
    """
    array = np.ascontiguousarray(luma[0, 0].cpu().numpy())
    side = 2 * math.ceil(3 * sigma) + 1
    smooth = cv2.GaussianBlur(array, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(smooth)[None, None].to(luma.device)


def structure(x: Tensor, y: Tensor, block: int, contrast: bool = True) -> Tensor:
    """SSIM's structure term of two luminances ``(1, 1, H, W)`` for each block, times the contrast term if asked.

    Images smaller than a block are one block; a rest at the right and the lower border that fills no block is
    left out. Returns a vector of values in [-1, 1].
    """
    size = (min(block, x.shape[-2]), min(block, x.shape[-1]))
    mean_x, mean_y = functional.avg_pool2d(x, size), functional.avg_pool2d(y, size)
    var_x = (functional.avg_pool2d(x * x, size) - mean_x**2).clamp_min(0)
    var_y = (functional.avg_pool2d(y * y, size) - mean_y**2).clamp_min(0)
    covariance = functional.avg_pool2d(x * y, size) - mean_x * mean_y
    half = CONTRAST_CONSTANT / 2
    product = (var_x * var_y).sqrt()
    term = (covariance + half) / (product + half)
    if contrast:
        term = term * (2 * product + CONTRAST_CONSTANT) / (var_x + var_y + CONTRAST_CONSTANT)
    return term.flatten()


def colour_shift(x: Tensor, y: Tensor, block: int, relighted: bool) -> float:
    """Mean over blocks of the largest channel difference of the block means of two images ``(3, H, W)``.

    ``relighted`` compares the chromaticities of the whole images instead (each channel's share of the sum).
    """
    if relighted:
        share_x, share_y = (image.mean((1, 2)) / image.mean((1, 2)).sum().clamp_min(1e-6) for image in (x, y))
        return float((share_x - share_y).abs().max())
    size = (min(block, x.shape[-2]), min(block, x.shape[-1]))
    difference = functional.avg_pool2d(x[None], size) - functional.avg_pool2d(y[None], size)
    return float(difference.abs().amax(1).mean())


def noise_deviation(luma: Tensor) -> float:
    """Standard deviation of white noise in ``(1, 1, H, W)`` (Immerkaer, "Fast Noise Variance Estimation", 1996); too
    high in fine texture, 0 below 3 x 3.

    His kernel, the difference of two Laplacians, is the outer product of (1, -2, 1) with itself.
    """
    if min(luma.shape[-2:]) < 3:
        return 0.0
    rows = luma[..., :-2, :] - 2 * luma[..., 1:-1, :] + luma[..., 2:, :]
    both = rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]
    return float(math.sqrt(math.pi / 2) / 6 * both.abs().mean())


def contrast_gain(luma: Tensor, smooth: Tensor, sigma: float) -> float:
    """Gain in [1, `MAX_GAIN`] that brings a picture of low contrast to `STANDARD_CONTRAST`.

    Without it the constants of SSIM would call any two hazy pictures equal. It is held back where it would lift the
    noise that the low-pass leaves (white noise keeps 1 / (2 sqrt(pi) sigma) of its deviation) above `NOISE_LEFT`: a
    denoised clear sky must not count as lost content.
    """
    wanted = STANDARD_CONTRAST / max(float(smooth.std(correction=0)), 1e-4)
    left = noise_deviation(luma) / (2 * math.sqrt(math.pi) * sigma)
    allowed = NOISE_LEFT / max(left, 1e-4)
    return max(1.0, min(wanted, allowed, MAX_GAIN))


def measure_fidelity(
    reference: Tensor, candidate: Tensor, *, sigma: float = 2.0, block: int = 16, relighted: bool = False
) -> Fidelity:
    """Compare ``candidate`` with ``reference``, both ``(3, H, W)`` in [0, 1] and of one size.

    ``sigma`` is the Gaussian low-pass in pixels, ``block`` the side of a block in pixels, ``relighted`` says that the
    candidate was brightened. For an upscaled candidate see `iqloop.agents.resize.at_size`.
    """
    x, y = reference.float(), candidate.float()
    luma_x, luma_y = luminance(x), luminance(y)
    smooth_x, smooth_y = low_pass(luma_x, sigma), low_pass(luma_y, sigma)
    if relighted:
        smooth_x, smooth_y = _standardise(smooth_x), _standardise(smooth_y)
    else:
        gain = contrast_gain(luma_x, smooth_x, sigma)
        # Around a common mean, which keeps the variances of float32 precise.
        middle = smooth_x.mean()
        smooth_x, smooth_y = gain * (smooth_x - middle), gain * (smooth_y - middle)
    blocks = structure(smooth_x, smooth_y, block, contrast=not relighted)
    count = max(1, round(WORST_SHARE * blocks.numel()))
    worst = blocks.topk(count, largest=False).values.mean()
    return Fidelity(float(blocks.mean()), float(worst), colour_shift(x, y, block, relighted))


def _standardise(image: Tensor) -> Tensor:
    return (image - image.mean()) / image.std(correction=0).clamp_min(1e-4) * STANDARD_CONTRAST
