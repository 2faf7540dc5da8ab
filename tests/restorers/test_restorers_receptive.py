"""How far a net sees, and that tiles of that overlap change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from iqloop.restorers import load_tool
from iqloop.restorers.receptive import receptive_radius
from iqloop.restorers.spandrel_tool import SpandrelTool
from iqloop.restorers.training.export import export
from iqloop.restorers.training.nets import build_net


def test_of_plain_convolutions() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    assert receptive_radius(net) == 3
    assert receptive_radius(nn.Sequential(net, nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))) == 4
    assert receptive_radius(net, largest=16) == 3


def test_zero_weights_do_not_hide_a_path() -> None:
    net = nn.Conv2d(3, 3, 7, padding=3)
    nn.init.zeros_(net.weight)
    assert receptive_radius(net) == 3
    assert not net.weight.any()


def test_of_nets_that_halve_and_that_pool() -> None:
    sizes: dict[str, Any] = {"width": 8, "encoders": (1, 1), "middle": 1, "decoders": (1, 1)}
    assert receptive_radius(build_net("nafnet", 1, sizes)) is None
    # Two 3 x 3 at the ends; a block on the way down and one on the way up at 1 and at 2 pixels, one at 4; what shares
    # a cell of 4 pixels is seen from all of it.
    assert receptive_radius(build_net("nafnet-local", 1, sizes)) == 2 + 2 * 1 + 2 * 2 + 4


@pytest.mark.parametrize(
    ("name", "scale", "sizes"),
    [
        ("nafnet-local", 1, {"width": 8, "encoders": (1, 1), "middle": 1, "decoders": (1, 1)}),
        ("compact", 2, {"width": 8, "convs": 3}),
    ],
)
@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("size", [(101, 131), (128, 96)])
def test_tiles_of_a_trained_net_equal_the_whole(
    tmp_path: Path, name: str, scale: int, sizes: dict[str, Any], size: tuple[int, int], view: bool
) -> None:
    if view and scale > 1:
        pytest.skip("a net that does not pool")
    # A net that pools is given its means of the whole, shrunk to 64 pixels.
    net = build_net("nafnet" if view else name, scale, sizes)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    radius = receptive_radius(net, pooled=not view)
    assert radius is not None
    said = {"iqloop": "1", "radius": str(radius), "view": "64" if view else "None"}
    file = export(net, tmp_path / "net.safetensors", said)
    image = torch.rand(1, 3, *size, generator=draw)
    whole, tiles = (load_tool(file, tile=tile).restore(image) for tile in (None, 80))
    assert float(whole.std()) > 0.05
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)
    # The check can fail: with less overlap than the net sees, it does.
    loaded = load_tool(file, tile=80)
    assert loaded.view == (64 if view else None)
    blind = SpandrelTool(loaded.info, loaded.descriptor, 40, radius=1).restore(image)
    assert float((blind - whole).abs().max()) > 1e-4


def test_a_view_of_the_whole_is_of_this_image_only(tmp_path: Path) -> None:
    net = build_net("nafnet", 1, {"width": 8, "encoders": (1, 1), "middle": 1, "decoders": (1, 1)})
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    tool = load_tool(export(net, tmp_path / "net.safetensors", {"iqloop": "1", "radius": "14", "view": "64"}))
    first, second = torch.rand(2, 1, 3, 48, 64, generator=draw)
    alone = tool.restore(second * 0.2)
    tool.restore(first)
    assert torch.equal(tool.restore(second * 0.2), alone)
    # As large as the view: what the net itself makes of it.
    with torch.no_grad():
        torch.testing.assert_close(alone, net.eval()(second * 0.2).clamp(0, 1), rtol=0, atol=2e-3)
