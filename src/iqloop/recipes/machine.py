"""How much of this machine is free for us: cores and memory, as a container may limit them."""

from __future__ import annotations

import math
import os
from pathlib import Path

WORKER_BYTES = 1.6e9
"""A process with the embedded critic, the package's nets, and a photograph of some megapixels under way."""


def cores() -> int:
    """Cores that this process may use, at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        allowed = os.cpu_count() or 1
    quota = _words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0].isdecimal():  # microseconds of each period, else "max"
        allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, allowed)


def free_bytes() -> float:
    """Memory that can be had without swapping; infinity where nobody says."""
    found = [math.inf]
    for line in _lines("/proc/meminfo"):
        name, value, *_ = line.split()
        if name == "MemAvailable:":
            found.append(int(value) * 1024)
    limit, used = _words("/sys/fs/cgroup/memory.max"), _words("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        # What the container has read of files counts as used and can be had back.
        cached = sum(int(line.split()[1]) for line in _lines("/sys/fs/cgroup/memory.stat") if line.startswith("file "))
        found.append(int(limit[0]) - int(used[0]) + cached)
    return min(found)


def fitting_workers(files: int, threads: int) -> int:
    """Processes that ``files`` images, the cores and the free memory have work and room for; at least 1."""
    room = free_bytes() / WORKER_BYTES
    return max(1, min(files, cores() // threads, files if math.isinf(room) else int(room)))


def on_gpu(device: str | None) -> bool:
    """Whether nets run on a GPU, of which one process has enough."""
    import torch

    return torch.cuda.is_available() if device is None else not device.startswith("cpu")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: str) -> list[str]:
    return " ".join(_lines(path)).split()
