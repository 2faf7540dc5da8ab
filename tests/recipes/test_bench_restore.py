"""`bench restore`: mixtures as data, rows that can be checked by hand, intervals, resuming, the page and the plots."""

from __future__ import annotations

import json
import multiprocessing.dummy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.critic import known
from iqloop.critic.evaluation.bootstrap import ratio
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Provenance, Rating, Unparsed
from iqloop.distort import CATEGORIES
from iqloop.errors import UsageError
from iqloop.recipes.bench.measured import with_remarks
from iqloop.recipes.bench.restore import mixtures as bench_mixtures
from iqloop.recipes.bench.restore import workers
from iqloop.recipes.bench.restore.figures import ALL, DARK, LIT, agreement, figures, subsets, worst
from iqloop.recipes.bench.restore.judge import Judged
from iqloop.recipes.bench.restore.measure import METHODS, Row, rows_of
from iqloop.recipes.bench.restore.mixtures import damage, draw, draw_seed
from iqloop.recipes.bench.restore.page import LEGEND
from iqloop.restorers import Registry, ToolEntry, ToolInfo
from iqloop.restorers.full_reference import gmsd, nearness, psnr, ssim
from tests.conftest import Photograph

from .helpers import lines, run

Bytes = NDArray[np.uint8]
SIDE = 64
TREATS = {"denoise": "noise", "dejpeg": "compression", "deblur": "blur", "lowlight": "darken"}


@dataclass
class Toy:
    """A tool that pulls an image towards something, under the name of a net of the package."""

    name: str
    change: Callable[[Tensor], Tensor]
    calls: int = 0

    @property
    def info(self) -> ToolInfo:
        return ToolInfo(self.name, (TREATS[self.name],), "toy", strength=None)  # type: ignore[arg-type]

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        self.calls += 1
        return self.change(image)


@dataclass
class Judge:
    """A critic that knows the clean photographs: it sees noise where there is any damage, and scores by PSNR."""

    cleans: Sequence[Tensor]
    name: str = "knowing"
    version: str = "1"
    capabilities: frozenset[str] = frozenset({"score", "perceive"})
    score_range: tuple[float, float] = (1.0, 5.0)
    lower_better: bool = False
    decoding: str = "expected"
    asked: int = 0
    fault: int | None = None
    """Number of the photograph that it cannot look at."""

    def _psnr(self, image: Tensor) -> float:
        errors = [float((image - clean).square().mean()) for clean in self.cleans]
        if self.fault is not None and int(np.argmin(errors)) == self.fault:
            raise RuntimeError("it went dark")
        return float(-10 * np.log10(min(errors) + 1e-6))

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self.asked += len(images)
        return [Rating(1 + self._psnr(one) / 15, 0.05, provenance=Provenance(self.name)) for one in images]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        self.asked += len(images)
        found: list[Degradation | Unparsed] = []
        for one in images:
            kind = "null" if self._psnr(one) > 45 else "noise"
            severity: Any = "null" if kind == "null" else "obvious"
            sure: Any = {name: float(name == kind) for name in CLASSES}
            ladder: Any = {word: float(word == severity) for word in SEVERITIES}
            found.append(Degradation(kind, severity, sure, {kind: ladder}, "", provenance=Provenance(self.name)))  # type: ignore[arg-type]
        return found

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        return ["a photograph"] * len(images)


@pytest.fixture
def photos(photograph: Photograph) -> list[Bytes]:
    return [photograph("astronaut", SIDE), photograph("coffee", SIDE)]


@pytest.fixture
def cleans(photos: list[Bytes], as_tensor: Callable[[Bytes], Tensor]) -> list[Tensor]:
    return [as_tensor(photo) for photo in photos]


