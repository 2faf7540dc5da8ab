"""Measuring things in turn, and what is made of the seconds: medians with intervals, ratios within a round, growth.

Rounds go A B C, A B C: whatever else the machine does falls on all of them, and a ratio compares neighbours in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqloop.critic.evaluation.correlation import LEVEL, RESAMPLES

Task = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """What the rounds gave, in one figure and its uncertainty."""

    median: float
    low: float
    """Of the median's interval of 95 %, by a percentile bootstrap over the rounds."""
    high: float
    values: tuple[float, ...]
    """One for each round."""


def spread(values: Sequence[float], seed: int = 0) -> Spread:
    """The median of at least one value, and its interval; ``seed`` is of the bootstrap's draws."""
    own = np.asarray(values, float)
    if not own.size:
        raise ValueError("expected at least one value, got none")
    again = np.median(np.random.default_rng(seed).choice(own, (RESAMPLES, own.size)), axis=1)
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Spread(float(np.median(own)), float(low), float(high), tuple(own.tolist()))


def within_rounds(own: Sequence[float], base: Sequence[float]) -> Spread:
    """How many times as long as ``base`` it took: the spread of the rounds' ratios."""
    return spread([one / other for one, other in zip(own, base, strict=True)])


def interleave(
    tasks: Mapping[str, Task], rounds: int, warm: bool = True, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every task in every round.

    Args:
        tasks: what to do, by name, in this order.
        rounds: how many.
        warm: do each once beforehand, untimed: a first call pays for imports, kernels chosen by shape, and the like.
        clock: in seconds.
    """
    import torch

    for task in tasks.values() if warm else ():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name, task in tasks.items():
            torch.manual_seed(number)  # some tasks draw from torch's own generator
            began = clock()
            task()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(clock() - began)
    return seconds


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The k of ``value ~ size ** k`` by least squares of the logarithms; sizes and values are positive, two or more."""
    if len(sizes) < 2:
        raise ValueError(f"growth needs at least two sizes, got {len(sizes)}")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
