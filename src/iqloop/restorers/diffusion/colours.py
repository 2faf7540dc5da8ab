"""Light and shade from a model, colours from its input, as since the first networks for super-resolution.

Dong et al. 2014 (SRCNN, https://arxiv.org/abs/1501.00092, section 4.3) enlarge luma by a network and chroma by bicubic
interpolation: eyes see detail in luma. It mends a generator that gets hues wrong, and costs others little.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

TO_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""


def with_colours_of(image: Tensor, source: Tensor) -> Tensor:
    """The luma of ``image`` ``(3, H, W)`` and the chroma of ``source`` ``(3, h, w)``, which is enlarged bicubically.

    All are in [0, 1].

    >>> grey, red = torch.full((3, 4, 4), 0.3), torch.tensor([0.9, 0.05, 0.05])[:, None, None].expand(3, 2, 2)
    >>> [round(value, 3) for value in with_colours_of(grey, red)[:, 0, 0].tolist()]
    [0.896, 0.046, 0.046]
    """
    weights = torch.tensor(TO_LUMA, dtype=image.dtype, device=image.device)[:, None, None]
    enlarged = source.to(image)
    if enlarged.shape[-2:] != image.shape[-2:]:
        enlarged = interpolate(enlarged[None], size=image.shape[-2:], mode="bicubic", align_corners=False)[0]
    light = (image * weights).sum(0, keepdim=True)
    # Red, green and blue that differ from luma by the same have the same chroma.
    return (enlarged - (enlarged * weights).sum(0, keepdim=True) + light).clamp(0, 1)
