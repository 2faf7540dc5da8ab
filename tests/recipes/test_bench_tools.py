"""`bench tools`: figures that scripted tools make predictable, on photographs and on pairs; the table and the plot."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.errors import ToolError, UsageError
from iqloop.recipes import loading
from iqloop.recipes.bench import command as bench
from iqloop.recipes.bench.tools import LEGEND
from iqloop.recipes.bench.tools_plot import front, quality_plot
from iqloop.restorers import TREATMENTS, Registry, ToolEntry, ToolInfo
from iqloop.restorers.degradation import CLEAN, degrade, fits, parse, standard_for
from iqloop.restorers.full_reference import psnr
from iqloop.restorers.measure import PAIRS, Row, markdown, measure, measure_pairs, measure_plan
from tests.conftest import Photograph

from .helpers import lines, run

Bytes = NDArray[np.uint8]


@dataclass
class Scripted:
    """A tool that does what it is told, and remembers what it was given."""

    name: str
    change: Callable[[Bytes], NDArray[Any]] = lambda image: image
    """From the input's 8-bit values to the output's."""
    treats: tuple[Any, ...] = ("noise",)
    scale: int = 1
    given: list[Bytes] = field(default_factory=list)

    @property
    def info(self) -> ToolInfo:
        return ToolInfo(self.name, self.treats, "scripted", scale=self.scale)

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        self.given.append((image[0].permute(1, 2, 0) * 255).round().byte().numpy())
        changed = np.ascontiguousarray(self.change(self.given[-1]), dtype=np.float32)
        return torch.from_numpy(changed).permute(2, 0, 1)[None] / 255


def enlarge(image: Bytes) -> Bytes:
    """By Pillow's bicubic, which is what gains are measured from."""
    size = (2 * image.shape[1], 2 * image.shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


@pytest.fixture
def photos(photograph: Photograph) -> list[Bytes]:
    return [photograph("astronaut", 64), photograph("coffee", 64)]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scripted]:
    """All the tools that the command line knows, by name."""
    known = [
        Scripted("idle"),
        Scripted("darker", lambda image: image * 0.5, ("noise", "darken")),
        Scripted("enlarge", enlarge, ("low-resolution",), 2),
    ]
    registry = Registry(ToolEntry(tool.info, lambda tool=tool: tool) for tool in known)  # type: ignore[misc]
    monkeypatch.setattr(loading, "load_registry", lambda files, device=None, tile="auto": registry)
    return {tool.name: tool for tool in known}


@pytest.fixture
def folder(here: Path, photos: list[Bytes]) -> Path:
    """``photos`` with two clean photographs."""
    return keep(Path("photos"), photos)


@pytest.fixture
def pairs(here: Path, photos: list[Bytes]) -> Path:
    """``pairs`` with two pairs: one noisy, one that differs by nothing."""
    noise = np.random.default_rng(0).normal(0, 10, photos[0].shape)
    keep(Path("pairs/noisy"), [np.clip(photos[0] + noise, 0, 255).astype(np.uint8), photos[1]])
    keep(Path("pairs/clean"), photos, "webp")
    return Path("pairs")


def keep(folder: Path, images: list[Bytes], kind: str = "png") -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.{kind}", lossless=True)
    return folder


def untimed(rows: list[Row]) -> list[Row]:
    return [replace(row, seconds_per_megapixel=0.0) for row in rows]


# ---- degradations by name


def test_standard_damages_are_what_they_say(photos: list[Bytes]) -> None:
    clean = photos[0]

    def damaged(text: str) -> Bytes:
        return degrade(clean, parse(text), 3).given

    np.testing.assert_array_equal(damaged("gaussian-blur:2"), cv2.GaussianBlur(clean, (0, 0), 2))
    coded = io.BytesIO()
    Image.fromarray(clean).save(coded, "JPEG", quality=10, subsampling="4:2:0")
    np.testing.assert_array_equal(damaged("jpeg:10"), np.asarray(Image.open(coded)))
    small = Image.fromarray(clean).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(damaged("bicubic:4"), np.asarray(small))
    np.testing.assert_array_equal(damaged("low-resolution:4"), np.asarray(small))
    np.testing.assert_array_equal(damaged("gamma:2.2"), np.rint((clean / 255) ** 2.2 * 255))
    np.testing.assert_array_equal(damaged("clean"), clean)
    noise = np.random.default_rng(3).standard_normal(clean.shape, dtype=np.float32) * 25
    off = np.abs(damaged("gaussian-noise:25") - np.clip(np.rint(clean + noise), 0, 255))
    assert off.max() <= 1 and (off > 0).mean() < 1e-3, "float32 may round a value the other way"


