"""rerank: what is made, kept, resumed and told, with pipelines of a few thousand random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import iqloop
from iqloop.critic import known
from iqloop.recipes.bench.rerank import Drawn, interval, kept, parts, pruning, table

from ..restorers.test_restorers_diffusers import MAKERS
from .helpers import ScriptedCritic, lines, run

pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("rerank")
    torch.manual_seed(0)
    for name in ("latent", "text-to-image"):
        MAKERS[name](home / name)
    return {name: home / name for name in ("latent", "text-to-image")}


@pytest.fixture
def small(here: Path, clean: NDArray[np.uint8], critic: ScriptedCritic) -> str:
    """A file of odd size, and a critic."""
    Image.fromarray(clean[:27, :34]).save("small.png")
    return "small.png"


def manifest(folder: str = "out") -> dict[str, Any]:
    return dict(json.loads(Path(folder, "manifest.json").read_text()))


def test_makes_and_ranks(small: str, pipelines: dict[str, Path]) -> None:
    told = run(
        "rerank", small, "--pipeline", pipelines["latent"], "-n", 4, "--steps", 4, "-o", "out", "--json", "--seed", 5
    )
    assert told.exit_code == 0
    rows = lines(told)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert {row["seed"] for row in rows} == {5, 6, 7, 8}
    assert [row["pruned"] for row in rows] == [False, False, True, True]
    for row in rows:
        with Image.open(row["path"]) as image:
            assert image.size == (136, 108)
    found = manifest()
    assert found["best"] == rows[0]["seed"] and found["work"] == 0.75
    assert Path("out/best.png").read_bytes() == Path(rows[0]["path"]).read_bytes()
    for candidate in found["candidates"]:
        data = Path("out", candidate["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == candidate["sha256"]
    assert found["input"]["sha256"] == hashlib.sha256(Path(small).read_bytes()).hexdigest()


def test_a_candidate_alone_is_the_same(small: str, pipelines: dict[str, Path]) -> None:
    common = (small, "--pipeline", pipelines["latent"], "--steps", 4, "--prune", 0)
    run("rerank", *common, "-n", 3, "--seed", 5, "-o", "several")
    run("rerank", *common, "-n", 1, "--seed", 7, "-o", "alone")
    assert Path("several/seed-7.png").read_bytes() == Path("alone/seed-7.png").read_bytes()
    assert Path("several/seed-5.png").read_bytes() != Path("several/seed-7.png").read_bytes()


def test_text_to_image_and_page(here: Path, critic: ScriptedCritic, pipelines: dict[str, Path]) -> None:
    told = run(
        "rerank",
        "--pipeline",
        pipelines["text-to-image"],
        "--prompt",
        "a b",
        "-n",
        2,
        "--steps",
        2,
        "--size",
        "40x24",
        "-o",
        "out",
        "--html",
        "page.html",
    )
    assert told.exit_code == 0 and "candidates, 75% of the work" in told.stderr
    with Image.open("out/best.png") as image:
        assert image.size == (40, 24)
    assert manifest()["generator"]["prompt"] == "a b"
    assert "seed-" in Path("page.html").read_text()


def test_resumes(small: str, pipelines: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first was finished: the same folder in the end, and what was there was not made again."""
    common = ("rerank", small, "--pipeline", pipelines["latent"], "-n", 4, "--steps", 4)
    run(*common, "-o", "whole")
    from iqloop.recipes.rerank.manifest import Manifest

    keep, calls = Manifest.keep, []

    def stop(self: Manifest, samples: Any) -> None:
        keep(self, samples)
        calls.append([sample.seed for sample in samples])
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "keep", stop)
        assert run(*common, "-o", "out").exit_code == 130
    assert run(*common, "-o", "out").exit_code == 2
    times = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("seed-*.png")}
    assert len(times) == 3
    assert run(*common, "-o", "out", "--resume").exit_code == 0
    assert all(Path("out", name).stat().st_mtime_ns == time for name, time in times.items())
    one, other = manifest("whole"), manifest("out")
    for row in (*one["candidates"], *other["candidates"]):
        row.pop("seconds")
        row.pop("preview_score")  # who was kept is known: what is left to be made is not looked at again
    assert one == other


