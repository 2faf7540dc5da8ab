"""How far a net sees: the overlap that its tiles need."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from iqloop.restorers.nafnet import blocks_of, without_pooling


def receptive_radius(net: nn.Module, largest: int = 128, multiple: int = 16, pooled: bool = True) -> int | None:
    """Input pixels around an output pixel, on each side, beyond which nothing changes it; None if ``largest`` is not
    enough, as in a net that pools over the whole image.

    Read off the gradient of a copy whose every parameter is random, so that no path is cut by a weight that is zero.
    A net that halves its input sees further from some pixels than from others: the outputs of ``multiple`` neighbours
    are taken together, and the furthest counts.

    Args:
        net: from ``(1, 3, h, w)`` to ``(1, C, h * scale, w * scale)``, differentiable.
        largest: radius looked for, in pixels.
        multiple: period of the net's pattern in input pixels; ``largest`` must be a multiple of it.
        pooled: with what a NAFNet pools; without, what is left when that is given.
    """
    probe = deepcopy(net).float().eval().requires_grad_(False)
    for block in [] if pooled else blocks_of(probe):
        without_pooling(block)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in probe.parameters():
            value = torch.rand(parameter.shape, generator=generator) + 0.5
            # Means of their inputs: positive everywhere, so that no ReLU closes, and nothing overflows.
            parameter.copy_(value / parameter[0].numel() if parameter.ndim == 4 else value)
    start, side = largest + multiple, 2 * largest + 3 * multiple
    x = torch.rand(1, 3, side, side, generator=generator).requires_grad_()
    with torch.enable_grad():
        y = probe(x)
        scale = y.shape[-1] // side
        (gradient,) = torch.autograd.grad(y[..., start * scale : (start + multiple) * scale, :].abs().sum(), x)
    rows = gradient.abs().amax(dim=(0, 1, 3)).nonzero().flatten()
    radius = max(start - int(rows[0]), int(rows[-1]) - (start + multiple - 1))
    return None if radius > largest else radius
