"""Photographs through tools: alpha, greyscale, 16 bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from iqloop.errors import ToolError
from iqloop.restorers import ToolInfo, default_registry, restore_photo


@dataclass(frozen=True)
class FakePhoto:
    """The part of `iqloop.io.Photo` that a tool meets."""

    pixels: Tensor
    alpha: Tensor | None = None
    greyscale: bool = False
    bit_depth: int = 8

    def with_pixels(self, pixels: Tensor, alpha: Tensor | None) -> FakePhoto:
        return replace(self, pixels=pixels, alpha=alpha)


class Tint:
    """Makes everything redder; notes the seed."""

    info = ToolInfo("tint", ("noise",), "")

    def __init__(self) -> None:
        self.seed: int | None = None

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        self.seed = seed
        return image.mul_(torch.tensor([1.0, 0.5, 0.5])[None, :, None, None])


def photo(**changes: Any) -> Any:
    return FakePhoto(torch.rand(3, 10, 12, generator=torch.Generator().manual_seed(0)), **changes)


def test_enlarges_colour_and_alpha() -> None:
    tool = default_registry(plugins=False).get("backproject-x4")
    alpha = torch.zeros(1, 10, 12)
    alpha[:, 3:7] = 1
    result = restore_photo(tool, photo(alpha=alpha))
    assert result.pixels.shape == (3, 40, 48) and result.alpha is not None
    assert result.alpha.shape == (1, 40, 48)
    assert float(result.alpha.min()) == 0 and float(result.alpha.max()) == 1


def test_keeps_alpha_and_input_untouched() -> None:
    given = photo(alpha=torch.rand(1, 10, 12), bit_depth=16)
    kept, tool = given.pixels.clone(), Tint()
    result = restore_photo(tool, given, seed=5)
    assert result.alpha is given.alpha and result.bit_depth == 16 and tool.seed == 5
    assert torch.equal(given.pixels, kept)


def test_grey_stays_grey() -> None:
    grey = torch.rand(1, 10, 12).expand(3, -1, -1)
    result = restore_photo(Tint(), replace(photo(), pixels=grey, greyscale=True))
    assert torch.equal(result.pixels[0], result.pixels[1]) and torch.equal(result.pixels[1], result.pixels[2])
    torch.testing.assert_close(result.pixels[0], grey[0] * 2 / 3)


def test_refuses_a_broken_promise() -> None:
    class Cropper(Tint):
        def restore(self, image: Tensor, seed: int = 0) -> Tensor:
            return image[..., 1:, :]

    with pytest.raises(ToolError, match=r"tint gave shape \(1, 3, 9, 12\), expected \(1, 3, 10, 12\)"):
        restore_photo(Cropper(), photo())


def test_takes_a_real_photo() -> None:
    import numpy as np

    io = pytest.importorskip("iqloop.io")
    if not hasattr(io, "read"):
        pytest.skip("iqloop.io has no reader yet")
    real = io.read(np.zeros((8, 9, 4), np.uint8))
    result = restore_photo(default_registry(plugins=False).get("bicubic-x2"), real)
    assert result.alpha is not None
    assert result.pixels.shape == (3, 16, 18) and result.alpha.shape == (1, 16, 18)
