"""A client that asks a running server many things at once, and checks what it answers."""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, urlsplit


@dataclass(frozen=True)
class Load:
    """What came of it."""

    requests: int
    failed: tuple[str, ...]
    """Names of files that got no answer, each with the reason."""
    wrong: tuple[str, ...]
    """Names of files whose answer is not the expected one, or is about another file."""
    seconds: float
    latencies: tuple[float, ...]
    """Of every request that was answered, in seconds, sorted."""

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency in seconds that ``share`` of the answers did not exceed (nearest rank); NaN without answers."""
        if not self.latencies:
            return math.nan
        return self.latencies[max(0, math.ceil(share * len(self.latencies)) - 1)]


def send_all(
    address: str,
    files: Sequence[tuple[str, bytes]],
    connections: int,
    expected: Mapping[str, float] | None = None,
    *,
    tolerance: float = 1e-4,
    route: str = "/score",
    token: str | None = None,
    timeout: float = 120.0,
) -> Load:
    """Send each file once, raw, over so many connections that are kept open; a thread each.

    Args:
        address: such as ``http://127.0.0.1:8080``.
        files: names, each different, and bytes.
        connections: requests under way at once.
        expected: the score of each file by its name; None checks the names in the answers only.
        tolerance: largest difference of a score that is right.
        route: one that takes a raw image and answers JSON with ``filename``.
        token: of the server.
        timeout: seconds for which a connection may be silent.
    """
    waiting: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
    for file in files:
        waiting.put(file)
    failed: list[str] = []
    wrong: list[str] = []
    latencies: list[float] = []

    def work() -> None:
        caller = Caller(address, token, timeout)
        while True:
            try:
                name, data = waiting.get_nowait()
            except Empty:
                caller.close()
                return
            began = time.perf_counter()
            try:
                status, answer = caller.post(f"{route}?filename={quote(name)}", data)
            except (OSError, http.client.HTTPException, ValueError) as error:
                failed.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if status != 200:
                failed.append(f"{name}: {status} {answer.get('error')}")
                continue
            latencies.append(time.perf_counter() - began)
            score = None if expected is None else expected[name]
            if answer["filename"] != name or (score is not None and not abs(answer["score"] - score) <= tolerance):
                wrong.append(f"{name}: expected {score}, got {answer.get('score')} for {answer['filename']}")

    threads = [threading.Thread(target=work) for _ in range(min(connections, len(files)))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return Load(len(files), tuple(failed), tuple(wrong), seconds, tuple(sorted(latencies)))


class Caller:
    """One connection, opened when it is needed and again after a fault."""

    def __init__(self, address: str, token: str | None = None, timeout: float = 120.0) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=timeout)
        self._headers = {"Content-Type": "application/octet-stream"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def post(self, path: str, data: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON. Raises OSError, `http.client.HTTPException` or ValueError."""
        try:
            self._connection.request("POST", path, data, self._headers)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