def test_an_enlargement_is_held_against_a_photograph_that_divides(photos: list[Bytes]) -> None:
    case = degrade(photos[0][:63, :62], ("bicubic", 4), 0)
    assert case.given.shape == (15, 15, 3) and case.truth.shape == case.baseline.shape == (60, 60, 3)
    with pytest.raises(UsageError, match=r"expected a photograph of 4 pixels"):
        degrade(photos[0][:3], ("bicubic", 4), 0)
    with pytest.raises(UsageError, match=r"expected an \(H, W, 3\) uint8"):
        degrade(photos[0][..., 0], CLEAN, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jpeg", "jpeg: jpeg takes a whole quality from 1 to 100, as in jpeg:10"),
        ("jpeg:10.5", "a whole quality"),
        ("jpeg:0", "from 1 to 100"),
        ("gaussian-noise:loud", "gaussian-noise:loud: gaussian-noise takes a standard deviation in grey levels"),
        ("gaussian-noise:nan", "from 0.1 to 255, as in gaussian-noise:25"),
        ("gamma:0.5", "an exponent from 1 to 10, as in gamma:2.2"),
        ("bicubic:5", "bicubic takes a scale, one of 2, 3, 4, 8"),
        ("clean:1", "clean takes no number"),
        ("noise_poisson:6", "noise_poisson takes a severity from 1 to 5"),
        ("noise_poisson", "a severity from 1 to 5"),
        ("gausian-noise:25", "unknown degradation 'gausian-noise': did you mean gaussian-noise"),
        ("", "unknown degradation '': expected one of clean, gaussian-noise"),
    ],
)
def test_a_damage_that_there_is_not(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse(text)


def test_tools_fit_by_treatment_and_scale() -> None:
    noise, dark = Scripted("a").info, Scripted("b", treats=("darken",)).info
    third = Scripted("c", treats=("low-resolution",), scale=3).info
    assert fits(noise, parse("noise_poisson:3")) and not fits(dark, parse("noise_poisson:3"))
    assert fits(dark, parse("brightness_darken_shift_RGB:1")) and fits(dark, parse("pixelate:1")), "none is for pixels"
    assert fits(dark, CLEAN) and not fits(dark, CLEAN, "noise") and not fits(third, CLEAN)
    assert fits(noise, parse("jpeg:10"), "noise") and not fits(noise, parse("jpeg:10"))
    assert standard_for([noise, dark, third]) == [
        *(("gaussian-noise", 25), ("gaussian-noise", 50), ("gamma", 2.2), ("bicubic", 3), CLEAN)
    ]  # fmt: skip
    assert standard_for([noise, dark], "darken") == [("gamma", 2.2), CLEAN]


# ---- figures


def test_doing_nothing_keeps_the_psnr(photos: list[Bytes]) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    rows = measure([Scripted("idle")], photos, [("gaussian-noise", 25), CLEAN])
    golden = [
        peak_signal_noise_ratio(photo, degrade(photo, ("gaussian-noise", 25), i).given)
        for i, photo in enumerate(photos)
    ]
    assert rows[0].psnr_before == rows[0].psnr_after == pytest.approx(np.mean(golden), abs=1e-9)
    assert (rows[0].gain, rows[0].worst, rows[0].worse, rows[0].photographs) == (0, 0, 0, 2)
    # On a clean photograph nothing can be gained: its PSNR counts as 60.
    assert (rows[1].psnr_after, rows[1].worst, rows[1].ssim) == (60, 60, 1)
    assert rows[1].gain is None and rows[1].worse is None and rows[1].psnr_before == float("inf")


def test_known_gains(photos: list[Bytes]) -> None:
    grey = np.full((64, 64, 3), 100, np.uint8)
    half = Scripted("half", lambda image: (image + 100.0) / 2)
    wrong = Scripted("wrong", lambda image: image * 2.0 - 100)
    rows = measure([half, wrong], [grey], [("gaussian-noise", 20)])
    assert rows[0].gain == pytest.approx(20 * np.log10(2), abs=0.1)
    assert rows[1].gain == pytest.approx(-20 * np.log10(2), abs=0.1)
    assert (rows[0].worse, rows[1].worse) == (0, 1) and rows[1].worst == rows[1].gain
    # One photograph that gains and one that loses.
    mixed = measure([half], [grey, photos[0]], [("gaussian-noise", 20)])[0]
    assert mixed.worse == 0.5 and mixed.worst < 0
    bicubic = measure([Scripted("enlarge", enlarge, ("low-resolution",), 2)], photos, [("bicubic", 2)])[0]
    assert bicubic.gain == 0 and bicubic.psnr_before > 20


def test_every_tool_gets_the_same_and_the_first_run_does_not_count(photos: list[Bytes]) -> None:
    one, other = Scripted("one"), Scripted("other")
    told: list[int] = []

    def once() -> Iterator[Bytes]:
        yield from photos

    plan = [(("gaussian-noise", 25), [one, other]), (CLEAN, [one])]
    rows = measure_plan(plan, once(), seed=5, advance=lambda: told.append(1))
    assert [(row.tool, row.degradation) for row in rows] == [
        *(("one", "gaussian-noise"), ("other", "gaussian-noise"), ("one", "clean"))
    ]  # fmt: skip
    assert len(told) == 6 and len(one.given) == 1 + 4 and len(other.given) == 1 + 2
    np.testing.assert_array_equal(one.given[0], one.given[1], "warmed up on what it is measured on")
    np.testing.assert_array_equal(one.given[3], other.given[2])
    np.testing.assert_array_equal(other.given[2], degrade(photos[1], ("gaussian-noise", 25), 6).given)


def test_seeds_repeat(photos: list[Bytes]) -> None:
    def figures(seed: int) -> list[Row]:
        return untimed(measure([Scripted("idle")], photos, [("gaussian-noise", 25), ("noise_impulse", 2)], seed))

    assert figures(1) == figures(1) != figures(2)


def test_a_broken_promise_is_named(photos: list[Bytes]) -> None:
    with pytest.raises(ToolError, match=r"small gave \(32, 32, 3\) for \(64, 64, 3\), expected \(64, 64, 3\)"):
        measure([Scripted("small", lambda image: image[::2, ::2])], photos, [CLEAN])


def test_pairs_need_one_size(photos: list[Bytes]) -> None:
    with pytest.raises(UsageError, match="pair 1: expected two images of one size"):
        measure_pairs([Scripted("idle")], [(photos[0], photos[1][:32])])
    with pytest.raises(UsageError, match="no pairs to measure on"):
        measure_pairs([Scripted("idle")], [])


# ---- the command


def test_photographs(tools: dict[str, Scripted], folder: Path) -> None:
    result = run("bench", "tools", "--photos", folder, "--side", 64, "--json", "-o", "out/t.md", "--plot", "out/q.png")
    assert result.exit_code == 0, result.stderr
    rows = lines(result)
    assert [(row["tool"], row["degradation"], row["severity"]) for row in rows] == [
        ("idle", "gaussian-noise", 25),
        ("darker", "gaussian-noise", 25),
        ("idle", "gaussian-noise", 50),
        ("darker", "gaussian-noise", 50),
        ("darker", "gamma", 2.2),
        ("enlarge", "bicubic", 2),
        ("idle", "clean", 0),
        ("darker", "clean", 0),
    ]
    assert set(rows[0]) == set(Row.__dataclass_fields__)
    assert rows[0]["gain"] == 0 and rows[0]["photographs"] == 2 and rows[6]["psnr_before"] is None
    page = Path("out/t.md").read_text()
    assert "\n\n2 photographs of photos, the middle 64 x 64; seed 0\n" in page and LEGEND in page
    assert page.count("\n| ") == 1 + len(rows)
    with Image.open("out/q.png") as picture:
        picture.load()
        assert picture.format == "PNG" and min(picture.size) > 400 and np.asarray(picture.convert("L")).min() < 100


def test_for_people(tools: dict[str, Scripted], folder: Path) -> None:
    narrow = ("--photos", folder, "--side", "whole", "--limit", 1, "--only", "idle", "--damage", "jpeg:10,clean")
    result = run("bench", "tools", *narrow, "--treatment", "noise")
    assert result.stdout.startswith("1 photographs of photos, whole; seed 0\n")
    assert [line.split(" | ")[:2] for line in result.stdout.splitlines() if line.startswith("| idle")] == [
        ["| idle", "jpeg"],
        ["| idle", "clean"],
    ]
    assert tools["idle"].given[0].shape == (64, 64, 3)


def test_own_photographs(tools: dict[str, Scripted], here: Path) -> None:
    result = run("bench", "tools", "--only", "idle", "--limit", 2, "--damage", "noise_poisson:3", "--json", "--seed", 7)
    assert [row["photographs"] for row in lines(result)] == [2]
    assert {image.shape for image in tools["idle"].given} == {(256, 256, 3)}
    again = run("bench", "tools", "--only", "idle", "--limit", 2, "--damage", "noise_poisson:3", "--json", "--seed", 7)
    assert lines(again)[0]["psnr_before"] == lines(result)[0]["psnr_before"]


def test_progress_and_what_is_left_out(
    tools: dict[str, Scripted], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Scripted("odd", scale=2)
    loading.load_registry(()).add(ToolEntry(odd.info, lambda: odd))
    result = run("bench", "tools", "--photos", folder, "--damage", "clean", "--verbose")
    assert "photograph 2 of 2" in result.stderr
    result = run("bench", "tools", "--photos", folder)
    assert "odd: left out, no damage here is for it (scale 2)" in result.stderr and "| odd" not in result.stdout


def test_threads(tools: dict[str, Scripted], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(cv2, "setNumThreads", asked.append)
    assert run("bench", "tools", "--photos", folder, "--only", "idle", "--threads", 2).exit_code == 0
    assert asked == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "idel"], "no tool named 'idel': did you mean idle?"),
        (["--only", "idle", "--treatment", "blur"], "none of idle treats blur"),
        (["--damage", "jpeg:10"], "jpeg:10: no tool here is for it; --treatment measures"),
        (["--damage", "clean,fog:3"], "unknown degradation 'fog'"),
        (["--side", "63"], "expected a number of pixels from 64 on, or whole, got '63'"),
        (["--photos", "nowhere"], "nowhere is missing: expected a folder of clean photographs"),
        (["--photos", "."], "found none"),
        (["-o", "table.txt"], "expected a name that ends in .md"),
        (["--plot", "plot.jpg"], "expected a name that ends in .png"),
        (["--pairs", "x"], "--pairs needs --treatment"),
        (["--pairs", "x", "--treatment", "noise", "--damage", "clean"], "leave out --photos and --damage"),
        (["--pairs", "x", "--treatment", "noise"], "noisy is missing: expected noisy and clean"),
        (["--pairs", "x", "--treatment", "low-resolution"], "expected tools of scale 1, got none"),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str, tools: dict[str, Scripted], here: Path) -> None:
    result = run("bench", "tools", *arguments)
    assert result.exit_code == 2 and reason in result.stderr, result.stderr


