"""iqloop serve, the command: where it listens, how it begins and ends."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from iqloop.errors import UsageError
from iqloop.recipes.serve import listening, running

from .helpers import ScriptedCritic, run
from .serve_helpers import encoded, serving

TOKEN = "a-token-of-enough-length"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(listening.TOKEN, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_need_a_token(host: str, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run", lambda *_: pytest.fail("it serves"))
    result = run("serve", "--host", host, "--port", 0)
    assert result.exit_code == 2 and "--token-file" in result.stderr and listening.TOKEN in result.stderr
    assert not critic.batches


def test_with_a_token_it_may_listen_anywhere() -> None:
    with listening.bind("0.0.0.0", 0, TOKEN) as bound:
        assert bound.getsockname()[1] > 0
    with listening.bind("localhost", 0, None) as bound:
        assert listening.listen(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_an_unknown_host() -> None:
    result = run("serve", "--host", "not a host", "--port", 0)
    assert result.exit_code == 2 and "no such address" in result.stderr


def test_a_port_in_use_is_one_sentence(critic: ScriptedCritic) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", port)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert f"port {port} on 127.0.0.1 is in use" in result.stderr


def test_who_binds_first_may_still_be_second_to_listen() -> None:
    with listening.bind("127.0.0.1", 0, None) as first:
        port = first.getsockname()[1]
        with listening.bind("127.0.0.1", port, None) as second:
            listening.listen(second)
            with pytest.raises(UsageError, match="in use"):
                listening.listen(first)


def test_where_the_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listening.read_token(None) is None
    monkeypatch.setenv(listening.TOKEN, TOKEN)
    assert listening.read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(TOKEN[::-1] + "\n")
    assert listening.read_token(file) == TOKEN[::-1]
    for wrong in ("short", "sixteen letters and spaces"):
        file.write_text(wrong)
        with pytest.raises(UsageError, match="at least 16 characters") as raised:
            listening.read_token(file)
        assert wrong not in str(raised.value)
    with pytest.raises(UsageError, match="cannot be read"):
        listening.read_token(tmp_path / "nothing")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name, *more)
    )
    result = run("serve")
    assert result.exit_code == 2 and "pip install 'iqloop[serve]'" in result.stderr and "uvicorn" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(number: int, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: the signal comes when the server is up."""
    import uvicorn

    startup = uvicorn.Server.startup

    async def then_signal(self: Any, sockets: Any = None) -> None:
        await startup(self, sockets)
        signal.raise_signal(number)

    monkeypatch.setattr(uvicorn.Server, "startup", then_signal)
    before = signal.getsignal(number)
    monkeypatch.setenv(listening.TOKEN, TOKEN)
    result = run("serve", "--port", 0)
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout.startswith("scripted on http://127.0.0.1:") and "with a token" in result.stdout
    assert TOKEN not in result.stdout
    assert signal.getsignal(number) is before


def test_the_embedded_critic_scores_as_it_does_here(photograph: Any, as_tensor: Any) -> None:
    from iqloop.critic.known import create_critic
    from iqloop.recipes.serve.load import send_all

    critic: Any = create_critic(device="cpu")
    photos = {name: photograph(name, side) for name, side in (("astronaut", 120), ("chelsea", 96))}
    ratings = critic.score([as_tensor(photo) for photo in photos.values()])
    expected = {name: rating.mean for name, rating in zip(photos, ratings, strict=True)}
    with serving(critic, token=TOKEN) as served:
        files = [(name, encoded(photo)) for name, photo in photos.items()]
        load = send_all(served.address, files, 2, expected, tolerance=1e-5, token=TOKEN)
    assert (load.failed, load.wrong, len(load.latencies)) == ((), (), 2)
