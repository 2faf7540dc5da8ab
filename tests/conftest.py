"""Fixtures for every test: offline, seeded, one thread; a tiny critic built from its configuration."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import Tensor

Photograph = Callable[..., NDArray[np.uint8]]

# The same examples in every run: a test that fails once fails again, here and in CI.
settings.register_profile("seeded", derandomize=True, database=None)
settings.load_profile("seeded")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own tools and weights reach no test."""
    monkeypatch.setenv("IQLOOP_HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("IQLOOP_CACHE", "IQLOOP_CACHE_LIMIT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def photograph() -> Photograph:
    """A crop of a real photograph that ships with scikit-image: ``photograph("astronaut", 192)``."""
    from skimage import data

    def make(name: str = "astronaut", side: int = 192, top: int = 60, left: int = 130) -> NDArray[np.uint8]:
        image = np.asarray(getattr(data, name)())
        return np.ascontiguousarray(image[top : top + side, left : left + side])

    return make


@pytest.fixture(scope="session")
def as_tensor() -> Callable[[NDArray[np.uint8]], Tensor]:
    """``(H, W, 3)`` uint8 to ``(3, H, W)`` in [0, 1]."""
    return lambda image: torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a random Qwen2.5-VL with sharpened weights, so that differences show."""
    from iqloop.critic.mini import build_model, build_processor, build_tokenizer, save
    from iqloop.critic.training.reasoning import corpus

    folder = tmp_path_factory.mktemp("critic") / "tiny"
    processor = build_processor(build_tokenizer(corpus(), vocabulary=600))
    text: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    vision = {"depth": 2, "hidden_size": 48, "num_heads": 2, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    model = build_model(processor.tokenizer, vision=vision, text=text)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    tasks = ["score", "degradation", "compare", "compare-reference"]
    views = {**model.config.iqloop["views"], "reflections": 1}
    model.config.iqloop = {**model.config.iqloop, "tasks": tasks, "answer_begin": "", "views": views}
    save(model, processor, folder)
    return folder
