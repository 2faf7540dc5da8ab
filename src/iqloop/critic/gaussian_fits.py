"""Generalised Gaussian distributions fitted by their moments, symmetric and asymmetric; differentiable.

The density of the symmetric one falls as ``exp(-|x / scale|^shape)``: shape 2 is Gaussian, 1 Laplacian. The ratio
``E[|x|]^2 / E[x^2]`` rises with the shape and with nothing else; here it is turned round by a table.

Sources: Sharifi & Leon-Garcia, "Estimation of shape parameter for generalized Gaussian distributions in subband
decompositions of video", 1995; Lasmar et al., "Multiscale skewed heavy tailed model for texture analysis", 2009, as
Mittal, Moorthy and Bovik use them (BRISQUE, 2012). They give shapes, we their logarithms: the tables are even there.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHAPES = (0.15, 12.0)
"""Smallest and largest shape that is told from its neighbours."""
TINY = 1e-6
"""Added to second moments: a flat image has none."""

_ENDS: list[float] = torch.tensor(SHAPES, dtype=torch.float64).log().tolist()
_LOG_SHAPES = torch.linspace(_ENDS[0], _ENDS[1], 400, dtype=torch.float64)
_RATIOS = torch.exp(
    2 * torch.lgamma(2 * torch.exp(-_LOG_SHAPES))
    - torch.lgamma(torch.exp(-_LOG_SHAPES))
    - torch.lgamma(3 * torch.exp(-_LOG_SHAPES))
)


def log_shape(ratio: Tensor) -> Tensor:
    """Logarithm of the shape whose ``E[|x|]^2 / E[x^2]`` is this, of any shape; beyond `SHAPES` the nearer end."""
    ratios, logs = _RATIOS.to(ratio), _LOG_SHAPES.to(ratio)
    inside = ratio.clamp(float(ratios[0]), float(ratios[-1]))
    above = torch.searchsorted(ratios, inside.detach().contiguous()).clamp(1, len(ratios) - 1)
    part: Tensor = (inside - ratios[above - 1]) / (ratios[above] - ratios[above - 1])
    return logs[above - 1] + part * (logs[above] - logs[above - 1])


def symmetric(x: Tensor) -> Tensor:
    """Log shape and log variance ``(2,)`` of values around 0 of any shape."""
    first, second = x.abs().mean(), x.square().mean() + TINY
    return torch.stack([log_shape(first.square() / second), second.log()])


def asymmetric(x: Tensor) -> Tensor:
    """Log shape, mean, log variance left and right of 0 ``(4,)`` of values of any shape with two unlike sides."""
    square, left = x.square(), (x < 0).to(x)
    share = left.mean()
    below = ((square * left).mean() + TINY) / (share + TINY)
    above = ((square * (1 - left)).mean() + TINY) / (1 - share + TINY)
    skew = (below / above).sqrt()
    ratio = x.abs().mean().square() / (square.mean() + TINY)
    log = log_shape(ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square())
    inverse = torch.exp(-log)
    spread = torch.lgamma(2 * inverse) - (torch.lgamma(inverse) + torch.lgamma(3 * inverse)) / 2
    return torch.stack([log, (above.sqrt() - below.sqrt()) * spread.exp(), below.log(), above.log()])
