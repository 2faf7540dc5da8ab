"""Pieces of work side by side on a CPU's cores, where each is too small to be shared among them.

The products of a net of a few million parameters take microseconds. Shared among threads, each waits for the others
after every one of them, all the longer when a core has other work too. Whole batches side by side wait once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

T = TypeVar("T")
R = TypeVar("R")

SMALL = 100_000_000
"""Parameters below which a net's batches go side by side; larger ones fill all cores with one product, and their
activations would not fit twice."""


def cores_for(model: nn.Module) -> int:
    """How many batches of a net go side by side here: as many as torch has threads for a small net on a CPU, else 1."""
    parameters = list(model.parameters())
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    small = sum(parameter.numel() for parameter in parameters) < SMALL
    return torch.get_num_threads() if on_cpu and small else 1


def even_size(count: int, most: int, cores: int) -> int:
    """The size of the pieces of ``count`` items, at most ``most`` each, that keeps all cores busy to the end.

    So few items that a core would have but one are left together.
    """
    if count < 2 * cores:
        return most
    rounds = math.ceil(count / (most * cores))
    return math.ceil(count / (rounds * cores))


def side_by_side(work: Callable[[T], R], pieces: Sequence[T], cores: int) -> list[R]:
    """What ``work`` makes of each piece, in order; ``cores`` at a time, if no gradient is asked for.

    An error of any piece is raised when those under way have ended.
    """
    workers = min(cores, len(pieces))
    # Which precision autocast wants is known to the calling thread alone.
    if workers < 2 or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return [work(piece) for piece in pieces]
    threads = torch.get_num_threads()

    def begin() -> None:
        torch.set_grad_enabled(False)
        torch.set_num_threads(max(1, threads // workers))

    pool = ThreadPoolExecutor(workers, "iqloop-critic", begin)
    try:
        return list(pool.map(work, pieces))
    finally:
        pool.shutdown(cancel_futures=True)
        # It is also what threads begin with that are started later, anywhere.
        torch.set_num_threads(threads)
