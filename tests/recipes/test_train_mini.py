"""`iqloop train mini`: the stages of the embedded critic's recipe, each from what the one before it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from iqloop.critic.engine import QwenCritic
from iqloop.critic.known import create_critic
from iqloop.critic.training import vision, warmstart
from iqloop.critic.verdicts import Rating

from .helpers import run

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' notes of deprecation


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for part, names in (("train", ("astronaut", "coffee")), ("val", ("chelsea",))):
        folder = tmp_path / "data/photos" / part
        folder.mkdir(parents=True)
        for name in names:
            Image.fromarray(np.asarray(getattr(skimage.data, name)())).save(folder / f"{name}.png")
    return tmp_path / "data"


def test_supervised_stages_leave_a_critic(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "HELD_OUT", 1)
    monkeypatch.setattr(vision, "HELD_OUT_PAIRS", 1)

    def stage(name: str, *more: object) -> str:
        asked = ("train", "mini", "--stage", name, "--data", data, "--run", "run", "--width", 64, "--workers", 0)
        result = run(*asked, "--vision-steps", 2, "--warmstart-steps", 2, *more)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    assert "vision step=2 " in stage("vision")
    assert "step=" not in stage("vision"), "what is done is not done again"
    shares: list[float] = []
    train = warmstart.train_warmstart

    def watched(*given: Any, **named: Any) -> Any:
        shares.append(next(value for value in given if isinstance(value, warmstart.WarmstartSettings)).clean_share)
        return train(*given, **named)

    monkeypatch.setattr(warmstart, "train_warmstart", watched)
    assert "held_out_loss" in stage("warmstart", "--freeze-vision", "--clean-share", 0.45)
    assert shares == [0.45]
    assert "export run/qinsight-mini from run/warmstart" in stage("export")
    critic = create_critic("run/qinsight-mini", device="cpu")
    assert isinstance(critic, QwenCritic) and critic.checkpoint.model.config.text_config.hidden_size == 64
    assert "compare" in critic.capabilities
    (rating,) = critic.score([torch.rand(3, 112, 84, generator=torch.Generator().manual_seed(0))])
    assert isinstance(rating, Rating) and 1 <= rating.mean <= 5
    # The warm start saw with the stage's averaged tower, and left it alone; half precision rounds it.
    taught, _ = vision.load_tower(Path("run/tower.safetensors"))
    kept = critic.checkpoint.model.model.visual.state_dict()
    assert set(taught) == set(kept)
    for name, values in taught.items():
        torch.testing.assert_close(kept[name].float(), values.float(), rtol=2e-3, atol=1e-4)