def test_outputs_are_checked_before_the_work(tools: dict[str, Scripted], here: Path) -> None:
    Path("file").write_text("")
    result = run("bench", "tools", "-o", "file/table.md")
    assert result.exit_code == 1 and "to be a folder, but it is a file" in result.stderr
    assert not tools["idle"].given


def test_the_treatments_are_those_of_the_tools() -> None:
    assert bench.TREATMENTS == TREATMENTS


def test_pairs(tools: dict[str, Scripted], pairs: Path, photos: list[Bytes]) -> None:
    result = run("bench", "tools", "--pairs", pairs, "--treatment", "noise", "--json", "--plot", "q.png", "-o", "t.md")
    assert result.exit_code == 0, result.stderr
    idle, darker = lines(result)
    noisy = np.asarray(Image.open(pairs / "noisy/0.png"))
    # The second pair differs by nothing, which counts as 60 dB.
    assert idle["psnr_before"] == idle["psnr_after"] == pytest.approx((psnr(noisy, photos[0]) + 60) / 2)
    assert (idle["gain"], idle["worse"], idle["worst"], idle["degradation"]) == (0, 0, 0, PAIRS)
    assert darker["worse"] == 1 and darker["worst"] < darker["gain"] < 0
    assert "\n\n2 pairs of pairs, the middle 256 x 256\n" in Path("t.md").read_text()
    with Image.open("q.png") as picture:
        assert picture.format == "PNG"
    only = run("bench", "tools", "--pairs", pairs, "--only", "idle", "--limit", 1, "--json")
    assert [row["photographs"] for row in lines(only)] == [1]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda folder: (folder / "clean/1.webp").unlink(),
            "pairs/noisy/1.png: expected an image of that name in both",
        ),
        (
            lambda folder: (folder / "noisy/0.png").unlink(),
            "pairs/clean/0.webp: expected an image of that name in both",
        ),
        (lambda folder: [f.unlink() for f in (folder / "clean").iterdir()], "pairs/clean: expected images"),
        (
            lambda folder: Image.new("RGB", (64, 70)).save(folder / "clean/1.webp"),
            "pairs/noisy/1.png: 64 x 64 pixels, clean has 64 x 70",
        ),
        (
            lambda folder: Image.new("RGB", (64, 64)).save(folder / "clean/1.png"),
            "expected one image of a name, whatever its format",
        ),
    ],
)
def test_pairs_that_are_none(
    spoil: Callable[[Path], object], reason: str, tools: dict[str, Scripted], pairs: Path
) -> None:
    spoil(pairs)
    result = run("bench", "tools", "--pairs", pairs, "--treatment", "noise")
    assert result.exit_code == 2 and reason in result.stderr, result.stderr
    assert not tools["idle"].given


