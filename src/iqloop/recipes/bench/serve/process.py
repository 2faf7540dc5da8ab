"""A server of ``iqloop serve`` in a process of its own, for as long as it is measured."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from iqloop.errors import CriticError
from iqloop.recipes.options import CriticChoice

PART = bytes(2**20)


@contextmanager
def server(choice: CriticChoice, options: Sequence[str] = ()) -> Iterator[str]:
    """Start it and give its address; ended by SIGTERM. Raises `CriticError` when it did not start or end well."""
    words = [sys.executable, "-m", "iqloop", "serve", "--port", "0", "--json", "--critic", choice.name]
    words += ["--seed", str(choice.seed), "--batch-size", str(choice.batch_size), *options]
    for flag, value in (("--device", choice.device), ("--dtype", choice.dtype)):
        words += [] if value is None else [flag, value]
    words += [word for text in choice.more for word in ("--critic-option", text)]
    # Our own interpreter, without a shell.
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise CriticError(f"iqloop serve did not start: it ended with exit code {process.wait()}")
        yield json.loads(line)["address"]
        process.terminate()
        if process.wait(120):
            raise CriticError(f"iqloop serve ended with exit code {process.returncode}, expected 0")
    finally:
        process.kill()
        process.wait()


def spent(address: str) -> tuple[float, float] | None:
    """Memory in MB that the server's process holds, and CPU seconds it has used, by its own metrics; None where the
    system does not tell (not Linux)."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("process_"))
    if not told:
        return None
    return float(told["process_resident_memory_bytes"]) / 2**20, float(told["process_cpu_seconds_total"])


def refusal(address: str, size: int, declared: bool) -> tuple[int, float, int]:
    """Upload ``size`` bytes of nothing: the status, seconds until it was there, and bytes that went out before.

    ``declared`` says how many they are beforehand; else they come in chunks without a length.
    """
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    began = time.perf_counter()
    connection.putrequest("POST", "/score")
    connection.putheader("Content-Type", "application/octet-stream")
    if declared:
        connection.putheader("Content-Length", str(size))
    else:
        connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sent = 0
    with suppress(OSError):  # it hangs up while we send
        while sent < size:
            connection.send(PART if declared else b"%x\r\n%s\r\n" % (len(PART), PART))
            sent += len(PART)
    status = connection.getresponse().status
    seconds = time.perf_counter() - began
    connection.close()
    return status, seconds, sent