def test_a_damaged_candidate_is_made_again(small: str, pipelines: dict[str, Path]) -> None:
    common = ("rerank", small, "--pipeline", pipelines["latent"], "-n", 2, "--steps", 4, "--prune", 0, "-o", "out")
    run(*common)
    good = Path("out/seed-1.png").read_bytes()
    Path("out/seed-1.png").write_bytes(good[:50])
    assert run(*common, "--resume").exit_code == 0
    assert Path("out/seed-1.png").read_bytes() == good


def test_python_and_command_agree(small: str, pipelines: dict[str, Path], critic: ScriptedCritic) -> None:
    run("rerank", small, "--pipeline", pipelines["latent"], "-n", 3, "--steps", 4, "-o", "out")
    found = iqloop.best_of(str(pipelines["latent"]), 3, image=small, steps=4, critic=critic)
    assert found.best.seed == manifest()["best"]


def test_scorers_of_plug_ins(
    small: str, pipelines: dict[str, Path], critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plug-in that takes a prompt is given it; its weight decides."""
    prompts: list[str] = []

    class Point:
        def load(self) -> Callable[..., Any]:
            def create(prompt: str) -> ScriptedCritic:
                prompts.append(prompt)
                return ScriptedCritic(1 - critic.clean, name="aligned")

            return create

    from iqloop.critic.plugins import Plugin

    plugin = Plugin(Point())  # type: ignore[arg-type]
    monkeypatch.setattr(Plugin, "create", lambda self, options: self.point.load()(**options))
    monkeypatch.setattr(known, "plugin_critics", lambda: {"aligned": plugin})
    run(
        "rerank",
        "--pipeline",
        pipelines["text-to-image"],
        "--prompt",
        "a cat",
        "-n",
        2,
        "--steps",
        2,
        "-o",
        "out",
        "--scorer",
        "aligned=2",
    )
    assert prompts == ["a cat"] and manifest()["critic"]["further"] == ["aligned"]


def test_in_tiles(small: str, pipelines: dict[str, Path]) -> None:
    told = run("rerank", small, "--tool", f"mine={pipelines['latent']}", "-n", 2, "--steps", 2, "-o", "out", "--json")
    assert told.exit_code == 0 and len(lines(told)) == 2
    assert manifest()["generator"]["tool"] == "mine"
    assert "shows nothing halfway" in told.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "name an IMAGE"),
        (("small.png", "--pipeline", "latent", "--prompt", "a"), "takes no prompt"),
        (("small.png", "--pipeline", "latent", "--tool", "x"), "give one of them"),
        (("small.png", "--tool", "median-switch"), "nothing to choose"),
        (("small.png", "--tool", "median-switch", "--mask", "small.png"), "takes no --mask"),
        (("--tool", "median-switch"), "name one"),
        (("--pipeline", "text-to-image", "--prompt", "a", "--size", "40"), "WxH"),
        (("small.png", "--pipeline", "nowhere"), "no such folder"),
        (("small.png", "--pipeline", "latent", "--scorer", "x=y"), "NAME=WEIGHT"),
        (("large.png", "--pipeline", "latent"), "megapixels"),
    ],
)
def test_refuses(small: str, pipelines: dict[str, Path], given: tuple[str, ...], said: str) -> None:
    Image.new("RGB", (1100, 1000)).save("large.png")
    told = run("rerank", *(pipelines.get(word, word) for word in given), "-n", 2, "-o", "out")
    assert told.exit_code == 2 and said in told.stderr
    assert not Path("out", "manifest.json").exists()


def test_an_image_that_is_not_there(here: Path, critic: ScriptedCritic, pipelines: dict[str, Path]) -> None:
    told = run("rerank", "nothing.png", "--pipeline", pipelines["latent"], "-o", "out")
    assert told.exit_code == 1 and "nothing.png" in told.stderr and not Path("out").exists()


def test_a_folder_of_something_else(small: str, pipelines: dict[str, Path]) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    common = ("rerank", small, "--pipeline", pipelines["latent"], "-n", 2, "--steps", 2, "-o", "out")
    assert run(*common).exit_code == 2
    Path("out/mine.txt").unlink()
    assert run(*common).exit_code == 0
    told = run("rerank", small, "--pipeline", pipelines["latent"], "-n", 2, "--steps", 3, "-o", "out", "--resume")
    assert told.exit_code == 2 and "another generator" in told.stderr
    document = manifest()
    document["candidates"][0]["file"] = "../small.png"
    Path("out/manifest.json").write_text(json.dumps(document))
    assert "damaged" in run(*common, "--resume").stderr
    assert run(*common, "--overwrite").exit_code == 0


def drawn(photo: str, seed: int, halfway: float, score: float) -> Drawn:
    return Drawn(photo, 0, seed, halfway, score, {"other": score / 2, "contrary": -score}, 30 + score, 0.9, 1.0)


def test_bench_counts() -> None:
    """Two photographs; on the second the best one looks worst halfway."""
    rows = [drawn("a", seed, seed, seed) for seed in range(4)] + [drawn("b", seed, seed, 3 - seed) for seed in range(4)]
    assert [kept(rows[:4], share).seed for share in (0, 0.5, 0.75)] == [3, 3, 3]
    assert [kept(rows[4:], share).seed for share in (0, 0.25, 0.5, 0.75)] == [0, 1, 2, 3]
    found = table(rows)
    assert "| chosen | critic | other | contrary | PSNR | SSIM |" in found
    assert "| average | 1.500 | 0.750 | -1.500 | 31.500 | 0.900 |" in found
    assert "| best of N | 3.000 | 1.500 | -3.000 | 33.000 | 0.900 |" in found
    better = "+0.750 [+0.750, +0.750] | -1.500 [-1.500, -1.500] | +1.500 [+1.500, +1.500]"
    assert f"| best of N, against the average | {better} |" in found
    assert "| best of N, against the first | +0.750 [+0.000, +1.500] |" in found, "the first is the best of one of two"
    assert "| half left | 2.000 |" in found
    assert "| 50% | 75% | 50% | 1.000 |" in pruning(rows)


def test_bench_needs_names_of_their_own(here: Path) -> None:
    twice = run("bench", "rerank", "--held-out", "a/mini", "--held-out", "b/mini")
    assert twice.exit_code == 2 and "name of its own" in twice.stderr


def test_bench_crops() -> None:
    """The middle, then the corners; intervals draw photographs, with all their crops."""
    image = np.arange(40 * 30 * 3, dtype=np.uint16).reshape(40, 30, 3).astype(np.uint8)
    found = parts(image, 8, 5)
    places = [(16, 11), (0, 0), (32, 22), (0, 22), (32, 0)]
    assert all(np.array_equal(part, image[y : y + 8, x : x + 8]) for part, (y, x) in zip(found, places, strict=True))
    assert [part.shape for part in parts(image, 64, 2)] == [(40, 30, 3)] * 2
    assert interval([("a", 1.0), ("a", 3.0), ("b", 2.0), ("b", 2.0)], 0) == "+2.000 [+2.000, +2.000]"


def test_bench_runs(here: Path, critic: ScriptedCritic, pipelines: dict[str, Path], clean: NDArray[np.uint8]) -> None:
    Path("photos").mkdir()
    for name in "ab":
        Image.fromarray(clean).save(f"photos/{name}.png")
    told = run(
        "bench",
        "rerank",
        "--pipeline",
        pipelines["latent"],
        "--photos",
        "photos",
        "--side",
        64,
        "-n",
        2,
        "--steps",
        2,
        "--crops",
        2,
        "--held-out",
        "nss-mini",
        "--held-out",
        "qinsight-mini",
        "-o",
        "page.md",
        "--json",
    )
    assert told.exit_code == 0 and len(lines(told)) == 8
    found = json.loads(Path("page.json").read_text())
    assert [(row["photo"], row["crop"], row["seed"]) for row in found[:4]] == [
        ("photograph 0", crop, seed) for crop in (0, 1) for seed in (0, 1)
    ]
    assert "2 photographs of photos, 2 crops of 64 px of each" in Path("page.md").read_text()
    assert (
        "half left" in Path("page.md").read_text()
        and "| critic | nss-mini | qinsight-mini |" in Path("page.md").read_text()
    )
    assert set(found[0]["held_out"]) == {"nss-mini", "qinsight-mini"}
