"""Scripted servers and small pictures, for the tests of critics on a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from .remote_fakes import Script, ScriptedServer, Serve


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start scripted servers, closed when the test is over."""
    started: list[ScriptedServer] = []

    def start(script: Script, **options: Any) -> ScriptedServer:
        started.append(ScriptedServer(script, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def images(photograph: Any, as_tensor: Any) -> list[Tensor]:
    return [as_tensor(photograph(name, 112)) for name in ("astronaut", "coffee", "chelsea")]
