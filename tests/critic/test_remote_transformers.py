"""A real server that nobody here wrote, `transformers serve`: the embedded critic answers there as it does here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from torch import Tensor

from iqloop.critic.engine import QwenCritic
from iqloop.critic.known import MINI_FOLDER, create_critic
from iqloop.critic.verdicts import Degradation, Rating
from iqloop.errors import CriticError

for package in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(package, reason="the extra serve is not installed")

START_SECONDS = 240.0
"""A bound for a busy machine; it takes a few seconds on an idle one."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The served embedded critic; started here, and stopped when the module's tests are over."""
    folder = tmp_path_factory.mktemp("serve")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(MINI_FOLDER)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, **offline})
    try:
        _wait_until_healthy(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1#{MINI_FOLDER}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            pass
        try:
            process.wait(0.2)  # returns at once when the server has given up
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def local() -> QwenCritic:
    critic = create_critic("qinsight-mini", device="cpu", decoding="reason")
    assert isinstance(critic, QwenCritic)
    return critic


@pytest.fixture
def images(photograph: Any, as_tensor: Any) -> list[Tensor]:
    """Of three photographs one is dark, one noisy, and one larger than the critic's budget."""
    import torch

    astronaut, coffee, rocket = (as_tensor(photograph(name, 192)) for name in ("astronaut", "coffee", "rocket"))
    noisy = coffee + 0.2 * torch.randn(coffee.shape, generator=torch.Generator().manual_seed(0))
    large = as_tensor(photograph("astronaut", 480, 0, 0))
    return [_eight_bit(image) for image in (astronaut * 0.4, noisy, rocket, large)]


def _eight_bit(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def test_written_answers_are_those_of_the_engine(address: str, local: QwenCritic, images: list[Tensor]) -> None:
    served = create_critic(address, decoding="reason")
    assert served.capabilities == local.capabilities
    for there, here in zip(served.score(images), local.score(images), strict=True):
        assert isinstance(there, Rating) and isinstance(here, Rating)
        assert (there.mean, there.std, there.raw, there.answers) == (here.mean, here.std, here.raw, here.answers)
        assert there.provenance.model == address and there.provenance.prompt == here.provenance.prompt
    found = []
    for seen, expected in zip(served.perceive(images), local.perceive(images), strict=True):
        assert isinstance(seen, Degradation) and isinstance(expected, Degradation)
        assert (seen.distortion_class, seen.severity) == (expected.distortion_class, expected.severity)
        assert (seen.raw, seen.reasoning) == (expected.raw, expected.reasoning)
        assert sum(seen.probabilities.values()) == pytest.approx(1)
        found.append(seen.distortion_class)
    assert found[:2] == ["darken", "noise"]
    assert served.describe(images) == local.describe(images)


def test_what_it_cannot_tell_is_said(address: str, images: list[Tensor]) -> None:
    with pytest.raises(CriticError, match=r"no top_logprobs.*--decode reason"):
        create_critic(address).score(images)
    with pytest.raises(CriticError, match=r"400 .*name after #"):
        create_critic(address.split("#")[0] + "#qinsight-mini", decoding="reason").score(images)
