"""The nets in the package: they load as any model file does, they repair, and they leave alone what has no fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iqloop import distort, io
from iqloop.distort import standard
from iqloop.errors import ToolError
from iqloop.restorers import SpandrelTool, default_registry, restore_photo
from iqloop.restorers.embedded import FOLDER, embedded, embedded_tool
from iqloop.restorers.full_reference import psnr

Bytes = NDArray[np.uint8]
NAMES = [info.name for info in embedded()]
SAME_SIZE = [info.name for info in embedded() if info.scale == 1]


@cache
def net(name: str, tile: int | None = None) -> SpandrelTool:
    torch.set_num_threads(1)
    return embedded_tool(next(info for info in embedded() if info.name == name), tile=tile)


def run(name: str, image: Bytes, tile: int | None = None) -> Bytes:
    result = net(name, tile).restore(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255)
    restored: Bytes = np.rint(result[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return restored


@pytest.fixture(scope="module")
def photographs(photograph: Callable[..., Bytes]) -> list[Bytes]:
    return [photograph(name, 128, 60, 140) for name in ("astronaut", "coffee", "chelsea")]


def test_all_are_there_and_small() -> None:
    files = sorted(FOLDER.glob("*"))
    assert [file.stem for file in files] == sorted(NAMES)
    assert sum(file.stat().st_size for file in files) <= 8_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_what_the_file_is(name: str) -> None:
    registry = default_registry(plugins=False)
    info, tool = registry.info(name), registry.get(name)
    assert isinstance(tool, SpandrelTool) and tool.info == info
    assert info.scale == tool.descriptor.scale and len(info.version) == 16
    # What the file says of itself, if it is loaded by its path like anyone's.
    other = registry.add_file(f"mine={FOLDER / f'{name}.safetensors'}")
    assert other.treats == info.treats and other.weights_licence == info.weights_licence == "Apache-2.0"
    assert tool.radius is not None, "tiles would change the result"


Damage = Callable[[Bytes, np.random.Generator], Bytes]
GAINS: list[tuple[str, Damage, float]] = [
    ("denoise", lambda x, rng: standard.gaussian_noise(x, rng, 25), 7.0),
    ("denoise", lambda x, rng: standard.gaussian_noise(x, rng, 50), 8.0),
    ("dejpeg", lambda x, rng: standard.jpeg(x, rng, 10), 0.6),
    ("deblur", lambda x, rng: standard.gaussian_blur(x, rng, 2.0), 1.0),
    ("lowlight", lambda x, rng: standard.gamma(x, rng, 2.2), 4.0),
]


@pytest.mark.parametrize(("name", "damage", "least"), GAINS)
def test_repairs(photographs: list[Bytes], name: str, damage: Damage, least: float) -> None:
    gains = []
    for i, clean in enumerate(photographs):
        given = damage(clean, np.random.default_rng(i))
        gains.append(psnr(run(name, given), clean) - psnr(given, clean))
    assert np.mean(gains) > least and min(gains) > 0, gains


@pytest.mark.parametrize(("name", "scale"), [("upscale-x2", 2), ("upscale-x4", 4)])
def test_enlarges_better_than_bicubic(photographs: list[Bytes], name: str, scale: int) -> None:
    from PIL import Image

    gains = []
    for clean in photographs:
        small = distort.downsample(clean, scale, "bicubic")
        bicubic = np.array(Image.fromarray(small).resize(clean.shape[1::-1], Image.Resampling.BICUBIC))
        gains.append(psnr(run(name, small), clean) - psnr(bicubic, clean))
    assert np.mean(gains) > 0.4 and min(gains) > 0, gains


@pytest.mark.parametrize("name", [name for name in SAME_SIZE if name != "lowlight"])
def test_leaves_clean_photographs_alone(photographs: list[Bytes], name: str) -> None:
    assert np.mean([min(psnr(run(name, clean), clean), 60) for clean in photographs]) >= 38


@pytest.mark.parametrize("name", NAMES)
def test_tiles_change_nothing(photographs: list[Bytes], name: str) -> None:
    image = torch.from_numpy(np.concatenate(photographs, axis=1)[:120, :330].copy()).permute(2, 0, 1)[None] / 255
    whole, tiles = net(name).restore(image), net(name, 200).restore(image)
    assert float((whole - tiles).abs().max()) < 0.1 / 255


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (3, 17), (33, 8)])
def test_takes_any_size(name: str, size: tuple[int, int]) -> None:
    scale = net(name).info.scale
    result = net(name).restore(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
    assert result.shape == (1, 3, size[0] * scale, size[1] * scale) and torch.isfinite(result).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_sixteen_bits_grey_and_alpha_in_real_files(tmp_path: Path, photographs: list[Bytes], mode: str) -> None:
    deep: Any = photographs[0][:48, :40].astype(np.uint16) * 257
    deep = deep[..., :1] if mode[0] == "L" else deep
    if mode[-1] == "A":
        alpha = np.linspace(0, 65535, 48 * 40).reshape(48, 40, 1).astype(np.uint16)
        deep = np.concatenate([deep, alpha], axis=-1)
    noisy = deep.copy()
    colour = slice(0, 1 if mode[0] == "L" else 3)
    noise = np.random.default_rng(0).normal(0, 3000, (48, 40, 1))
    noisy[..., colour] = np.clip(deep[..., colour] + noise, 0, 65535)
    photo = io.read(noisy)
    assert photo.bit_depth == 16 and photo.greyscale == (mode[0] == "L")
    io.write(restore_photo(net("denoise"), photo), tmp_path / "out.png")
    back = io.read(tmp_path / "out.png")
    assert back.bit_depth == 16 and back.greyscale == photo.greyscale
    values = (back.pixels * 65535).round().to(torch.int32)
    # More than 8 bits: the low bytes are used, as many values as a photograph has.
    assert len(torch.unique(values % 257)) > 100
    truth = io.read(deep).pixels
    before, after = ((x.pixels - truth).square().mean() for x in (photo, back))
    assert float(after) < 0.6 * float(before)
    if mode[-1] == "A":
        assert photo.alpha is not None and back.alpha is not None
        torch.testing.assert_close(back.alpha, photo.alpha, rtol=0, atol=1e-6)


def test_a_missing_file_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("iqloop.restorers.embedded.FOLDER", tmp_path)
    with pytest.raises(ToolError, match=r"denoise\.safetensors: no such file"):
        embedded_tool(embedded()[0])
