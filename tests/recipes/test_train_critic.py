"""``iqloop train critic``: one clear error before the first step, the plan, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from tests.conftest import Photograph

from .helpers import run as command

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's and transformers' notes of deprecation


@pytest.fixture
def folder(tmp_path: Path, photograph: Photograph) -> Path:
    for i, name in enumerate(("astronaut", "coffee", "chelsea", "rocket")):
        Image.fromarray(photograph(name, 56, 30, 60)).save(tmp_path / f"{i}.png")
    (tmp_path / "s.csv").write_text("file,mos_1_5\n0.png,1\n1.png,2\n2.png,3\n3.png,4\n")
    return tmp_path


def run(tiny: Path, folder: Path, *options: str) -> Result:
    return command("train", "critic", "--model", tiny, "-o", folder / "run", "--device", "cpu", *options)


SMALL = ("--generations", "2", "--prompts-per-step", "2", "--prompts-per-device", "2", "--max-new-tokens", "8")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, "cannot be read"),
        ("file,mos_1_5\n0.png,1\n1.png,7\n", "row 3: expected an opinion in [1, 5], got 7"),
        ("file,rank\n0.png,1\n", "expected the columns file"),
        ("", "empty file"),
        ("file,mos_1_5\n", "expected a row for each image"),
        ("file,mos_1_5\n0.png,1\nnone.png,2\n", "none.png: no such image"),
        ("file,mos_1_5\n0.png,1\ns.csv,2\n", "cannot be read as an image"),
        ("file,mos_1_5\n0.png,1\n", "expected at least 2 rows to fill a step"),
    ],
)
def test_bad_data_is_one_error_before_the_first_step(
    tiny_folder: Path, folder: Path, labels: str | None, expected: str
) -> None:
    table = folder / "labels.csv"
    if labels is not None:
        table.write_text(labels)
    result = run(tiny_folder, folder, "--scores", str(table), *SMALL, "--steps", "1")
    assert result.exit_code == 2, result.output
    assert expected in result.output and "Traceback" not in result.output
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "name label files with --scores"),
        (("--preset", "visualquality-r1", "--degradations", "d.json"), "have no degradation question"),
        (("--scores", "s.csv", "--prompts-per-step", "3", "--prompts-per-device", "2"), "must be a multiple of"),
        (("--scores", "s.csv", "--rate", "1e-7", "--final-rate", "1e-6"), "0 <= final_rate <= rate"),
        (("--scores", "s.csv", "--warm-up", "-1"), "-1 is not in the range x>=0"),
        (("--scores", "s.csv", "--deepspeed", "zero9"), "expected zero2, zero3"),
    ],
)
def test_settings_that_do_not_fit(tiny_folder: Path, folder: Path, options: tuple[str, ...], expected: str) -> None:
    row = {"image": "0.png", "distortion_class": "blur", "severity": "slight"}
    (folder / "d.json").write_text(json.dumps([row, row]))
    named = [str(folder / word) if (folder / word).is_file() else word for word in options]
    result = run(tiny_folder, folder, *SMALL, *named)
    assert result.exit_code == 2 and expected in " ".join(result.output.split()), result.output


def test_a_dry_run_says_steps_and_memory_and_writes_nothing(tiny_folder: Path, folder: Path) -> None:
    result = run(tiny_folder, folder, "--scores", str(folder / "s.csv"), *SMALL, "--epochs", "3", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "4 rows of score" in result.output
    assert "6 steps of 2 questions with 2 answers (4)" in result.output
    assert "memory on each of 1 device, in GiB" in result.output and "start it" not in result.output
    assert not (folder / "run").exists()


def test_a_dry_run_plans_for_machines_and_weights_that_are_not_here(folder: Path) -> None:
    head, *rows = (folder / "s.csv").read_text().splitlines()
    (folder / "many.csv").write_text("\n".join([head, *rows * 4]))
    words = ("train", "critic", "--model", "qinsight", "--scores", str(folder / "many.csv"), "-o", str(folder / "run"))
    more = ("--steps", "3", "--dry-run", "--gpus", "8", "--nodes", "2", "--deepspeed", "zero3")
    result = command(*words, *more, "--prompts-per-device", "1", "--gradient-checkpointing")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "8292.17 of 8292.17 million parameters" in said and "on each of 16 devices" in said
    assert "planned with the published architecture" in said and "gathered weights 15.4" in said
    assert "two-nodes.yaml --machine_rank RANK --main_process_ip ADDRESS -m iqloop train critic" in said
    # Two questions a device and sixteen devices: 32, and a step has 16.
    assert "as a multiple of 16" in " ".join(command(*words, *more).output.split())
    assert command(*words, "--gpus", "8").exit_code == 2, "a run is not told how many machines there are"
    without = command(*words, "--dry-run", "--nodes", "2")
    assert without.exit_code == 2 and "give both" in without.output


def test_a_run_and_what_it_leaves(tiny_folder: Path, folder: Path) -> None:
    words = ("--scores", str(folder / "s.csv"), *SMALL, "--preset", "visualquality-r1", "--steps", "2")
    result = run(tiny_folder, folder, *words, "--save-every", "1")
    assert result.exit_code == 0, result.output
    assert "step 2/2" in result.output
    output = folder / "run"
    assert (output / "final" / "model.safetensors").is_file() and (output / "final" / "tokenizer.json").is_file()
    assert list(output.glob("runs/**/events*")), "figures for TensorBoard"
    assert len((output / "completions.jsonl").read_text().splitlines()) == 2
    assert json.loads((output / "settings.json").read_text())["score_by"] == "ranking"
    other = run(tiny_folder, folder, *words, "--rate", "0.5")
    assert other.exit_code == 2 and "rate was 1e-06, is 0.5" in " ".join(other.output.split())
