"""`bench` and the demonstration: figures that a scripted critic makes predictable."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from skimage import data

from iqloop.recipes.bench import critic as bench_critic
from iqloop.recipes.demo import run_demo
from iqloop.recipes.options import CriticChoice
from tests.recipes.helpers import ScriptedCritic, run


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
