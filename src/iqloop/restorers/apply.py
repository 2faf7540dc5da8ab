"""A tool on a photograph with all that a tensor lacks: alpha, greyscale, bit depth, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from iqloop.errors import ToolError
from iqloop.restorers.tool import Tool

if TYPE_CHECKING:
    from iqloop.io import Photo


def restore_photo(tool: Tool, photo: Photo, seed: int = 0) -> Photo:
    """Restore the colour of ``photo`` and keep the rest of it.

    Colour goes through the tool as float32, so 16-bit values keep their precision as far as the tool does. Alpha is
    enlarged with the tool's scale (bicubic, clamped) and otherwise untouched. A greyscale photograph stays grey: the
    mean of the channels.

    Returns:
        A photo ``scale`` times as high and wide, of the same format, bit depth and metadata.

    Raises:
        ToolError: the tool does not fit or failed, or its output has another size than it promised.
    """
    scale = tool.info.scale
    colour = tool.restore(photo.pixels[None].clone(), seed)
    height, width = photo.pixels.shape[-2:]
    if colour.shape != (1, 3, height * scale, width * scale):
        expected = (1, 3, height * scale, width * scale)
        raise ToolError(f"{tool.info.name} gave shape {tuple(colour.shape)}, expected {expected}")
    pixels = colour[0].detach().to("cpu", torch.float32)
    # Most tools keep to the range; a copy of a large photograph is worth looking first.
    if float(pixels.min()) < 0 or float(pixels.max()) > 1:
        pixels = pixels.clamp(0, 1)
    if photo.greyscale:
        pixels = pixels.mean(dim=0, keepdim=True).expand(3, -1, -1).contiguous()
    return photo.with_pixels(pixels, _enlarge(photo.alpha, scale))


def _enlarge(alpha: Tensor | None, scale: int) -> Tensor | None:
    if alpha is None or scale == 1:
        return alpha
    size = (alpha.shape[-2] * scale, alpha.shape[-1] * scale)
    return functional.interpolate(alpha[None], size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
