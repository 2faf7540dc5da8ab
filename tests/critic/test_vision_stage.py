"""The vision stage: a killed run that resumes ends where an unbroken one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqloop.critic.checkpoint import CheckpointSource, load
from iqloop.critic.training.crops import Plan
from iqloop.critic.training.pairs import PairPlan
from iqloop.critic.training.vision import VisionSettings, rate_at, train_vision, whitened_dct
from tests.conftest import Photograph

SETTINGS = VisionSettings(
    steps=4, small_share=0.25, small=Plan(28, 6), large=Plan(56, 4), pairs=PairPlan(56, 2), save_every=2
)


class Killed(Exception):
    pass


def train(tiny_folder: Path, folder: Path, images: list[Any], stop: bool = False) -> dict[str, torch.Tensor]:
    visual = load(
        CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True
    ).model.model.visual.requires_grad_(True)

    def log(row: dict[str, float]) -> None:
        # The checkpoint of step 2 is written after its figures are told: stop at the next ones, before step 4 is saved.
        if stop and row["step"] == 4:
            raise Killed

    train_vision(visual, images, [(images[0], 3.0)], images, (), replace(SETTINGS), folder, log, workers=0)
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
