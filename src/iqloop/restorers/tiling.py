"""Running a model over an image in overlapping tiles, blended, one tile on the device at a time."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iqloop.errors import ToolError

Model = Callable[[Tensor], Tensor]
"""From ``(1, 3, h, w)`` to ``(1, 3, h * scale, w * scale)``, wherever the model computes."""

LARGEST = 1024
"""Of the tiles that are chosen here, in pixels: so that a halving loses little."""
LARGEST_ON_CPU = 432
"""The same where the computing is no faster for larger tiles: 0.2 GB for a small NAFNet."""
SMALLEST = 32
"""Smaller tiles, in pixels, are not tried: the memory is full of something else."""


def tiled(
    model: Model,
    image: Tensor,
    scale: int,
    tile: int | None,
    overlap: int,
    on_halving: Callable[[str], None] | None = None,
    halo: int | None = None,
    multiple: int = 1,
) -> Tensor:
    """Apply ``model`` to ``image`` tile by tile.

    Tiles of one image have equal sizes (no thin last one) and overlap by at least ``overlap``; in the overlaps their
    outputs are blended by a raised cosine, the weights normalised to sum to one, and the outer ``halo`` pixels of a
    tile, which lack their surroundings, are left out. So the result equals that of the whole image where a model sees
    no further than the halo on each side (and halves no odd tile: ``multiple``). Only one tile at a time is handed to
    the model; the result gathers on the CPU.

    When the device is out of memory the tile is halved and the image begun again.

    Args:
        model: see `Model`.
        image: ``(1, C, H, W)``, on any device; best on the CPU.
        scale: output size over input size.
        tile: side of a tile in input pixels, without limit if None.
        overlap: pixels shared by neighbours in the input; at most half a tile is used.
        on_halving: told one sentence for each halving; `warnings.warn` if None.
        halo: input pixels at a tile's inner borders that get no weight; at most half the overlap, a quarter of it if
            None.
        multiple: tiles start at multiples of this many pixels: a net that halves its input three times gives another
            result when it starts at a pixel that is no multiple of eight.

    Returns:
        ``(1, C', H * scale, W * scale)`` float32 on the CPU.

    Raises:
        ToolError: out of memory at the smallest tile, or the model's output has another size.
    """
    while True:
        try:
            return _run(model, image, scale, tile, overlap, halo, multiple)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            side = min(tile or max(image.shape[-2:]), max(image.shape[-2:]))
        # Out of the except clause, so that the traceback no longer holds the tile's tensors.
        if side <= SMALLEST:
            raise ToolError(f"out of memory even with tiles of {side} pixels: free memory or use another device")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tile = max(side // 2, SMALLEST)
        (on_halving or _warn)(f"out of memory with tiles of {side} pixels: trying {tile}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch means that memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "allocate" in text or "out of memory" in text


def auto_tile(bytes_per_pixel: float, available: float, smallest: int = 64) -> int | None:
    """The largest tile side, a multiple of 16, of which ``bytes_per_pixel`` fit 80 % of ``available`` bytes.

    None, for no tiling, when it would be larger than any photograph (16,384); at least ``smallest``.
    """
    side = int(math.sqrt(0.8 * available / bytes_per_pixel))
    return None if side >= 16384 else max(side // 16 * 16, smallest)


def bytes_per_pixel(network: torch.nn.Module, scale: int, element_size: int = 4) -> float:
    """An upper estimate of the working memory that a network needs for each input pixel.

    Some 12 planes as wide as the widest layer live at once in the networks that spandrel knows, enlargement included
    at the image's own width. An estimate, not a bound: `tiled` halves when it was too small.
    """
    widths = [p.shape[0] for p in network.parameters() if p.ndim == 4]
    widest = min(max(widths, default=64), 512)
    return element_size * (12.0 * widest + 16.0 * scale * scale)


def available_memory(device: torch.device) -> float:
    """Free bytes on a device; for the CPU what the system says is available (4 GB where it does not say)."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 4e9


def spans(length: int, tile: int | None, overlap: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Equal, overlapping spans ``(start, stop)`` that cover ``length``; each start is a multiple of ``multiple``.

    The last is longer by what its start was moved.

    >>> spans(100, 48, 8)
    [(0, 39), (30, 69), (61, 100)]
    >>> spans(200, 96, 16, multiple=8)
    [(0, 82), (56, 138), (112, 200)]
    """
    if tile is None or length <= tile:
        return [(0, length)]
    # What moving a start back by less than `multiple` can take from an overlap or add to the last span.
    slack = min(multiple - 1, tile // 4)
    overlap = min(overlap + slack, tile // 2)
    room = tile - slack
    count = math.ceil((length - overlap) / (room - overlap))
    size = math.ceil((length + (count - 1) * overlap) / count)
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    if multiple > 1:
        starts = [start // multiple * multiple for start in starts]
    return [(start, start + size) for start in starts[:-1]] + [(starts[-1], length)]


def _run(
    model: Model, image: Tensor, scale: int, tile: int | None, overlap: int, halo: int | None, multiple: int
) -> Tensor:
    height, width = image.shape[-2:]
    rows, columns = spans(height, tile, overlap, multiple), spans(width, tile, overlap, multiple)
    if len(rows) == len(columns) == 1:
        return _checked(model(image), height * scale, width * scale).to("cpu", torch.float32)
    total: Tensor | None = None
    vertical, horizontal = _ramps(rows, scale, halo), _ramps(columns, scale, halo)
    for (top, bottom), down in zip(rows, vertical, strict=True):
        for (left, right), across in zip(columns, horizontal, strict=True):
            result = model(image[..., top:bottom, left:right])
            result = _checked(result, (bottom - top) * scale, (right - left) * scale).to("cpu", torch.float32)
            if total is None:
                total = torch.zeros(1, result.shape[1], height * scale, width * scale)
            place = (..., slice(top * scale, bottom * scale), slice(left * scale, right * scale))
            total[place] += result * (down[:, None] * across[None])
    assert total is not None
    # Weights are products, so their sums are: two lines of numbers in the place of an image of them.
    total /= _sum(rows, vertical, height * scale, scale)[:, None]
    total /= _sum(columns, horizontal, width * scale, scale)
    return total


def _sum(parts: list[tuple[int, int]], ramps: list[Tensor], length: int, scale: int) -> Tensor:
    total = torch.zeros(length)
    for (start, stop), ramp in zip(parts, ramps, strict=True):
        total[start * scale : stop * scale] += ramp
    return total


def _checked(result: Tensor, height: int, width: int) -> Tensor:
    if result.shape[-2:] != (height, width):
        raise ToolError(f"the model gave {tuple(result.shape[-2:])} for a tile that should become {(height, width)}")
    return result


def _ramps(parts: list[tuple[int, int]], scale: int, halo: int | None) -> list[Tensor]:
    """The weight of each span along its axis: one, with a raised cosine where it shares pixels with a neighbour."""
    ramps = []
    for i, (start, stop) in enumerate(parts):
        ramp = torch.ones((stop - start) * scale)
        before = (parts[i - 1][1] - start) * scale if i else 0
        after = (stop - parts[i + 1][0]) * scale if i + 1 < len(parts) else 0
        if before > 0:
            ramp[:before] *= _rise(before, halo if halo is None else halo * scale)
        if after > 0:
            ramp[-after:] *= _rise(after, halo if halo is None else halo * scale).flip(0)
        ramps.append(ramp)
    return ramps


def _rise(length: int, halo: int | None) -> Tensor:
    """From zero to one over ``length`` pixels, all of it between the outer ``halo`` pixels on both sides."""
    outer = length / 4 if halo is None else min(halo, (length - 1) / 2)
    inner = ((torch.arange(length) + 0.5 - outer) / (length - 2 * outer)).clamp(0, 1)
    # Never quite zero: an overlap of one or two pixels must still sum to more than nothing.
    return (0.5 - 0.5 * torch.cos(math.pi * inner)).clamp_min(1e-6)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def tile_for(descriptor: Any, tile: int | str | None, device: torch.device, image: Tensor) -> int | None:
    """The tile that suits a spandrel descriptor and an image.

    ``"auto"``: no tiling for models that tile themselves (INTERNAL); for those that see the whole image (DISCOURAGED)
    only when memory leaves no choice; otherwise what memory allows, at most `LARGEST`, or `LARGEST_ON_CPU`.
    """
    if tile != "auto":
        return None if tile is None else int(tile)
    kind = descriptor.tiling.name
    if kind == "INTERNAL":
        return None
    fits = auto_tile(
        bytes_per_pixel(descriptor.model, descriptor.scale, descriptor.dtype.itemsize), available_memory(device)
    )
    if kind == "DISCOURAGED":
        whole = fits is None or image.shape[-1] * image.shape[-2] <= fits * fits
        return None if whole else fits
    largest = LARGEST_ON_CPU if device.type == "cpu" else LARGEST
    return largest if fits is None else min(fits, largest)
