"""The same properties for every classical tool, and each one's gain on its own degradation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iqloop import distort
from iqloop.errors import ToolError, UsageError
from iqloop.restorers import CLASSICAL, ClassicalTool, Tool, ToolInfo, classical_tool
from iqloop.restorers.blur import added_blur
from iqloop.restorers.compression import jpeg_quality
from iqloop.restorers.estimate import blur_sigma, noise_level_function, noise_sigma
from iqloop.restorers.full_reference import psnr
from iqloop.restorers.measure import markdown, measure

TOOLS = [pytest.param(classical_tool(info), id=info.name) for info in CLASSICAL]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos() -> list[NDArray[np.uint8]]:
    """Crops of the photographs that scikit-image brings along."""
    from skimage import data

    return [data.astronaut()[30:222, 120:312], data.coffee()[100:292, 200:392], data.chelsea()[60:252, 100:292]]


def to_float(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return image.astype(np.float32) / np.float32(255)


def image(height: int = 40, width: int = 56) -> torch.Tensor:
    """Smooth waves with noise: something for every tool to do."""
    torch.manual_seed(0)
    y = torch.linspace(0, 6, height)[:, None]
    x = torch.linspace(0, 9, width)[None]
    waves = torch.stack([torch.sin(x + y), torch.cos(x - y), torch.sin(x * y / 4)]) * 0.25 + 0.35
    return (waves + 0.08 * torch.randn(3, height, width)).clamp(0, 1)[None]


@pytest.mark.parametrize("tool", TOOLS)
class TestEveryTool:
    def test_keeps_the_contract(self, tool: Tool) -> None:
        given = image()
        kept = given.clone()
        result = tool.restore(given)
        assert isinstance(tool, Tool)
        assert result.shape == (1, 3, 40 * tool.info.scale, 56 * tool.info.scale)
        assert result.dtype == torch.float32 and result.is_contiguous()
        assert float(result.min()) >= 0 and float(result.max()) <= 1
        assert torch.equal(given, kept), "the tool wrote into its input"

    def test_does_the_same_twice(self, tool: Tool) -> None:
        assert not tool.info.seeded
        assert torch.equal(tool.restore(image(), seed=1), tool.restore(image(), seed=2))

    def test_keeps_type(self, tool: Tool) -> None:
        assert tool.restore(image(16, 16).double()).dtype == torch.float64

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 500), (7, 8), (8, 8), (17, 16), (2000, 10)])
    def test_survives_odd_sizes(self, tool: Tool, size: tuple[int, int]) -> None:
        result = tool.restore(image(*size))
        assert result.shape[-2:] == (size[0] * tool.info.scale, size[1] * tool.info.scale)
        assert torch.isfinite(result).all()

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_survives_flat_images(self, tool: Tool, value: float) -> None:
        result = tool.restore(torch.full((1, 3, 24, 24), value))
        assert float((result - result.mean()).abs().max()) < 0.01
        if "darken" not in tool.info.treats:
            assert float((result - value).abs().max()) < 0.01

    @pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)])
    def test_refuses_other_shapes(self, tool: Tool, shape: tuple[int, ...]) -> None:
        with pytest.raises(ToolError, match=r"expects one RGB image \(1, 3, H, W\), got shape"):
            tool.restore(torch.zeros(shape))

    def test_refuses_integers(self, tool: Tool) -> None:
        with pytest.raises(ToolError, match="divide 8-bit values by 255"):
            tool.restore(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))

    def test_survives_numbers_out_of_range(self, tool: Tool) -> None:
        given = image(16, 16)
        given[0, 0, 3, 3], given[0, 1, 4, 4] = float("nan"), 7.0
        assert torch.isfinite(tool.restore(given)).all()


GAINS = [
    ("median-switch", "noise_impulse", 2, 10.0),
    ("median-switch", "noise_impulse", 5, 10.0),
    ("dct", "noise_gaussian_RGB", 2, 5.0),
    ("dct", "noise_poisson", 3, 5.0),
    ("dct", "noise_spatially_correlated", 3, 1.0),
    ("dct-strong", "noise_speckle", 3, 5.0),
    ("tv", "noise_gaussian_RGB", 3, 5.0),
    ("deblock-dct", "compression_jpeg", 2, 0.4),
    ("deblock-dct", "compression_jpeg", 5, 0.4),
    ("smooth-dct", "compression_jpeg", 3, 0.1),
    ("unsharp", "blur_gaussian", 2, 0.3),
    ("richardson-lucy", "blur_gaussian", 2, 0.8),
    ("wiener", "blur_gaussian", 2, 1.0),
    ("deconvolve-gaussian", "blur_gaussian", 3, 1.0),
    ("deconvolve-lens", "blur_lens", 3, 0.5),
    ("gamma", "brightness_darken_gamma_RGB", 4, 3.0),
    ("shift", "brightness_darken_shfit_RGB", 3, 2.0),
    ("stretch", "brightness_darken_shfit_HSV", 2, 1.0),
    ("clahe", "brightness_darken_gamma_HSV", 3, 0.5),
    ("backproject-x2", "low-resolution", 2, 0.5),
    ("backproject-x4", "low-resolution", 4, 0.2),
    ("bicubic-x2", "low-resolution", 2, -0.05),
    ("bicubic-x4", "low-resolution", 4, -0.05),
]


@pytest.mark.parametrize(("name", "degradation", "severity", "least"), GAINS)
def test_gains(photos: list[NDArray[np.uint8]], name: str, degradation: str, severity: float, least: float) -> None:
    tool = classical_tool(next(info for info in CLASSICAL if info.name == name))
    row = measure([tool], photos, [(degradation, severity)])[0]
    assert row.psnr_after - row.psnr_before > least, row


def test_every_tool_is_in_the_gains() -> None:
    assert {name for name, *_ in GAINS} == {info.name for info in CLASSICAL}


@pytest.mark.parametrize("info", [i for i in CLASSICAL if i.treats[0] in ("noise", "blur", "compression")])
def test_does_little_harm(photos: list[NDArray[np.uint8]], info: ToolInfo) -> None:
    # Mean over photographs; single ones of grass or sand look like noise to any estimate.
    assert measure([classical_tool(info)], photos, [("clean", 0)])[0].psnr_after > 33


@pytest.mark.parametrize("info", [i for i in CLASSICAL if i.treats == ("darken",)])
def test_light_never_darkens(photos: list[NDArray[np.uint8]], info: ToolInfo) -> None:
    for photo in photos:
        given = torch.from_numpy(to_float(photo)).permute(2, 0, 1)[None]
        assert float((classical_tool(info).restore(given) - given).min()) > -1e-5


def test_median_switch_touches_only_impulses(photos: list[NDArray[np.uint8]]) -> None:
    damaged = distort.apply(photos[0], "noise_impulse", 5, seed=3)
    tool = classical_tool(CLASSICAL[0])
    given = torch.from_numpy(to_float(damaged)).permute(2, 0, 1)[None]
    changed = tool.restore(given) != given
    assert not changed[(given > 3 / 255) & (given < 252 / 255)].any()


def test_sixteen_bits_survive() -> None:
    # An image without noise, blur or blocks comes back bit for bit, values between eighths of a bit too.
    ramp = torch.linspace(0.2, 0.8, 96 * 96).reshape(1, 1, 96, 96).repeat(1, 3, 1, 1)
    for info in CLASSICAL:
        if info.name in ("median-switch", "tv", "deblock-dct"):
            assert torch.equal(classical_tool(info).restore(ramp), ramp), info.name


@pytest.mark.parametrize("sigma", [0.05, 0.15])
def test_noise_is_measured(photos: list[NDArray[np.uint8]], sigma: float) -> None:
    rng = np.random.default_rng(0)
    flat = np.full((96, 96, 3), 0.5, np.float32) + rng.normal(0, sigma, (96, 96, 3)).astype(np.float32)
    assert noise_sigma(flat.clip(0, 1)) == pytest.approx(sigma, rel=0.1)
    real = to_float(photos[0]) + rng.normal(0, sigma, photos[0].shape).astype(np.float32)
    assert noise_sigma(real) == pytest.approx(sigma, rel=0.2)


def test_noise_follows_brightness() -> None:
    rng = np.random.default_rng(0)
    steps = np.repeat(np.linspace(0.1, 0.8, 8, dtype=np.float32), 24)[None, :, None] * np.ones((96, 1, 3), np.float32)
    a, b, c = noise_level_function(steps + 0.1 * steps * rng.standard_normal(steps.shape, dtype=np.float32))
    assert np.sqrt(a + b * 0.7 + c * 0.49) == pytest.approx(0.07, rel=0.15)
    assert np.sqrt(a + b * 0.2 + c * 0.04) == pytest.approx(0.02, rel=0.35)


@pytest.mark.parametrize("quality", [5, 12, 25, 60, 75])
@pytest.mark.parametrize("crop", [(0, 0), (3, 5)])
def test_jpeg_quality_is_read(photos: list[NDArray[np.uint8]], quality: int, crop: tuple[int, int]) -> None:
    from iqloop.distort.compression import jpeg

    seen = jpeg_quality(to_float(jpeg(photos[1], quality)[crop[0] :, crop[1] :]))
    assert seen is not None
    assert abs(seen[0] - quality) <= 2
    assert seen[1] == (-crop[0] % 8, -crop[1] % 8)


def test_no_jpeg_is_seen_where_there_is_none(photos: list[NDArray[np.uint8]]) -> None:
    assert jpeg_quality(np.random.default_rng(0).random((96, 96, 3), np.float32)) is None
    assert jpeg_quality(to_float(distort.apply(photos[0], "noise_gaussian_RGB", 2))) is None


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_blur_is_measured(photos: list[NDArray[np.uint8]], sigma: float) -> None:
    found = [blur_sigma(to_float(distort.apply(p, "blur_gaussian", sigma))) for p in photos[:2]]
    assert np.mean(found) == pytest.approx(sigma, rel=0.25)


def test_no_blur_is_undone_in_noise(photos: list[NDArray[np.uint8]]) -> None:
    assert added_blur(to_float(distort.apply(photos[0], "noise_gaussian_RGB", 2))) == 0


def test_deconvolution_does_not_ring_at_the_frame() -> None:
    ramp = np.linspace(0.1, 0.9, 64, dtype=np.float32)[None, :, None] * np.ones((64, 1, 3), np.float32)
    ramp[24:40, 24:40] = 0.95
    import cv2

    blurred = np.asarray(cv2.GaussianBlur(ramp, (0, 0), 2.0), np.float32)
    for info in CLASSICAL:
        if info.treats == ("blur",):
            given = torch.from_numpy(blurred).permute(2, 0, 1)[None]
            frame = (classical_tool(info).restore(given) - given)[..., :4, :]
            assert float(frame.abs().max()) < 0.05, info.name


def test_a_failing_function_is_a_tool_error() -> None:
    def broken(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise ValueError("no luck")

    with pytest.raises(ToolError, match=r"broken failed on .*no luck"):
        ClassicalTool(ToolInfo("broken", ("noise",), "fails"), broken).restore(image())


def test_measure_and_markdown(photos: list[NDArray[np.uint8]]) -> None:
    tools = [classical_tool(i) for i in CLASSICAL if i.name in ("tv", "bicubic-x2")]
    rows = measure(tools, photos[:1], [("clean", 0), ("noise_poisson", 1), ("low-resolution", 2)])
    assert [(r.tool, r.degradation) for r in rows] == [
        ("tv", "clean"),
        ("tv", "noise_poisson"),
        ("bicubic-x2", "low-resolution"),
    ]
    assert markdown(rows).count("\n") == 4
    assert all(0 < r.ssim <= 1 and r.seconds_per_megapixel > 0 for r in rows)
    with pytest.raises(UsageError, match="no photographs"):
        measure(tools, [], [("clean", 0)])


def test_psnr_of_equal_images_is_infinite(photos: list[NDArray[np.uint8]]) -> None:
    assert psnr(photos[0], photos[0]) == float("inf")
