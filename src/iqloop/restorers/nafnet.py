"""What spandrel's NAFNet (Chen et al., "Simple Baselines for Image Restoration", 2022) is used with here.

The published net with the published parameters; two of its parts are replaced by modules of the same parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of ``(B, C, H, W)``: NAFNet's, with the same parameters and values.

    In the place of spandrel's own, a custom function that is slower on a CPU (2.3 against 3.6 s per megapixel of a net
    of width 24) and warns of deprecation at every backward pass.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = like.weight, like.bias, float(like.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Each pixel's channels to mean 0 and variance 1, then scaled and shifted."""
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


class Constant(nn.Module):
    """What is left of a 1 x 1 convolution of pooled features without the features: its bias, for every image.

    The convolution's weight stays in the state dict, as zeros, so that the file is one of the published architecture.
    """

    weight: Tensor
    bias: nn.Parameter

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros_like(like.weight))
        self.bias = nn.Parameter(like.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """The factor of each channel, ``(1, C, 1, 1)``."""
        return self.bias.view(1, -1, 1, 1)


class WholeView(nn.Module):
    """A pooling over the image that can be told to keep what it found, and to answer with that for every tile."""

    kept: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.kept = None
        self.looking = False

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, 1, 1)``."""
        if self.kept is not None and not self.looking:
            return self.kept
        mean = x.mean((2, 3), keepdim=True)
        if self.looking:
            self.kept = mean
        return mean


@contextmanager
def seen_whole(net: nn.Module, image: Tensor) -> Iterator[None]:
    """Inside, each block of a NAFNet that pools answers with its means over ``image``, whatever it is given.

    Tiles of a larger image that are run inside share one view of the whole, and equal it where they overlap enough.
    Not for several threads at once.
    """
    views = []
    for block in blocks_of(net):
        if not isinstance(block.sca[1], Constant):
            if not isinstance(block.sca[0], WholeView):
                block.sca[0] = WholeView()
            views.append(block.sca[0])
    try:
        for view in views:
            view.looking = True
        net(image)
        for view in views:
            view.looking = False
        yield
    finally:
        for view in views:
            view.kept, view.looking = None, False


def quicken(net: nn.Module) -> nn.Module:
    """Give a NAFNet the normalisation above, in place; a channel attention whose weights are zero becomes its bias."""
    for block in blocks_of(net):
        block.norm1, block.norm2 = ChannelNorm(block.norm1), ChannelNorm(block.norm2)
        if not block.sca[1].weight.any():
            without_pooling(block)
    return net


def without_pooling(block: Any) -> None:
    """Replace a block's channel attention, in place."""
    block.sca = nn.Sequential(nn.Identity(), Constant(block.sca[1]))


def blocks_of(net: nn.Module) -> list[Any]:
    """The blocks of a NAFNet."""
    return [module for module in net.modules() if hasattr(module, "sca")]
