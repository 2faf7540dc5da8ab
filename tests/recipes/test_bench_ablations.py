"""`bench ablations`: every variant trains from the same start, is measured, kept and shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from iqloop.critic.training.crops import Label
from iqloop.critic.training.reasoning import NAMES
from iqloop.critic.verdicts import CLASSES
from iqloop.errors import UsageError
from iqloop.recipes.bench.ablations import TITLES, VARIANTS, Scale, drawn, read, run, spread_plot, tables
from iqloop.recipes.evaluate import query_per_class
from tests.conftest import Photograph

from .helpers import run as command

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's and transformers' notes of deprecation


@pytest.fixture
def data(tmp_path: Path, photograph: Photograph) -> Path:
    names = ("astronaut", "coffee", "chelsea", "rocket", "astronaut", "coffee")
    for folder in ("photos/train", "photos/val", "rated"):
        (tmp_path / folder).mkdir(parents=True)
        for i, name in enumerate(names):
            Image.fromarray(photograph(name, 80, 30, 60 + i)).save(tmp_path / folder / f"{i}.png")
    rows = "".join(f"{i}.png,{1.5 + i / 2}\n" for i in range(len(names)))
    (tmp_path / "rated/mos.csv").write_text(f"file,mos_1_5\n{rows}")
    return tmp_path


def test_variants_are_trained_measured_and_kept(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    scale = Scale(data, tiny_folder, steps=1, questions=2, rate=1e-3, side=56, cases=20, samples=2)
    names = ["start", "supervised", "joint", "binary", "one query", "a query for each class"]
    told: list[str] = []
    results, spreads = run(names, scale, tmp_path / "out", told.append)
    assert list(results) == names
    begin, trained = (
        load_file(folder / "model.safetensors") for folder in (tiny_folder, tmp_path / "out/supervised/final")
    )
    assert any(not torch.equal(begin[key], trained[key].to(begin[key].dtype)) for key in begin), (
        "trained; by reinforcement a tiny critic earns no reward to learn from"
    )
    assert list(spreads["joint"]) == [1] and list(spreads["start"]) == [0]
    assert not list((tmp_path / "out/joint").glob("at-*")), "weights along the way are looked at once"
    kept = json.loads((tmp_path / "out/joint.json").read_text())
    assert kept["figures"] == results["joint"] and kept["variant"]["tasks"] == ["score", "degradation"]
    again: list[str] = []
    assert run(names, scale, tmp_path / "out", again.append) == (results, spreads)
    assert len(again) == len(names), "nothing is trained twice"
    text = tables(results)
    assert f"### {TITLES['reinforcement']}" in text and f"### {TITLES['epsilon']}" not in text
    assert text.count("| start |") == 4, "in each table that has a variant beside it"
    spread_plot(spreads).savefig(tmp_path / "spread.png")


def test_folds_part_the_rated_photographs(data: Path, tiny_folder: Path) -> None:
    found = read(Scale(data, tiny_folder, fold=1))
    assert [value for _, value in found.held_out_rated] == [2.0]
    assert [value for _, value in found.rated] == [1.5, 2.5, 3.0, 3.5, 4.0]


def test_drawn_answers_of_a_critic_that_says_nothing(data: Path, tiny_folder: Path) -> None:
    scale = Scale(data, tiny_folder, side=56, samples=2)
    found = drawn(tiny_folder, scale, read(scale).held_out_rated)
    assert found["unparsed"] is not None and found["unparsed"] > 0
    assert found["drawn_score_reward"] is None or found["drawn_score_reward"] < 1


def test_missing_data_is_named(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="photos/train"):
        read(Scale(tmp_path, tiny_folder))


def test_an_unknown_variant_is_named(data: Path, tiny_folder: Path) -> None:
    result = command(
        "bench", "ablations", "--critic", tiny_folder, "--data", data, "-o", data / "out", "--only", "nothing"
    )
    assert result.exit_code == 2 and "nothing: expected one of start" in result.stderr


def test_names_are_one_each() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def test_a_query_for_each_class(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst of the severities that are said names the image; a word that is no severity counts as none."""
    said = iter(["none </answer>", "serious </answer>", "slight</answer>", "hm", *["none </answer>"] * 4])
    monkeypatch.setattr(query_per_class, "write", lambda *_, **__: [next(said)])
    perceive = query_per_class.perceiver(tiny_folder)
    second = list(NAMES)[1]
    assert perceive(torch.rand(3, 56, 56)) == (second, "serious")
    assert perceive(torch.rand(3, 56, 56)) == ("null", "null")


def test_answers_about_a_class() -> None:
    noise, blur = (CLASSES.index(name) for name in ("noise", "blur"))
    rng = np.random.default_rng(0)
    answers = {name: asked.answer for name, asked in zip(NAMES, query_per_class.QUESTIONS, strict=True)}
    assert "moderate" in answers["noise"](Label(noise, 0, 2, 3.0), rng)
    assert "none" in answers["noise"](Label(blur, 8, 2, 3.0), rng)
    assert "none" in answers["blur"](Label(CLASSES.index("null"), None, None, 4.6), rng)
