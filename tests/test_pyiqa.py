"""iqloop's critics inside pyiqa: found, usable, differentiable; and nothing of pyiqa is changed."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from iqloop.critic import plugins
from iqloop.critic.known import KNOWN, create_critic
from iqloop.critic.metric import create_metric
from iqloop.errors import PrerequisiteError, UsageError
from tests.critic.critic_fakes import BrightnessCritic

pyiqa: Any = pytest.importorskip("pyiqa", reason="the extra pyiqa is not installed")
bridge: Any = pytest.importorskip("iqloop.pyiqa")

OFFLINE_FR = ("psnr", "ssim", "ms_ssim", "gmsd", "fsim", "vif", "nlpd", "vsi")
OFFLINE_NR = ("entropy", "piqe")
"""What pyiqa computes without fetching weights."""

BEFORE_AND_AFTER = f"""
import copy, json, sys, torch, pyiqa
from pyiqa.default_model_configs import DEFAULT_CONFIGS

def scores():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 224, 224, generator=generator)
    y = (x + 0.1 * torch.rand(x.shape, generator=generator)).clamp(0, 1)
    full = {{name: float(pyiqa.create_metric(name, device="cpu")(y, x)) for name in {OFFLINE_FR}}}
    return full | {{name: float(pyiqa.create_metric(name, device="cpu")(x)) for name in {OFFLINE_NR}}}

