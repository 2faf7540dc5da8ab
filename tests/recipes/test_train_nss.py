"""``iqloop train nss``: the same data give the same weights, and a critic that every command takes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from iqloop.critic.natural_scene_net import MODEL_TYPE
from tests.conftest import Photograph

from .helpers import lines, run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photograph: Photograph) -> Path:
    root = tmp_path_factory.mktemp("data")
    for part, name in (("photos/train", "astronaut"), ("photos/train", "coffee"), ("photos/val", "chelsea")):
        (root / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(name, 128, 40, 120)).save(root / part / f"{name}.png")
    (root / "rated" / "few").mkdir(parents=True)
    rows = ["file,mos_1_5"]
    for i in range(15):
        image = cv2.GaussianBlur(photograph("astronaut", 96, 8 * i, 60), (0, 0), 0.3 + i / 5)
        Image.fromarray(np.asarray(image)).save(root / "rated" / "few" / f"{i}.png")
        rows.append(f"rated/few/{i}.png,{4.6 - i / 5:.2f}")
    (root / "rated" / "few.csv").write_text("\n".join(rows) + "\n")
    return root


def train(data: Path, out: Path, *options: object) -> Result:
    return run("train", "nss", "--data", data, "-o", out, "--scenes", 4, "--steps", 20, *options)


@pytest.fixture(scope="module")
def trained(data: Path) -> tuple[Path, Result]:
    return data / "nss", train(data, data / "nss")


def test_a_run_and_what_it_tells(data: Path, trained: tuple[Path, Result]) -> None:
    out, result = trained
    assert result.exit_code == 0, result.output
    assert "15 rated photographs, 2 for 4 scenes, 1 held out" in result.stdout
    assert "SRCC with people, held out: " in result.stdout and f"--critic {out}" in result.stdout
    assert json.loads((out / "config.json").read_text())["model_type"] == MODEL_TYPE
    figures = json.loads((out / "figures.json").read_text())
    assert len(figures["rated"]["folds"]) == 5 and figures["scenes"] == 4 and figures["steps"] == 20
    assert set(figures["ladders"]) == {"noise", "blur", "compression", "darken"} == set(figures["ladders_fall"])
    outputs = figures["enlarging"]["outputs"]
    assert outputs["original"]["psnr"] == 60 > outputs["upscale-x2"]["psnr"] > outputs["nearest"]["psnr"]


def test_it_is_repeated_to_the_bit_unless_the_seed_is_another(data: Path, trained: tuple[Path, Result]) -> None:
    weights = (trained[0] / "model.safetensors").read_bytes()
    again = train(data, data / "again", "--json")
    assert again.exit_code == 0, again.output
    (figures,) = lines(again)
    assert (data / "again" / "model.safetensors").read_bytes() == weights
    assert figures == json.loads((trained[0] / "figures.json").read_text())
    assert train(data, data / "other", "--seed", 1).exit_code == 0
    assert (data / "other" / "model.safetensors").read_bytes() != weights


def test_nothing_is_overwritten_unasked(data: Path, trained: tuple[Path, Result]) -> None:
    weights = (trained[0] / "model.safetensors").read_bytes()
    refused = train(data, trained[0], "--seed", 5)
    assert refused.exit_code != 0 and "model.safetensors" in refused.stderr
    assert (trained[0] / "model.safetensors").read_bytes() == weights


def test_what_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    result = train(tmp_path, tmp_path / "out")
    assert result.exit_code == 2 and "photos/train is missing" in result.stderr
    for part in ("photos/train", "photos/val"):
        (tmp_path / part).mkdir(parents=True)
    result = train(tmp_path, tmp_path / "out")
    assert result.exit_code == 2 and "at least 10 rated photographs, found 0" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nss-mini", "folder"])
def test_every_command_that_scores_takes_it(name: str, data: Path, trained: tuple[Path, Result]) -> None:
    critic = trained[0] if name == "folder" else name
    photos = [data / "photos/train/astronaut.png", data / "rated/few/14.png"]
    rows = lines(run("score", *photos, "--critic", critic, "--json"))
    assert [row["metric"] for row in rows] == ["nss" if name == "folder" else name] * 2
    assert all(1 <= row["score"] <= 5 for row in rows)
    ranked = lines(run("rank", *photos, "--critic", critic, "--by", "score", "--json"))
    best = max(rows, key=lambda row: row["score"])
    assert next(row["path"] for row in ranked if row["rank"] == 1) == best["path"]
    measured = run("evaluate", "score", data / "rated" / "few.csv", "--images", data, "--critic", critic, "--json")
    assert measured.exit_code == 0 and lines(measured)[0]["scored"] == 15
    refused = run("perceive", photos[0], "--critic", critic)
    assert refused.exit_code != 0 and "cannot perceive" in refused.stderr


def test_lists_know_it() -> None:
    row = next(row for row in lines(run("metrics", "--json")) if row["name"] == "nss-mini")
    assert row["at_hand"] and row["how"] is None and row["range"] == [1.0, 5.0] and row["licence"] == "Apache-2.0"
    listed = next(row for row in lines(run("models", "list", "--json")) if row["name"] == "nss-mini")
    assert listed["at_hand"] and listed["from"] == "the package" and listed["bytes"] < 200_000
    assert "nss-mini is in the package" in run("models", "pull", "nss-mini").stdout


def test_it_is_not_what_reinforcement_starts_from(data: Path) -> None:
    result = run("train", "critic", "--model", "nss-mini", "--scores", data / "rated/few.csv", "-o", data / "grpo")
    assert result.exit_code == 2 and "no language model" in result.stderr
