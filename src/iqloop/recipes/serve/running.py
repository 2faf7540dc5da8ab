"""Running the application until it is asked to stop: what is being answered then still is."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

GRACE = 5
"""Seconds beyond the longest request after which the end is not waited for any more."""


def make_server(app: ASGIApp, timeout: float, verbose: bool = False) -> uvicorn.Server:
    """A server of one process; ``timeout`` is that of its requests, in seconds."""
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        log_level="info" if verbose else "critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(timeout) + GRACE,
    )
    return uvicorn.Server(config)


def run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; a second SIGINT ends at once."""
    with _signals_end_the_server_only():
        server.run(sockets=[listening])


@contextmanager
def _signals_end_the_server_only() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more when it is done, for whoever started it: here, nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
