"""Images and a scripted critic for every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.critic import known

from .helpers import SIDE, ScriptedCritic


@pytest.fixture
def clean(photograph: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return photograph("astronaut", SIDE)


@pytest.fixture
def noisy(clean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 20, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def critic(
    clean: NDArray[np.uint8], as_tensor: Callable[[NDArray[np.uint8]], Tensor], monkeypatch: pytest.MonkeyPatch
) -> ScriptedCritic:
    """The critic that every command gets."""
    scripted = ScriptedCritic(as_tensor(clean))
    monkeypatch.setattr(known, "create_critic", lambda name, **options: scripted)
    monkeypatch.setenv("IQLOOP_RESTORE_WORKERS", "1")  # other processes would load the real one
    return scripted


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photo(here: Path, noisy: NDArray[np.uint8]) -> Path:
    """``photo.png`` in the current folder: a noisy photograph."""
    Image.fromarray(noisy).save("photo.png")
    return Path("photo.png")


@pytest.fixture
def folder(here: Path, noisy: NDArray[np.uint8], clean: NDArray[np.uint8]) -> Path:
    """``in`` with a noisy photograph, a clean one below, and a hidden file."""
    Path("in/sub").mkdir(parents=True)
    Image.fromarray(noisy).save("in/noisy.png")
    Image.fromarray(clean).save("in/sub/clean.png")
    Path("in/._noisy.png").write_bytes(b"not an image")
    return Path("in")
