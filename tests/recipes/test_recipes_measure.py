"""`evaluate`, `bench` and the demonstration: figures that a scripted critic makes predictable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from iqloop import distort
from iqloop.critic.evaluate import Case, cases, correlation, perception, severity_ladders
from iqloop.critic.verdicts import CLASSES, Degradation, Unparsed
from iqloop.errors import UsageError
from iqloop.recipes import bench_critic
from iqloop.recipes.demo import run_demo
from iqloop.recipes.evaluate_critic import evaluate
from iqloop.recipes.options import CriticChoice
from tests.recipes.helpers import ScriptedCritic, run


class KnowsAll(ScriptedCritic):
    """Answers from a script, in the order of the questions."""

    said: list[Degradation | Unparsed]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        taken, self.said = self.said[: len(images)], self.said[len(images) :]
        return taken


def photos(tmp_path: Path, side: int = 96) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "chelsea"):
        Image.fromarray(getattr(data, name)()[60 : 60 + side, 130 : 130 + side]).save(folder / f"{name}.png")
    return folder


def test_figures_are_macro_means() -> None:
    grey = np.full((32, 32, 3), 90, np.uint8)
    truth = [("noise", "slight"), ("noise", "obvious"), ("noise", "obvious"), ("null", "null"), ("blur", "serious")]
    said = [
        Degradation("noise", "slight"),
        Degradation("noise", "slight"),
        Degradation("blur", "obvious"),
        Degradation("null", "null"),
        Unparsed("?", "why"),
    ]
    critic = KnowsAll(torch.zeros(3, 32, 32))
    critic.said = list(said)
    figures = perception(critic, [Case(grey, *row) for row in truth], batch=2)  # type: ignore[arg-type]
    assert figures.by_class == pytest.approx({"noise": 2 / 3, "null": 1.0, "blur": 0.0})
    assert figures.class_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert figures.level_by_class == pytest.approx({"noise": 1 / 3, "blur": 0.0})
    assert figures.unparsed == pytest.approx(0.2)
    assert figures.confusion["noise"]["blur"] == 1 and figures.confusion["blur"]["unparsed"] == 1


def test_cases_have_the_papers_counts_and_short_side() -> None:
    image = np.ascontiguousarray(data.astronaut()[:300, :400])
    test = list(cases([image], 1000, seed=1))[:50]
    assert all(min(case.image.shape[:2]) == 224 for case in test)
    again = list(cases([image], 1000, seed=1))
    counts = {kind: sum(case.distortion_class == kind for case in again) for kind in CLASSES}
    assert counts == {"noise": 226, "blur": 205, "compression": 222, "darken": 226, "null": 121}
    assert all(np.array_equal(a.image, b.image) for a, b in zip(test, again, strict=False))
    native = next(cases([image], 20, native=128))
    assert native.image.shape == (128, 128, 3)


def test_ladders_and_correlation() -> None:
    clean = np.array(distort.short_side(data.astronaut(), 64))
    critic = ScriptedCritic(torch.from_numpy(clean).permute(2, 0, 1).float() / 255)
    ladders = severity_ladders(critic, [clean], side=64)
    for row in ladders.values():
        assert len(row) == 6 and row == sorted(row, reverse=True)
    assert correlation([1, 2, 3, 4], [1, 4, 9, 16]) == (pytest.approx(1.0), pytest.approx(0.984, abs=1e-3))


def test_evaluate_counts_rated_photographs(tmp_path: Path) -> None:
    photos(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("file,mos_1_5\nphotos/astronaut.png,4.5\nphotos/chelsea.png,2.0\n")
    clean = torch.from_numpy(data.astronaut()[60:156, 130:226].copy()).permute(2, 0, 1).float() / 255
    figures = evaluate(ScriptedCritic(clean), None, table)
    assert figures["rated"]["srcc"] == pytest.approx(1.0) and figures["rated"]["scored"] == 2
    with pytest.raises(UsageError, match="columns file and mos_1_5"):
        evaluate(ScriptedCritic(clean), None, _bad_table(tmp_path))
    with pytest.raises(UsageError, match="folder of clean photographs"):
        evaluate(ScriptedCritic(clean), tmp_path / "nowhere", None)


def _bad_table(folder: Path) -> Path:
    table = folder / "bad.csv"
    table.write_text("a,b\n1,2\n")
    return table


def test_evaluate_writes_json(tmp_path: Path, tiny_folder: Path) -> None:
    out = tmp_path / "figures.json"
    folder = photos(tmp_path, 64)
    arguments = ["evaluate", "--critic", str(tiny_folder), "--photos", str(folder), "--count", "20", "--native", "0"]
    result = run(*arguments, "-o", str(out), "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["short_side_224"]["cases"] == 20 and set(figures["ladders_fall"]) == set(CLASSES) - {"null"}
    assert run("evaluate", "--critic", str(tiny_folder)).exit_code == 2


def test_bench_critic(tiny_folder: Path) -> None:
    """Every mode is there, beside the plain loop; one peak is measured in a process of its own."""
    arguments = ["bench", "critic", "--critic", str(tiny_folder), "--side", "64", "--images", "2", "--repeats", "1"]
    short = ["--critic-option", "max_new_tokens=4"]
    result = run(*arguments, *short, "--no-memory", "--json")
    assert result.exit_code == 0, result.output
    rows = {row["mode"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows[bench_critic.PLAIN]["against_plain"] == 1 and rows[bench_critic.BASELINE]["against_expected"] == 1
    assert all(row["fastest"] <= row["seconds"] <= row["slowest"] for row in rows.values())
    assert {"reason, batched", "score and degradation read out, batched"} <= set(rows)
    choice = CriticChoice(str(tiny_folder), more=("max_new_tokens=4",))
    assert bench_critic.peak_memory(choice, bench_critic.BASELINE, 64, 2) > 50
    assert run(*arguments, "--no-memory", "--critic", "pyiqa:psnr").exit_code == 2


def test_demo_gains_with_a_critic_that_knows_the_original(tmp_path: Path) -> None:
    """The demonstration's plumbing; what the embedded critic makes of it is tested with the weights."""
    original = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1).float() / 255
    said: list[str] = []
    demo = run_demo(tmp_path / "demo", ScriptedCritic(original), said.append)
    assert isinstance(demo.outcome.score_after, float) and demo.gain > 0.5
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "before-after.png",
        "degraded.png",
        "original.png",
        "restored.png",
        "trace.json",
    ]
    assert any("PSNR" in line for line in said)


def test_demo_gains_two_decibels_with_the_embedded_critic(tmp_path: Path) -> None:
    demo = run_demo(tmp_path / "demo", say=lambda line: None)
    assert demo.gain >= 2 and demo.outcome.improved