@pytest.fixture
def toys(cleans: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> dict[str, Toy]:
    """The package's nets: one goes half the way to the clean photograph, one goes astray, two do a little."""

    def nearest(image: Tensor) -> Tensor:
        return min(cleans, key=lambda clean: float((image - clean).square().mean()))

    tools = [
        Toy("denoise", lambda image: (image + nearest(image)) / 2),
        Toy("dejpeg", lambda image: image + (nearest(image) - image) / 4),
        Toy("deblur", lambda image: image.roll(1, -1)),
        Toy("lowlight", lambda image: image * 0.5),
    ]
    registry = Registry(ToolEntry(one.info, lambda one=one: one) for one in tools)  # type: ignore[misc]
    monkeypatch.setattr("iqloop.recipes.bench.restore.run.load_registry", lambda *_, **__: registry)
    return {one.name: one for one in tools}


@pytest.fixture
def judge(cleans: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> Judge:
    scripted = Judge(cleans)
    monkeypatch.setattr(known, "create_critic", lambda name, **options: scripted)
    return scripted


@pytest.fixture
def folder(here: Path, photos: list[Bytes]) -> Path:
    """``photos`` with two clean photographs."""
    Path("photos").mkdir()
    for i, image in enumerate(photos):
        Image.fromarray(image).save(f"photos/{i}.png")
    return Path("photos")


def bench(*arguments: object) -> list[dict[str, Any]]:
    result = run("bench", "restore", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return lines(result)


# ---- mixtures


def test_the_package_has_every_kind_of_mixture() -> None:
    found = bench_mixtures.load()
    kinds = {group: [one for one in found.mixtures if one.group == group] for group in found.groups}
    assert [len(some) for some in kinds.values()] == [1, 4, 7, 10]
    assert found.mixtures[0].name == "clean" and found.mixtures[0].treatments == ()
    assert [one.treatments for one in kinds["single"]] == [("noise",), ("blur",), ("compression",), ("darken",)]
    assert {frozenset(one.treatments) for one in kinds["own"] if len(one.steps) == 2} == {
        *(frozenset(pair) for pair in (("darken", "blur"), ("darken", "noise"), ("darken", "compression"))),
        *(frozenset(pair) for pair in (("blur", "noise"), ("blur", "compression"), ("noise", "compression"))),
    }
    assert sum(len(one.steps) == 3 for one in kinds["own"]) == 4
    # AgenticIR has 16; those with rain, haze or a low resolution are named as left out.
    assert len(kinds["agenticir"]) + len(found.left_out) == 16 and "rain" in found.reason
    assert all(any(word in name for word in ("rain", "haze", "low-resolution")) for name in found.left_out)


def test_damage_follows_from_names_and_seed(photos: list[Bytes]) -> None:
    mixture = {one.name: one for one in bench_mixtures.load().mixtures}["A:noise+jpeg"]

    def made(photo: str, name: str, seed: int) -> Bytes:
        one = draw_seed(photo, name, seed)
        return damage(photos[0], draw(mixture, one), one)

    np.testing.assert_array_equal(made("a.png", "x", 0), made("a.png", "x", 0))
    others = [made("b.png", "x", 0), made("a.png", "y", 0), made("a.png", "x", 1)]
    assert all((other != made("a.png", "x", 0)).any() for other in others)


def test_numbers_are_drawn_from_their_ranges() -> None:
    mixtures = bench_mixtures.load().mixtures
    for mixture in mixtures:
        drawn = [draw(mixture, seed) for seed in range(60)]
        for step, choices in enumerate(mixture.steps):
            allowed = {choice.function: choice for choice in choices}
            for one in drawn:
                name, value = one[step]
                assert allowed[name].least <= value <= allowed[name].most
            assert len({one[step][1] for one in drawn}) > 5
    noise = next(one for one in mixtures if one.name == "noise")
    assert {draw(noise, seed)[0][0] for seed in range(60)} == set(CATEGORIES["noise"])
    jpeg = next(one for one in mixtures if one.name == "A:noise+jpeg")
    assert all(draw(jpeg, seed)[1][1].is_integer() for seed in range(20))


def test_degradations_are_applied_in_their_order(photos: list[Bytes]) -> None:
    def after(*names: str) -> Bytes:
        return damage(photos[0], [(name, 10.0 if name == "jpeg" else 2.2) for name in names], 0)

    assert (after("jpeg", "gamma") != after("gamma", "jpeg")).any()
    np.testing.assert_array_equal(after("jpeg", "gamma"), damage(after("jpeg"), [("gamma", 2.2)], 5))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "expected JSON"),
        ("[]", "expected JSON"),
        ('{"mixtures": []}', "expected mixtures of different names, got none"),
        ('{"mixtures": [{"name": "a", "steps": [{"fog": [1, 2]}]}]}', "unknown degradation 'fog'"),
        ('{"mixtures": [{"name": "a", "steps": [{"jpeg": [0, 2]}]}]}', "from 1 to 100"),
        ('{"mixtures": [{"name": "a", "steps": [{"jpeg": [20, 10]}]}]}', r"expected \[LEAST, MOST\], got \[20, 10\]"),
        ('{"mixtures": [{"name": "a", "steps": [{"jpeg": 10}]}]}', "expected JSON"),
        ('{"mixtures": [{"name": "a", "steps": [{"bicubic": [2, 2]}]}]}', "expected a degradation that keeps the size"),
        ('{"mixtures": [{"name": "a", "steps": [{}]}]}', "a step holds no function"),
        ('{"mixtures": [{"name": "a", "steps": []}, {"name": "a", "steps": []}]}', "different names, got a, a"),
    ],
)
def test_files_that_are_none(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=reason):
        bench_mixtures.load(path)


