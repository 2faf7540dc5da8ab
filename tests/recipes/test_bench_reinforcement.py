"""`bench reinforcement`: all runs start from the same weights and answer the same held-out questions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from iqloop.critic.training.crops import distorted
from iqloop.critic.training.reasoning import degradation_answer, score_answer
from iqloop.critic.verdicts import CLASSES, SEVERITIES
from iqloop.recipes.bench.ablations import Scale, read
from iqloop.recipes.bench.reinforcement import RUNS, SMOOTHED, answered, curve, mean, page, spread, worth
from tests.conftest import Photograph

from .helpers import run as command
from .test_bench_ablations import data

__all__ = ["data"]
pytestmark = pytest.mark.filterwarnings("ignore")  # trl's and transformers' notes of deprecation


def test_all_runs_are_trained_measured_and_kept(tiny_folder: Path, data: Path) -> None:
    asked = (
        "bench", "reinforcement", "--critic", tiny_folder, "--data", data, "-o", data / "out",
        "--steps", 2, "--per-step", 2, "--warm-up", 1, "--questions", 8, "--draws", 2,
    )  # fmt: skip
    result = command(*asked)
    assert result.exit_code == 0, result.stderr
    table = (data / "out/table.md").read_text()
    assert all(f"| {run.name} | " in table for run in RUNS) and table.count("| start | ") == 2
    assert (data / "out/curve.png").stat().st_size > 1000
    kept = json.loads((data / "out/reinforced.json").read_text())
    assert list(kept["along"]) == ["1", "2"] and not list((data / "out/reinforced").glob("at-*"))
    assert kept["spread"] == {}, "no answer of random weights can be read"
    assert sum(value is not None for value in kept["drawn"]["score"]) == 4, "half the questions are about scores"
    again = command(*asked)
    assert again.exit_code == 0 and "step=" not in again.stdout, "nothing is trained twice"
    assert (data / "out/table.md").read_text() == table


def test_the_questions_are_held_out_and_the_same_for_all(tiny_folder: Path, data: Path) -> None:
    scale = Scale(data, tiny_folder, side=56)
    found = read(scale)
    first = answered(tiny_folder, scale, found, 6, 2)
    assert first == answered(tiny_folder, scale, found, 6, 2)
    assert all(0 <= value <= 1 for row in first.values() for value in row if value is not None)


def test_an_answer_is_worth_what_training_would_give(photograph: Photograph) -> None:
    rng = np.random.default_rng(3)
    label = next(
        made for _, made in (distorted(photograph("coffee"), 56, rng) for _ in range(50)) if made.severity == 2
    )
    assert label.distortion_class is not None
    row = {"task": "degradation", "distortion_class": CLASSES[label.distortion_class], "severity": SEVERITIES[1]}
    right = degradation_answer(label, rng)
    assert worth([right], row) == {"format": 1.0, "class": 1.0, "level": 1.0}
    other = right.replace(f'"{SEVERITIES[1]}"', '"serious"')
    assert worth([right, "hm", other], row) == {"format": 2 / 3, "class": 2 / 3, "level": 1 / 3}
    rated = {"task": "score", "opinion": label.score}
    assert worth([score_answer(label, rng), "hm"], rated) == {"format": 0.5, "score": 0.5}


def test_the_spread_of_a_run_is_smoothed(tmp_path: Path) -> None:
    values = [0.5] * SMOOTHED + [0.2, None, 0.4]
    rows = [{"step": step, "answers/score_spread": value} for step, value in enumerate(values, 1)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert spread(tmp_path / "log.jsonl") == {SMOOTHED: 0.5, SMOOTHED + 3: pytest.approx(0.3)}


def test_a_gain_is_taken_question_by_question() -> None:
    def found(*values: float) -> dict[str, object]:
        rows = {name: list(values) for name in ("class", "level", "score", "format")}
        return {"drawn": rows, "greedy": rows, "along": {"5": dict.fromkeys(rows, 0.5)}}

    results = {"start": found(0.1, 0.9, 0.5), "reinforced": found(0.3, 1.1, 0.7)}
    shown = page(results, 3, 8)
    assert "| reinforced | 0.700 (+0.200 [+0.200, +0.200]) |" in shown, "constant, so certain"
    assert curve(results) is not None and mean([None, 1.0, 0.0]) == 0.5
