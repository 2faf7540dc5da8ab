"""A picture in the running: its pixels, its name by content, and where it comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from iqloop.restorers.tool import Treatment


@dataclass(frozen=True, eq=False)
class Candidate:
    """One image of a run. Candidate ``c0`` is the input."""

    id: str
    """``c0``, ``c1``, ... in the order in which they were made."""
    image: Tensor
    """``(3, H, W)``, sRGB in [0, 1]."""
    sha256: str
    """`pixel_hash` of the image."""
    tools: tuple[str, ...] = ()
    """Accepted tools that led from the input to it, and its own, in order."""
    treated: tuple[Treatment, ...] = ()
    """What those tools were meant to mend, in the same order."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


def pixel_hash(image: Tensor) -> str:
    """SHA-256 of an image's shape and of its values as little-endian float32: 64 hexadecimal digits.

    Two images have one hash exactly when their float32 pixels are equal.
    """
    values = image.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.sha256(repr(tuple(values.shape)).encode())
    digest.update(values.numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()