# ---- what is shown


def row(tool: str, gain: float, seconds: float, degradation: str = "jpeg") -> Row:
    return Row(tool, degradation, 10, 25, 25 + gain, 0.8, gain - 1, seconds, gain, 0.25, 4)


def test_the_front_is_what_none_beats() -> None:
    rows = [row("slow", 2, 3), row("quick", 1, 0.1), row("late", 1, 0.2), row("bad", 0.5, 0.3), row("best", 2, 2)]
    assert [one.tool for one in front(rows)] == ["quick", "best"]


def test_labels_keep_apart() -> None:
    """Twelve tools that are nearly one: no name lies on another."""
    rows = [row(f"a-tool-of-a-name-{i}", 1 + i / 1000, 1 + i / 100) for i in range(12)]
    figure = quality_plot(rows)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(one.tool for one in rows)
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width <= 1 or height <= 1


def test_markdown_says_a_gain_with_its_sign() -> None:
    clean = replace(row("tv", 0, 1, "clean"), psnr_before=float("inf"), gain=None, worse=None, worst=41.5)
    table = markdown([row("tv", 1.5, 0.0123), clean]).splitlines()
    assert table[2] == "| tv | jpeg | 10 | 25.00 | 26.50 | +1.50 | +0.50 | 25 % | 0.800 | 0.0123 |"
    assert table[3] == "| tv | clean | 10 |  | 25.00 |  | 41.50 |  | 0.800 | 1 |"


def test_json_has_no_infinity(tools: dict[str, Scripted], folder: Path) -> None:
    result = run("bench", "tools", "--photos", folder, "--damage", "clean", "--only", "idle", "--json")
    (only,) = [json.loads(line, parse_constant=pytest.fail) for line in result.stdout.splitlines()]
    assert only["psnr_before"] is None and only["seconds_per_megapixel"] > 0