def test_mixtures_are_chosen_by_name_or_group(tmp_path: Path) -> None:
    found = bench_mixtures.load()
    assert [one.name for one in found.choose(["clean", "darken+noise"])] == ["clean", "darken+noise"]
    assert len(found.choose(["single"])) == 4 and found.choose(None) == found.mixtures
    with pytest.raises(UsageError, match="no mixture or group named 'rain'"):
        found.choose(["rain"])
    with pytest.raises(UsageError, match="cannot be read"):
        bench_mixtures.load(tmp_path / "none.json")


# ---- figures


def test_the_three_figures_of_nearness(photos: list[Bytes]) -> None:
    photo, dark = photos[0], damage(photos[0], [("gamma", 2.2)], 0)
    equal = nearness(photo, photo)
    assert (equal.psnr, equal.ssim, equal.gmsd) == (60, 1, 0)
    for metric, sign in ((psnr, 1), (ssim, 1), (gmsd, -1)):
        falling = [metric(damage(photo, [("gaussian-noise", sigma)], 0), photo) * sign for sigma in (5.0, 20.0, 60.0)]
        assert falling == sorted(falling, reverse=True)
    assert gmsd(dark, photo) == pytest.approx(gmsd(photo, dark))
    with pytest.raises(UsageError, match="expected two images of one size"):
        nearness(photo, photo[:32])


def test_gmsd_of_an_edge_by_hand() -> None:
    flat = np.zeros((8, 8, 3), np.uint8)
    edge = flat.copy()
    edge[:, 4:] = 100
    # Halved, the edge lies between columns 1 and 2 of 4; LUMA adds up to 0.9999. Black lies around the image.
    grey = np.pad(np.tile([0, 0, 99.99, 99.99], (4, 1)), 1)
    kernel = np.array([[1, 0, -1]] * 3) / 3

    def filtered(weights: Any) -> Any:
        return [[(grey[y : y + 3, x : x + 3] * weights).sum() for x in range(4)] for y in range(4)]

    squares = np.square(filtered(kernel)) + np.square(filtered(kernel.T))
    assert gmsd(edge, flat) == pytest.approx((170 / (squares + 170)).std(), rel=1e-9)


def test_an_interval_covers_the_mean_it_estimates() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        sums, counts = rng.normal(2, 1, 30), np.ones(30)
        found = ratio(list(sums), list(counts), 300, seed)
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.value == pytest.approx(sums.mean())
        assert found.low <= found.value <= found.high
        hits += found.low <= 2 <= found.high
    assert 180 <= hits <= 199, "95 %, and a little less for 30 values"


