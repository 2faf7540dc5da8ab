"""Tiles: equal sizes, no seams, one at a time, halved when memory runs out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from iqloop.errors import ToolError
from iqloop.restorers.tiling import SMALLEST, auto_tile, is_out_of_memory, spans, tiled


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def network(scale: int) -> nn.Module:
    """Receptive field: 4 pixels on each side."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3 * scale**2, 5, padding=2)]
    return nn.Sequential(*layers, nn.PixelShuffle(scale)).eval()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(100, 70), (33, 150), (64, 64)])
@pytest.mark.parametrize("tile", [48, 50, 64])
def test_equals_the_whole(scale: int, size: tuple[int, int], tile: int) -> None:
    model, image = network(scale), torch.rand(1, 3, *size)
    with torch.no_grad():
        whole, parts = model(image), tiled(model, image, scale, tile, overlap=16)
    assert parts.shape == whole.shape
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5)


def test_blends_smoothly_where_tiles_disagree() -> None:
    # A model that adds the mean of its tile: hard seams would jump by the difference of two means.
    image = torch.linspace(0, 1, 128)[None, None, None].expand(1, 3, 64, 128).contiguous()
    result = tiled(lambda x: x + x.mean(), image, 1, 64, overlap=32)
    assert float(result.diff(dim=-1).abs().max()) < 0.06


@pytest.mark.parametrize("length", [1, 5, 63, 64, 65, 100, 127, 128, 129, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 16), (32, 0), (32, 31), (1, 0), (48, 200)])
def test_spans_cover_with_equal_sizes(length: int, tile: int, overlap: int) -> None:
    parts = spans(length, tile, overlap)
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert len({stop - start for start, stop in parts}) == 1
    assert all(stop - start <= tile for start, stop in parts)
    shared = min(overlap, tile // 2)
    assert all(a[1] - b[0] >= shared - 1 for a, b in itertools.pairwise(parts))


@pytest.mark.parametrize("overlap", [0, 1, 2, 3])
def test_small_overlaps_leave_no_hole(overlap: int) -> None:
    image = torch.rand(1, 3, 70, 90)
    torch.testing.assert_close(tiled(lambda x: x, image, 1, 32, overlap), image)


def test_gives_one_tile_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    def model(part: Tensor) -> Tensor:
        seen.append(tuple(part.shape))
        return part

    tiled(model, torch.rand(1, 3, 100, 100), 1, 40, 8)
    assert len(seen) == 9
    assert all(shape[0] == 1 and max(shape[2:]) <= 40 for shape in seen)


class Greedy:
    """Runs out of memory above a number of pixels."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.most, self.error = most, error

    def __call__(self, part: Tensor) -> Tensor:
        if part.shape[-1] * part.shape[-2] > self.most:
            raise self.error("DefaultCPUAllocator: can't allocate memory")
        return part


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("tile", [None, 128])
def test_halves_when_out_of_memory(error: type[Exception], tile: int | None) -> None:
    image, said = torch.rand(1, 3, 150, 200), list[str]()
    result = tiled(Greedy(40 * 40, error), image, 1, tile, 8, said.append)
    torch.testing.assert_close(result, image)
    assert said and "out of memory with tiles of" in said[0]


def test_warns_of_halving() -> None:
    with pytest.warns(RuntimeWarning, match="out of memory with tiles of 100 pixels: trying 50"):
        tiled(Greedy(50 * 50), torch.rand(1, 3, 100, 100), 1, None, 8)


def test_gives_up_at_the_smallest_tile() -> None:
    with pytest.raises(ToolError, match="out of memory even with tiles of"):
        tiled(Greedy(8), torch.rand(1, 3, 100, 100), 1, 2 * SMALLEST, 8, lambda _: None)


def test_other_errors_pass() -> None:
    def model(_: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        tiled(model, torch.rand(1, 3, 10, 10), 1, None, 8)
    assert not is_out_of_memory(ValueError("bad"))


def test_refuses_output_of_another_size() -> None:
    with pytest.raises(ToolError, match=r"gave \(5, 5\) for a tile that should become \(10, 10\)"):
        tiled(lambda x: x[..., ::2, ::2], torch.rand(1, 3, 10, 10), 1, None, 8)


def test_auto_tile_follows_memory() -> None:
    assert auto_tile(1000, 1e9) == 880
    assert auto_tile(1000, 1) == 64
    assert auto_tile(10, 1e12) is None
