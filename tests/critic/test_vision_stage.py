"""The vision stage: a killed run that resumes ends where an unbroken one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from iqloop.critic.checkpoint import CheckpointSource, load
from iqloop.critic.training.crops import Crops, Label, Plan, well_rated
from iqloop.critic.training.opinion import FUNCTIONS
from iqloop.critic.training.pairs import PairPlan
from iqloop.critic.training.vision import (
    TOWER,
    Heads,
    VisionSettings,
    load_tower,
    loss_of,
    rate_at,
    train_vision,
    whitened_dct,
)
from iqloop.critic.verdicts import CLASSES
from iqloop.errors import UsageError
from tests.conftest import Photograph

SETTINGS = VisionSettings(
    steps=4,
    small_share=0.25,
    small=Plan(28, 6),
    large=Plan(56, 4),
    native=Plan(84, 2),
    pairs=PairPlan(56, 2),
    save_every=2,
)


class Killed(Exception):
    pass


def train(
    tiny_folder: Path, folder: Path, images: list[Any], stop: bool = False, settings: VisionSettings = SETTINGS
) -> dict[str, torch.Tensor]:
    visual = load(
        CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True
    ).model.model.visual.requires_grad_(True)

    def log(row: dict[str, float]) -> None:
        # The checkpoint of step 2 is written after its figures are told: stop at the next ones, before step 4 is saved.
        if stop and row["step"] == 4:
            raise Killed

    train_vision(visual, images, [(images[0], 3.0)], images, (), settings, folder, log, workers=0)
    return dict(visual.state_dict())


def test_resume_is_exact(tiny_folder: Path, photograph: Photograph, tmp_path: Path) -> None:
    images = [photograph("astronaut", 300), photograph("coffee", 280)]
    unbroken = train(tiny_folder, tmp_path / "a", images)
    with pytest.raises(Killed):
        train(tiny_folder, tmp_path / "b", images, stop=True)
    assert torch.load(tmp_path / "b" / "vision.pt", weights_only=True)["step"] == 2
    resumed = train(tiny_folder, tmp_path / "b", images)
    assert all(torch.equal(unbroken[key], resumed[key]) for key in unbroken)


def test_the_dct_start_is_white() -> None:
    patches = torch.from_numpy(np.random.default_rng(0).normal(size=(400, 1176)).astype(np.float32))
    weight = whitened_dct(64, patches)
    assert weight.shape == (64, 3, 2, 14, 14)
    assert (patches @ weight.flatten(1).T).std(0).allclose(torch.ones(64), atol=1e-4)


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates[-1] < 0.03
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_heads_learn_first_and_the_mean_is_what_comes_out(
    tiny_folder: Path, photograph: Photograph, tmp_path: Path
) -> None:
    images = [photograph("astronaut", 300), photograph("coffee", 280)]
    begin = train(tiny_folder, tmp_path / "begin", images, settings=replace(SETTINGS, steps=1, fresh=False, rate=0.0))
    alone = train(tiny_folder, tmp_path / "alone", images, settings=replace(SETTINGS, fresh=False, heads_first=4))
    assert all(torch.equal(begin[key], alone[key]) for key in begin if key.endswith("qkv.weight"))
    learned = train(tiny_folder, tmp_path / "mean", images, settings=replace(SETTINGS, fresh=False, average=0.9))
    tower, heads = load_tower(tmp_path / "mean" / TOWER)
    assert all(torch.allclose(learned[key], tower[key], atol=1e-3) for key in learned)  # in half precision
    assert set(heads) == set(Heads(64).state_dict())
    state = torch.load(tmp_path / "mean" / "vision.pt", weights_only=True)
    key = "blocks.0.attn.qkv.weight"
    moved = (state["learning"][f"visual.{key}"] - begin[key]).norm()
    assert 0 < (learned[key] - begin[key]).norm() < moved  # an average lags behind


def test_severity_is_read_for_the_function_that_it_is() -> None:
    heads = Heads(16)
    outputs = [torch.zeros_like(out) for out in heads(torch.zeros(1, 4, 16))]
    function = FUNCTIONS.index("compression_jpeg")
    label = Label(CLASSES.index("compression"), function, 4, 3.0)
    unsure = float(loss_of(outputs, [label]))
    outputs[2][0, function, 3] = 50.0
    assert float(loss_of(outputs, [label])) == pytest.approx(unsure - np.log(5), abs=1e-4)
    outputs[2][0, function - 1, 0] = 50.0  # what another function's severity would be is not asked
    assert float(loss_of(outputs, [label])) == pytest.approx(unsure - np.log(5), abs=1e-4)


def test_classes_are_drawn_in_their_shares(photograph: Photograph) -> None:
    image = photograph("coffee", 64)
    shares = {"noise": 1e-9, "blur": 1.0, "compression": 3.0, "darken": 1e-9}
    crops = Crops([image], (), [Plan(28, 600)], seed=0, clean_share=0.0, shares=shares)
    drawn = [CLASSES[label.distortion_class or 0] for label in crops.batch(0).labels if not label.also]
    assert set(drawn) == {"blur", "compression"}
    assert drawn.count("compression") / len(drawn) == pytest.approx(0.75, abs=0.06)


def test_fair_photographs_serve_at_half_their_size(photograph: Photograph) -> None:
    image = photograph("astronaut", 300)
    good, fair = well_rated([(image, 3.9), (image, 3.2), (image, 2.0)])
    assert good is image and fair.shape == (150, 150, 3)
    assert abs(float(fair.mean()) - float(image.mean())) < 1


def test_a_tower_is_not_any_file(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other.safetensors"
    text.write_text("no weights")
    save_file({"weight": torch.zeros(2)}, other)
    for path in (text, other, tmp_path / "missing"):
        with pytest.raises(UsageError, match="expected the tower of a vision stage"):
            load_tower(path)


def test_towers_are_averaged(tiny_folder: Path, photograph: Photograph, tmp_path: Path) -> None:
    images = [photograph("astronaut", 300), photograph("coffee", 280)]
    for name, seed in (("a", 0), ("b", 1)):
        train(tiny_folder, tmp_path / name, images, settings=replace(SETTINGS, steps=1, seed=seed))
    files = [tmp_path / name / TOWER for name in ("a", "b")]
    (one, _), (other, last) = (load_tower(path) for path in files)
    mean, heads = load_tower(*files)
    key = "blocks.0.attn.qkv.weight"
    assert not torch.equal(one[key], other[key])
    assert all(torch.allclose(mean[name], (one[name] + other[name]) / 2) for name in mean)
    assert all(torch.equal(heads[name], last[name]) for name in heads)
    save_file({"visual.weight": torch.zeros(2), "heads.weight": torch.zeros(2)}, tmp_path / "small.safetensors")
    with pytest.raises(UsageError, match="of the sizes of"):
        load_tower(files[0], tmp_path / "small.safetensors")