def test_intervals_that_there_are_not() -> None:
    assert ratio([3.0], [2.0]).low is None and ratio([3.0], [2.0]).value == 1.5
    assert ratio([3.0, 1.0], [0.0, 0.0]).value is None and ratio([], []).value is None
    assert ratio([1.0, 2.0], [1.0, 1.0]) == ratio([1.0, 2.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="as many numerators"):
        ratio([1.0], [1.0, 2.0])


def row(method: str, gain: float, photo: str = "a", mixture: str = "noise", calls: int = 1, **more: Any) -> Row:
    fields: dict[str, Any] = {"group": "single", "treatments": ("noise",), "damage": ("gaussian-noise:25",)}
    fields |= {"tools": (), "psnr": 20 + gain, "ssim": 0.5, "gmsd": 0.1, "gain": gain, "worse": gain < -0.1}
    fields |= {"score": 3.0, "tool_calls": calls, "critic_calls": 2, "seconds": 1.0}
    return Row(photo=photo, mixture=mixture, method=method, **{**fields, **more})


def test_shares_and_rates_by_hand() -> None:
    rows = [
        *(row("oracle", 4, calls=40), row("agent", 3, calls=4)),
        *(row("oracle", 2, "b", calls=40), row("agent", -1, "b", calls=6)),
        *(row("oracle", 0, "c", calls=40), row("agent", -0.05, "c", calls=2, score=None)),
    ]
    found = figures(rows, "agent")
    assert found.cases == 3 and found.means["gain"].value == pytest.approx(1.95 / 3)
    assert found.share.value == pytest.approx(1.95 / 6) and found.calls.value == pytest.approx(12 / 120)
    assert found.means["worse"].value == pytest.approx(1 / 3), "0.05 dB is not worse"
    assert found.means["score"].value == 3.0, "a score that could not be read is left out"
    assert found.share.low is not None and found.share.low <= 1.95 / 6 <= (found.share.high or 0)
    assert [pair[0].photo for pair in worst(rows, 2)] == ["b", "a"]


def test_subsets_tell_darkening_and_clean_apart() -> None:
    dark: dict[str, Any] = {"treatments": ("darken", "noise"), "mixture": "darken+noise", "group": "own"}
    clean: dict[str, Any] = {"treatments": (), "mixture": "clean", "group": "clean", "damage": ()}
    rows = [row("agent", 1), row("agent", 2, **dark), row("agent", 0, **clean)]
    found = subsets(rows)
    assert [len(found[name]) for name in (ALL, DARK, LIT, "clean", "own", "single")] == [2, 1, 1, 1, 1, 1]
    assert found[LIT] == [rows[0]] and found["clean"] == [rows[2]]


def test_agreement_by_hand() -> None:
    def said(gain: float, accepted: bool, asked: bool = True) -> Judged:
        return Judged("denoise", gain, accepted, "so", asked)

    found = agreement({"a": [said(2, True), said(1, False, False), said(-3, False)], "b": [said(-1, True)]})
    assert [found[name].value for name in ("all", "better", "worse")] == [0.5, 0.5, 0.5]
    assert found["asked"].value == pytest.approx(2 / 3)
    assert agreement({"a": [said(2, True)]})["worse"].value is None


# ---- the command


def test_rows(toys: dict[str, Toy], judge: Judge, folder: Path, photos: list[Bytes]) -> None:
    *rows, last = bench(folder, "--only", "clean,A:noise+jpeg", "--judge", "-o", "out")
    assert set(last) == {"summary"} and all(set(one) == set(Row.__dataclass_fields__) for one in rows)
    assert [(one["photo"], one["mixture"], one["method"]) for one in rows] == [
        (photo, mixture, method)
        for photo in ("0.png", "1.png")
        for mixture in ("clean", "A:noise+jpeg")
        for method in METHODS
    ]
    found = {(one["photo"], one["mixture"], one["method"]): one for one in rows}
    nothing, fixed, random, single, oracle, agent = (found["1.png", "A:noise+jpeg", name] for name in METHODS)
    seed = draw_seed("1.png", "A:noise+jpeg", 0)
    mixture = next(one for one in bench_mixtures.load().mixtures if one.name == "A:noise+jpeg")
    given = damage(photos[1], draw(mixture, seed), seed)
    assert nothing["psnr"] == pytest.approx(psnr(given, photos[1])) and nothing["gain"] == 0
    assert nothing["damage"] == [f"{name}:{value:g}" for name, value in draw(mixture, seed)]
    assert fixed["tools"] == ["denoise", "dejpeg", "deblur", "lowlight"] and fixed["worse"]
    assert sorted(random["tools"]) == sorted(TREATS)
    # Half the way to the clean photograph is a quarter of the error: 6 dB; then three quarters: 2.5 dB more.
    assert single["tools"] == ["denoise"] and single["gain"] == pytest.approx(6.02, abs=0.3)
    assert set(oracle["tools"]) == {"denoise", "dejpeg"} and oracle["gain"] == pytest.approx(8.5, abs=0.4)
    assert [one["tool_calls"] for one in (nothing, fixed, random, single, oracle)] == [0, 4, 4, 4, 40]
    assert agent["tools"] == ["denoise"] and agent["gain"] == single["gain"] and agent["critic_calls"] > 0
    assert agent["saw"] == "obvious noise" and "denoise on c0: taken" in agent["tried"][0] and agent["stop_reason"]
    for name in METHODS:
        clean = found["0.png", "clean", name]
        assert clean["psnr"] == 60 + clean["gain"] and clean["treatments"] == clean["damage"] == []
    assert found["0.png", "clean", "agent"]["stop_reason"] == "clean" and not found["0.png", "clean", "agent"]["worse"]
    assert found["0.png", "clean", "fixed"]["worse"] and found["0.png", "clean", "oracle"]["tools"] == []


def test_summary(toys: dict[str, Toy], judge: Judge, folder: Path) -> None:
    *rows, last = bench(folder, "--only", "clean,noise", "--judge", "-o", "out")
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary == last["summary"] and (summary["photographs"], summary["cases"]) == (2, 4)
    gains = {name: [one["gain"] for one in rows if one["method"] == name and one["treatments"]] for name in METHODS}
    told = summary["subsets"]["all mixtures"]
    assert told["agent"]["means"]["gain"]["value"] == pytest.approx(np.mean(gains["agent"]))
    assert told["agent"]["share"]["value"] == pytest.approx(sum(gains["agent"]) / sum(gains["oracle"]))
    assert told["oracle"]["calls"]["value"] == 1 and told["fixed"]["calls"]["value"] == 0.1
    assert told["fixed"]["means"]["worse"]["value"] == 1 and told["agent"]["means"]["worse"]["value"] == 0
    assert summary["subsets"]["clean"]["agent"]["share"]["value"] is None, "nothing was to be gained"
    assert set(summary["mixtures"]) == {"clean", "noise"}
    assert sum(summary["stop_reasons"].values()) == 4 and summary["stop_reasons"]["clean"] == 2
    # The critic knows the truth; what looks clean to the loop is not touched, so that it harms nothing.
    kept = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    judged = {answer["key"]: {one["tool"]: one for one in answer["judged"]} for answer in kept}
    decided = {name: one["accepted"] for name, one in judged["noise/0.png"].items()}
    assert decided.items() >= {"denoise": True, "dejpeg": True, "lowlight": False}.items()
    assert "denoise" not in judged["clean/0.png"], "no clear difference"
    assert not judged["clean/0.png"]["lowlight"]["asked"] and judged["clean/0.png"]["lowlight"]["reason"] == "clean"
    assert summary["judge"]["outputs"] == sum(map(len, judged.values()))
    assert summary["judge"]["worse"]["value"] == 1 and summary["judge"]["better"]["value"] == 1


def test_the_page_and_the_plots(toys: dict[str, Toy], judge: Judge, folder: Path) -> None:
    result = run("bench", "restore", folder, "--only", "noise,darken+noise", "--judge", "--threads", 1, "-o", "out")
    assert result.exit_code == 0, result.stderr
    page = Path("out/restore.md").read_text()
    assert page == with_remarks("", result.stdout)
    command = "iqloop bench restore photos --only noise,darken+noise --side 512 --critic qinsight-mini --search greedy"
    assert f"{command} --seed 0 --threads 1 --judge" in page and LEGEND in page
    assert "2 photographs of photos, the middle 512 x 512, 2 mixtures; seed 0" in page
    assert "critic knowing 1; denoise 1, dejpeg 1" in page and "Left out: A:rain+haze" in page
    for name in ("all mixtures", "with darkening", "without darkening", "single", "own"):
        assert f"**{name}**" in page
    tables = [line for line in page.splitlines() if line.startswith("| ")]
    assert sum(line.startswith("| agent |") for line in tables) == 5
    assert sum(line.startswith(("| noise |", "| darken+noise |")) for line in tables) == 2
    assert len({line.count("|") for line in tables if line.startswith(("| method", "| agent", "| oracle"))}) == 1
    assert "the loop decides as the PSNR does on" in page and "Farthest behind the oracle" in page
    assert "denoise on c0: taken" in page and "nan" not in page
    for name in ("gains", "oracle"):
        with Image.open(f"out/{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 250 and np.asarray(picture.convert("L")).min() < 100


def test_resuming_does_only_what_is_missing(toys: dict[str, Toy], judge: Judge, folder: Path) -> None:
    judge.fault = 1
    arguments = ("bench", "restore", folder, "--only", "noise", "-o", "out")
    first = run(*arguments)
    assert first.exit_code == 1 and "noise/1.png: RuntimeError: it went dark" in first.stderr
    kept = [json.loads(line)["key"] for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert kept == ["noise/0.png"], "on disk though the run failed"
    refused = run(*arguments)
    assert refused.exit_code == 2 and "add --resume" in refused.stderr
    judge.fault = None
    before = toys["denoise"].calls
    again = run(*arguments, "--resume")
    assert again.exit_code == 0, again.stderr
    done = toys["denoise"].calls - before
    assert done > 0 and "2 photographs of photos" in again.stdout
    idle = run(*arguments, "--resume")
    assert idle.exit_code == 0 and toys["denoise"].calls == before + done
    assert idle.stdout == again.stdout, "the same page without any work"
    fewer = run(*arguments, "--resume", "--count", 1)
    assert "1 photographs of photos" in fewer.stdout, "of what is there only what is asked for"


def test_a_run_of_something_else_is_not_gone_on_with(toys: dict[str, Toy], judge: Judge, folder: Path) -> None:
    arguments = ("bench", "restore", folder, "--only", "noise", "--count", 1, "-o", "out", "--resume")
    assert run(*arguments).exit_code == 0
    assert run(*arguments[:-4], 2, "-o", "out", "--resume").exit_code == 0, "more photographs may be added"
    for other in (("--seed", 1), ("--side", 64), ("--judge",), ("--max-tool-calls", 1)):
        result = run(*arguments, *other)
        assert result.exit_code == 2 and "holds a run of something else" in result.stderr


def test_the_agents_seconds_share_nothing(toys: dict[str, Toy], judge: Judge, folder: Path) -> None:
    *rows, _ = bench(folder, "--only", "noise", "--count", 1)
    agent = rows[-1]
    # The oracle's 40 runs hold each net's output of the input; the agent made its own.
    assert sum(toy.calls for toy in toys.values()) == 40 + agent["tool_calls"] and agent["tool_calls"] > 0


def test_the_same_seed_gives_the_same_rows(toys: dict[str, Toy], judge: Judge, folder: Path) -> None:
    def untimed(seed: int) -> list[dict[str, Any]]:
        rows = bench(folder, "--only", "darken+blur+noise,noise", "--count", 1, "--seed", seed)[:-1]
        return [{**one, "seconds": 0} for one in rows]

    assert untimed(1) == untimed(1) != untimed(2)


def test_workers_give_the_same_rows(
    toys: dict[str, Toy], judge: Judge, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Threads instead of processes: they see the toys.
    monkeypatch.setattr(workers, "get_context", lambda _: multiprocessing.dummy)
    registry = Registry(ToolEntry(one.info, lambda one=one: one) for one in toys.values())  # type: ignore[misc]
    monkeypatch.setattr(workers, "load_registry", lambda *_, **__: registry)
    alone = run("bench", "restore", folder, "--only", "noise,darken", "--threads", 1, "--json")
    two = run("bench", "restore", folder, "--only", "noise,darken", "--workers", 2, "-o", "out", "--json")
    assert two.exit_code == 0, two.stderr

    def comparable(result: Result) -> list[dict[str, object]]:
        return [
            {**row, "seconds": None, "critic_calls": None}
            for row in map(json.loads, result.stdout.splitlines())
            if "method" in row
        ]

    assert comparable(two) == comparable(alone) and len(comparable(two)) == 24
    assert "--threads 1 --workers 2" in Path("out/restore.md").read_text()
    judge.fault = 0
    failed = run("bench", "restore", folder, "--only", "noise", "--workers", 2)
    assert failed.exit_code == 1 and "noise/0.png: RuntimeError: it went dark" in failed.stderr


def test_own_mixtures_and_pairs(toys: dict[str, Toy], judge: Judge, folder: Path, photos: list[Bytes]) -> None:
    Path("m.json").write_text('{"mixtures": [{"name": "fog", "steps": [{"pixelate": [1, 1]}, {"jpeg": [30, 30]}]}]}')
    rows = bench(folder, "--mixtures", "m.json", "--count", 1)[:-1]
    assert rows[0]["damage"] == ["pixelate:1", "jpeg:30"] and rows[0]["treatments"] == ["compression"]
    for side in ("noisy", "clean"):
        Path("pairs", side).mkdir(parents=True)
        image = damage(photos[0], [("gaussian-noise", 20.0)], 0) if side == "noisy" else photos[0]
        Image.fromarray(image).save(f"pairs/{side}/a.png")
    rows = bench("--pairs", "pairs", "-o", "out")[:-1]
    assert [one["photo"] for one in rows] == ["a.png"] * 6 and rows[0]["mixture"] == "pairs"
    assert rows[0]["psnr"] == pytest.approx(psnr(damage(photos[0], [("gaussian-noise", 20.0)], 0), photos[0]))
    assert "1 pairs of pairs" in Path("out/restore.md").read_text()


def test_rows_survive_the_file() -> None:
    one = row("agent", 1.0, tools=("a", "b"), tried=("x",))
    answer = {"rows": [json.loads(json.dumps(one.__dict__))], "judged": []}
    assert rows_of({"k": answer}) == [one] and replace(one, gain=2.0) != one


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "rain"], "no mixture or group named 'rain'"),
        (["--mixtures", "none.json"], "none.json: cannot be read"),
        (["--search", "dearest"], "search must be one of"),
        (["--side", "63"], "expected a number of pixels from 64 on"),
        (["--pairs", "x", "--only", "noise"], "leave out FOLDER, --mixtures and --only"),
        (["--pairs", "x"], "noisy is missing: expected noisy and clean"),
        (["nowhere"], "nowhere is missing: expected a folder of clean photographs"),
        (["--resume"], "--resume goes with -o FOLDER"),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str, toys: dict[str, Toy], judge: Judge, here: Path) -> None:
    result = run("bench", "restore", *arguments)
    assert result.exit_code == 2 and reason in result.stderr, result.stderr
    assert judge.asked == 0


def test_a_missing_net_is_named(judge: Judge, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Toy("denoise", torch.clone)
    registry = Registry([ToolEntry(one.info, lambda: one)])
    monkeypatch.setattr("iqloop.recipes.bench.restore.run.load_registry", lambda *_, **__: registry)
    result = run("bench", "restore", folder)
    assert result.exit_code == 2 and "no tool named 'dejpeg'" in result.stderr
