"""What a restoration tool is: the data about it, and the one thing it does.

A tool takes and gives float tensors ``(1, 3, H, W)``, sRGB in [0, 1]. The output is ``scale`` times as high and wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

from torch import Tensor

from iqloop.errors import ToolError, UsageError

Treatment = Literal["noise", "blur", "compression", "darken", "low-resolution"]
"""A perceived degradation that a tool is made for; ``"low-resolution"`` is what ``--scale`` asks to be mended."""
Cost = Literal["light", "medium", "heavy"]
"""Order of magnitude on two CPU cores: below 1, below 10, above 10 seconds per output megapixel."""

TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)


@dataclass(frozen=True)
class ToolInfo:
    """What is known of a tool before it is loaded."""

    name: str
    treats: tuple[Treatment, ...]
    """The degradations it is meant for; at least one."""
    summary: str
    """One line for ``iqloop tools``: method, source (paper or library function)."""
    scale: int = 1
    """Output size over input size: 1, 2, 3, 4 or 8."""
    code_licence: str = "Apache-2.0"
    """SPDX identifier of the implementation that runs."""
    weights_licence: str | None = None
    """SPDX identifier of the weights; None for a tool without weights."""
    cost: Cost = "light"
    seeded: bool = False
    """True when the output depends on the seed; a tool that is not seeded is deterministic."""
    version: str = "1"
    """Changes when the output for the same input would change; part of every cache key."""
    strength: float | None = 0.5
    """How strong the treatment is in [0, 1]: orders tools of one treatment from gentle to strong. None for a tool that
    finds the strength in the image; it comes before the others."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.treats) - set(TREATMENTS))
        if not self.treats or unknown:
            raise UsageError(f"tool {self.name!r}: treats must name some of {TREATMENTS}, got {self.treats}")
        if self.scale not in (1, 2, 3, 4, 8):
            raise UsageError(f"tool {self.name!r}: scale must be 1, 2, 3, 4 or 8, got {self.scale}")


@runtime_checkable
class Tool(Protocol):
    """Something that restores an image."""

    @property
    def info(self) -> ToolInfo:
        """What is known of it."""
        ...

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        """Restore ``image`` ``(1, 3, H, W)`` in [0, 1]; returns ``(1, 3, H * scale, W * scale)`` in [0, 1].

        Raises `iqloop.errors.ToolError` when the image does not fit the tool.
        """
        ...


def check_image(image: Tensor, name: str) -> None:
    """Raise `ToolError`, naming the tool, unless ``image`` is a float tensor ``(1, 3, H, W)`` with a pixel in it."""
    if image.ndim != 4 or image.shape[:2] != (1, 3) or 0 in image.shape:
        raise ToolError(f"{name} expects one RGB image (1, 3, H, W), got shape {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ToolError(
            f"{name} expects floating-point values in [0, 1], got {image.dtype}: divide 8-bit values by 255"
        )
