"""A server in a thread of the test, a critic whose answers follow from the image, and a client."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.agents import Budget
from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed
from iqloop.recipes.serve.limits import Limits

from ..agents.agents_fakes import FakeCritic, FakeTool, Tools, degradation

WAIT = 20.0
"""Seconds after which a test gives up; none waits for so long when all is well."""


def brightness(image: Tensor) -> float:
    """A rating in [1, 5]."""
    return 1 + 4 * float(image.mean())


class WatchedCritic(FakeCritic):
    """Rates by brightness; notes who asks and how much at once, and can be held up."""

    def __init__(self, score: Callable[[Tensor], float | Unparsed] = brightness, compares: bool = True) -> None:
        def compare(a: Tensor, b: Tensor, _: Tensor) -> float:
            return 0.5 + (brightness(a) - brightness(b)) / 10

        super().__init__(score, self._look, compare if compares else None)
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.entered = threading.Semaphore(0)
        """Released when a question begins."""
        self.open = threading.Event()
        """A question ends when this is set."""
        self.open.set()

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self._enter(len(images))
        return super().score(images)

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        self._enter(len(images))
        return super().perceive(images)

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        self._enter(len(a))
        found = super().compare(a, b, a if reference is None else reference)
        # What it was asked with is seen in the answer.
        return [
            one if isinstance(one, Unparsed) else Preference(one.choice, one.probability, str(reference is not None))
            for one in found
        ]

    def _look(self, image: Tensor) -> Degradation:
        return degradation(noise=float(image.mean()) * 5)

    def _enter(self, size: int) -> None:
        self.batches.append(size)
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.open.wait(WAIT)


@dataclass
class Running:
    """A server, and a client of it."""

    address: str
    server: Any
    thread: threading.Thread
    reports: list[tuple[str, int, Exception]] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=WAIT)

    def ask(
        self, method: str, path: str, body: Any = None, kind: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body."""
        connection = self.connect()
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**given, **({} if kind is None else {"Content-Type": kind})})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, data: bytes, kind: str = "image/png", **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a raw body."""
        status, _, answer = self.ask("POST", path, data, kind, **headers)
        return status, json.loads(answer)

    def form(self, path: str, *parts: tuple[str, str, bytes], **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a form of files: field, file's name, bytes."""
        body, kind = form(*parts)
        return self.post(path, body, kind, **headers)

    def metric(self, line: str) -> float:
        """The value of a line of ``/metrics``; 0 where there is none."""
        text = self.ask("GET", "/metrics")[2].decode()
        return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line + " ")), 0.0)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(WAIT)
        assert not self.thread.is_alive()


@contextmanager
def serving(
    critic: Any, *tools: FakeTool, limits: Limits | None = None, budget: Budget | None = None, token: str | None = None
) -> Iterator[Running]:
    """A server on a free port of this machine."""
    from iqloop.recipes.serve.app import make_app
    from iqloop.recipes.serve.listening import bind, listen
    from iqloop.recipes.serve.running import make_server, run

    limits = limits or Limits()
    reports: list[tuple[str, int, Exception]] = []
    app = make_app(critic, Tools(*tools), limits, budget, token, lambda *told: reports.append(told))
    with bind("127.0.0.1", 0, token) as bound:
        server = make_server(app, WAIT)
        address = listen(bound)
        running = Running(address, server, threading.Thread(target=run, args=(server, bound)), reports)
        running.thread.start()
        try:
            yield running
        finally:
            if isinstance(critic, WatchedCritic):
                critic.open.set()
            running.stop()


@contextmanager
def begun(*calls: Callable[[], Any]) -> Iterator[list[Any]]:
    """Calls, each in a thread; their results are there when it ends."""
    results: list[Any] = [None] * len(calls)

    def do(place: int) -> None:
        results[place] = calls[place]()

    threads = [threading.Thread(target=do, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()


def form(*parts: tuple[str, str, bytes]) -> tuple[bytes, str]:
    """A body and its content type."""
    body = b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for field, name, data in parts
    )
    return body + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def encoded(image: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    target = io.BytesIO()
    Image.fromarray(image).save(target, kind, **options)
    return target.getvalue()


def grey(level: int, height: int = 16, width: int = 16) -> bytes:
    """A PNG of one grey."""
    return encoded(np.full((height, width, 3), level, np.uint8))


def rating_of(level: int) -> float:
    """What `WatchedCritic` says of such an image."""
    return 1 + 4 * level / 255