names, configs, before = pyiqa.list_models(), copy.deepcopy(dict(DEFAULT_CONFIGS)), scores()
import iqloop.pyiqa
print(json.dumps({{
    "same_configs": all(DEFAULT_CONFIGS[name] == config for name, config in configs.items()),
    "added": sorted(set(pyiqa.list_models()) - set(names)),
    "lost": sorted(set(names) - set(pyiqa.list_models())),
    "before": before,
    "after": scores(),
}}))
"""


@pytest.fixture(scope="module")
def metric() -> Any:
    return pyiqa.create_metric("qinsight-mini", device="cpu")


def test_pyiqa_stays_as_it_was() -> None:
    ran = subprocess.run([sys.executable, "-c", BEFORE_AND_AFTER], capture_output=True, text=True, check=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["same_configs"] and told["lost"] == []
    assert set(KNOWN) <= set(told["added"])
    assert told["before"] == told["after"] and set(told["before"]) == {*OFFLINE_FR, *OFFLINE_NR}


def test_the_critics_are_listed() -> None:
    assert set(KNOWN) <= set(pyiqa.list_models()) & set(pyiqa.list_models("NR"))
    assert not set(KNOWN) & set(pyiqa.list_models("FR"))
    assert "qinsight-mini" in pyiqa.list_models(filter="qinsight*")


def test_no_name_is_taken_for_a_metric_of_folders() -> None:
    assert not [name for name in bridge.register() if "fid" in name]


def test_twice_is_as_good_as_once() -> None:
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    before = copy.deepcopy(dict(DEFAULT_CONFIGS))
    assert sorted(bridge.register()) == sorted(bridge.register())
    assert dict(DEFAULT_CONFIGS) == before


def test_the_score_is_the_critics(metric: Any, photograph: Callable[..., NDArray[np.uint8]], tmp_path: Path) -> None:
    Image.fromarray(photograph("astronaut", 112)).save(tmp_path / "photo.png")
    own = create_metric("qinsight-mini", device="cpu")
    for given in (str(tmp_path / "photo.png"), Image.open(tmp_path / "photo.png")):
        assert float(metric(given)) == pytest.approx(float(own(given)), abs=1e-5)
    assert (metric.lower_better, metric.score_range, metric.metric_mode) == (False, "1, 5", "NR")


def test_scores_of_a_batch(metric: Any) -> None:
    scores = metric(torch.rand(2, 3, 224, 224))
    assert scores.shape == (2, 1) and bool(scores.isfinite().all()) and not scores.requires_grad
    with pytest.raises(AssertionError, match="normalized"):
        metric(torch.rand(2, 3, 56, 56) * 2)


def test_it_moves_with_its_weights(metric: Any) -> None:
    parameters = list(metric.net.parameters())
    assert len(parameters) > 10
    moved = copy.deepcopy(metric).to("meta")
    assert {parameter.device.type for parameter in moved.net.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in parameters} == {"cpu"}


def test_the_gradient_is_true() -> None:
    loss = pyiqa.create_metric("qinsight-mini", as_loss=True, device="cpu")
    x = torch.randn(2, 3, 224, 224, requires_grad=True)
    loss(x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool((x.grad != 0).any())
    weighted = pyiqa.create_metric(
        "qinsight-mini", as_loss=True, device="cpu", loss_weight=torch.tensor([[1.0], [0.0]])
    )
    y = torch.rand(2, 3, 56, 56, requires_grad=True)
    weighted(y).backward()
    assert y.grad is not None and bool(y.grad[0].any()) and not bool(y.grad[1].any())


def test_options_reach_the_critic() -> None:
    metric = pyiqa.create_metric("qinsight-mini", device="cpu", decoding="reason", max_new_tokens=4)
    assert metric.net.metric.critic.decoding == "reason"
    with pytest.raises(UsageError, match="decoding"):
        loss = pyiqa.create_metric("qinsight-mini", device="cpu", decoding="reason", as_loss=True)
        loss(torch.rand(1, 3, 56, 56))
    with pytest.raises(PrerequisiteError, match="qinsight"):
        pyiqa.create_metric("qinsight", device="cpu")


def test_the_command_line(
    capsys: pytest.CaptureFixture[str], photograph: Callable[..., NDArray[np.uint8]], tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photograph("astronaut", 112)).save(path)
    before = list(sys.argv)
    assert bridge.main(["qinsight-mini", "-t", str(path), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    expected = float(create_metric("qinsight-mini", device="cpu")(path))
    assert f"{expected:.4f}"[:5] in said and "qinsight-mini" in said
    assert bridge.main(["qinsight", "-t", str(path)]) == 2
    assert "hf download" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bridge.main(["--help"])
    assert "usage: python -m iqloop.pyiqa" in capsys.readouterr().out
    assert sys.argv == before


# -- plug-ins ----------------------------------------------------------------------------------------------------------


def brightness(**_: Any) -> BrightnessCritic:
    return BrightnessCritic(name="glow", score_range=(0.0, 10.0), lower_better=True)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    points = [EntryPoint(name, f"{__name__}:brightness", plugins.GROUP) for name in ("glow", "fidelity", "niqe")] + [
        EntryPoint("broken", "no.such.module:create", plugins.GROUP)
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    before = dict(DEFAULT_CONFIGS)
    yield
    for name in set(DEFAULT_CONFIGS) - set(before):
        del DEFAULT_CONFIGS[name]
    assert dict(DEFAULT_CONFIGS) == before


@pytest.mark.usefixtures("offered")
def test_plugins_come_along_without_being_loaded() -> None:
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    niqe = DEFAULT_CONFIGS["niqe"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        names = bridge.register()
    assert {"glow", "broken"} <= set(names) and not {"fidelity", "niqe"} & set(names)
    assert sorted(str(one.message).split("'")[1] for one in told) == ["fidelity", "niqe"]
    assert DEFAULT_CONFIGS["niqe"] is niqe
    metric = pyiqa.create_metric("glow", device="cpu")
    assert (metric.lower_better, metric.score_range) == (True, "0, 10")
    assert float(metric(torch.full((1, 3, 8, 8), 0.5))) == pytest.approx(5.0)


def test_a_metric_of_pyiqa_and_one_of_iqloop_do_not_mix() -> None:
    with pytest.raises(UsageError, match="iqloop's own"):
        create_critic("pyiqa:qinsight-mini")
    assert "pyiqa:qinsight-mini" not in __import__("iqloop").list_metrics(pyiqa=True)
