"""The classical tools: which there are, and the class that puts a pure function behind the tool contract.

Chosen by measurement: docs/benchmarks/classical-tools.md has the figures, those of the losers too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from iqloop.errors import ToolError
from iqloop.restorers.sliding import Array
from iqloop.restorers.tool import Tool, ToolInfo, check_image

Function = Callable[[Array], Array]
"""From ``(H, W, 3)`` float32 RGB in [0, 1] to ``(H * scale, W * scale, 3)``; the result may leave the range."""


class ClassicalTool:
    """A `Tool` around a pure function.

    Checks the image, hands the function an array of its own, clips what comes back, and returns it on the device and
    in the type of the input. Where the function gives no number, the input's is kept (tools of scale 1).
    """

    def __init__(self, info: ToolInfo, function: Function) -> None:
        self._info = info
        self._function = function

    @property
    def info(self) -> ToolInfo:
        """What is known of it."""
        return self._info

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        """Restore ``(1, 3, H, W)`` in [0, 1] to ``(1, 3, H * scale, W * scale)`` in [0, 1]; ``seed`` has no effect.

        Raises:
            ToolError: wrong shape, or the function failed.
        """
        check_image(image, self._info.name)
        array = image[0].detach().to("cpu", torch.float32).permute(1, 2, 0).numpy().copy()
        array = np.ascontiguousarray(np.nan_to_num(array, nan=0.0)).clip(0, 1)
        try:
            result = self._function(array.copy())
        except (MemoryError, ValueError, ArithmeticError, RuntimeError) as error:
            raise ToolError(f"{self._info.name} failed on {tuple(image.shape)}: {error}") from error
        if self._info.scale == 1:
            result = np.where(np.isfinite(result), result, array)
        clipped = np.ascontiguousarray(np.clip(result, 0, 1), dtype=np.float32)
        return torch.from_numpy(clipped).permute(2, 0, 1)[None].contiguous().to(image.device, image.dtype)

    def __repr__(self) -> str:
        return f"ClassicalTool({self._info.name!r})"


def _infos() -> tuple[ToolInfo, ...]:
    """Every classical tool, by treatment, gentle to strong."""
    return (
        ToolInfo("median-switch", ("noise",), "salt and pepper: switching median (Sun and Neuvo, 1994)", strength=0.1),
        ToolInfo("tv", ("noise",), "total variation at the estimated noise level (scikit-image)", strength=0.4),
        ToolInfo(
            "dct",
            ("noise",),
            "sliding DCT, hard threshold and Wiener, noise estimated by brightness and frequency",
            cost="medium",
            strength=0.5,
        ),
        ToolInfo("dct-strong", ("noise",), "dct at 1.5 times the estimated noise", cost="medium", strength=0.8),
        ToolInfo(
            "smooth-dct",
            ("compression",),
            "sliding DCT at a fixed low level, for any codec",
            cost="medium",
            strength=0.3,
        ),
        ToolInfo(
            "deblock-dct",
            ("compression",),
            "JPEG: shifted DCT at the quality read off the image (Nosratinia, 2001)",
            cost="medium",
            strength=0.6,
        ),
        ToolInfo("unsharp", ("blur",), "unsharp mask at the estimated width", strength=0.2),
        ToolInfo(
            "richardson-lucy",
            ("blur",),
            "Richardson-Lucy deconvolution of the estimated Gaussian, 15 rounds (scikit-image)",
            cost="medium",
            strength=0.4,
        ),
        ToolInfo("wiener", ("blur",), "Wiener deconvolution of the estimated Gaussian", strength=0.5),
        ToolInfo(
            "deconvolve-gaussian",
            ("blur",),
            "total-variation deconvolution of the estimated Gaussian (FTVd, 2008)",
            cost="medium",
            strength=0.8,
        ),
        ToolInfo(
            "deconvolve-lens",
            ("blur",),
            "total-variation deconvolution of the estimated disk, for defocus",
            cost="medium",
            strength=0.9,
        ),
        ToolInfo("clahe", ("darken",), "local contrast of HSV's V (OpenCV CLAHE), never darker", strength=0.2),
        ToolInfo("stretch", ("darken",), "one gain to the white point", strength=0.4),
        ToolInfo("gamma", ("darken",), "gamma to a natural mean", strength=0.6),
        ToolInfo("shift", ("darken",), "constant added to a natural mean", strength=0.8),
        *(
            ToolInfo(f"{name}-x{scale}", ("low-resolution",), summary, scale=scale, strength=strength)
            for name, summary, strength in (
                ("bicubic", "bicubic interpolation (Keys, 1981), as Pillow's", 0.2),
                ("backproject", "bicubic with iterative back-projection (Irani and Peleg, 1991)", 0.5),
            )
            for scale in (2, 4)
        ),
    )


CLASSICAL: tuple[ToolInfo, ...] = _infos()
"""What is known of each classical tool; `classical_tool` gives the tool."""


def classical_tool(info: ToolInfo) -> Tool:
    """The tool of one of `CLASSICAL`; imports its library."""
    return ClassicalTool(info, _function(info))


def _function(info: ToolInfo) -> Function:
    from iqloop.restorers import blur, compression, light, noise, upscale

    functions: dict[str, Function] = {
        "median-switch": noise.median_switch,
        "tv": noise.total_variation,
        "dct": noise.dct,
        "dct-strong": partial(noise.dct, strength=1.5),
        "smooth-dct": compression.smooth_dct,
        "deblock-dct": compression.deblock_dct,
        "unsharp": blur.unsharp,
        "richardson-lucy": blur.richardson_lucy,
        "wiener": blur.wiener,
        "deconvolve-gaussian": blur.sparse_gaussian,
        "deconvolve-lens": blur.sparse_lens,
        "clahe": light.clahe,
        "stretch": light.stretch,
        "gamma": light.gamma,
        "shift": light.shift,
        "bicubic-x2": partial(upscale.bicubic, scale=2),
        "bicubic-x4": partial(upscale.bicubic, scale=4),
        "backproject-x2": partial(upscale.backproject, scale=2),
        "backproject-x4": partial(upscale.backproject, scale=4),
    }
    return functions[info.name]


def classical_tools() -> list[Tool]:
    """The classical tools that keep the size and are not of cost ``"heavy"`` (10 s a megapixel: 280 ms at side 168).

    The slowest of them, those of the sliding DCT, take some 60 ms on a crop of side 168, the others about 10.
    """
    return [classical_tool(info) for info in CLASSICAL if info.scale == 1 and info.cost != "heavy"]
