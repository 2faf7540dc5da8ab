"""The nets that come in the package: trained by `iqloop train restorer`, files like any other that spandrel knows.

Data, budget and figures of each are in docs/models/restorers.md.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from iqloop.restorers.checksum import file_sha256
from iqloop.restorers.spandrel_tool import SpandrelTool, load_tool
from iqloop.restorers.tool import ToolInfo, Treatment

FOLDER = Path(__file__).parents[1] / "weights" / "restorers"
"""Where their files are, ``NAME.safetensors``."""
LICENCE = "Apache-2.0"

_NETS: tuple[tuple[str, Treatment, int, str], ...] = (
    ("denoise", "noise", 1, "NAFNet, any noise to sigma 55: Gaussian, Poisson, speckle, impulse, correlated"),
    ("dejpeg", "compression", 1, "NAFNet, JPEG from quality 5 on, also saved twice; JPEG 2000"),
    ("deblur", "blur", 1, "NAFNet, Gaussian blur to sigma 3.5, lens, motion"),
    ("lowlight", "darken", 1, "NAFNet, gamma and shift, with the noise of dark places"),
    ("upscale-x2", "low-resolution", 2, "Compact (Real-ESRGAN's small net), trained for fidelity"),
    ("upscale-x4", "low-resolution", 4, "Compact (Real-ESRGAN's small net), trained for fidelity"),
)


def embedded() -> tuple[ToolInfo, ...]:
    """What is known of each, without loading it."""
    return tuple(
        ToolInfo(
            name=name,
            treats=(treats,),
            summary=f"{summary}; trained here",
            scale=scale,
            weights_licence=LICENCE,
            cost="medium" if scale == 1 else "light",
            version=_version(FOLDER / f"{name}.safetensors"),
            strength=None,
        )
        for name, treats, scale, summary in _NETS
    )


def embedded_tool(info: ToolInfo, device: str | torch.device = "cpu", tile: int | str | None = "auto") -> SpandrelTool:
    """Load one of `embedded`. Raises `ToolError` when the package's file is missing or damaged."""
    return load_tool(FOLDER / f"{info.name}.safetensors", tile=tile, device=device).described(info)


@cache
def _version(path: Path) -> str:
    """The beginning of the file's SHA-256, as of any model file; of a file that is missing, nothing."""
    return file_sha256(path)[:16] if path.is_file() else "missing"
