"""Which order of two treatments does better, measured from the tools at hand: an order prior with its origin.

Photographs are damaged by each pair of degradations in the order in which a camera makes them, mended in both orders
with the tools that the loop would try first, and compared with the clean original (after AgenticIR's exploration, which
asked a critic instead of the original).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iqloop import distort
from iqloop.agents.diagnosis import PERCEIVED
from iqloop.agents.order import Stages
from iqloop.restorers.full_reference import tensor_psnr as psnr
from iqloop.restorers.tool import Tool, Treatment

TIE = 0.1
"""Two results whose PSNR differs by no more, in dB, are equally good."""
MARGIN = 0.1
"""Fail rates of the two orders of a pair that differ by no more do not part two treatments."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Trial:
    """One photograph with two degradations, mended in both orders."""

    first: Treatment
    then: Treatment
    gain: float
    """PSNR in dB of first-then over the damaged input."""
    reversed_gain: float
    """That of then-first."""


@dataclass(frozen=True)
class FailRates:
    """What became of one pair of treatments."""

    first: Treatment
    then: Treatment
    rate: float
    """Share of the photographs on which this order is worse than the reversed one by more than `TIE`."""
    reversed: float
    """Share on which the reversed order is the worse one."""
    advantage: float
    """Mean PSNR in dB of this order over the reversed one."""
    count: int


def run_trials(
    photographs: Iterable[Bytes],
    tools: Mapping[Treatment, Tool],
    seed: int = 0,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """Every pair of the treatments in ``tools`` on every photograph ``(H, W, 3)`` uint8 RGB, severities drawn by
    ``seed``."""
    pairs = list(combinations([treatment for treatment in PERCEIVED if treatment in tools], 2))
    trials = []
    for place, clean in enumerate(photographs):
        for number, (first, then) in enumerate(pairs):
            rng = np.random.default_rng([seed, place, number])
            mixture = distort.draw_mixture((first, then), rng)
            damaged = _tensor(distort.apply_all(clean, mixture, seed=int(rng.integers(2**31))))
            target = _tensor(clean)
            before = psnr(damaged, target)
            ways = ((first, then), (then, first))
            gains = [psnr(_mend(damaged, [tools[one] for one in way]), target) - before for way in ways]
            trials.append(Trial(first, then, gains[0], gains[1]))
            on_trial(trials[-1])
    return trials


def fail_rates(trials: Sequence[Trial]) -> list[FailRates]:
    """One entry for each pair of treatments, the better order first."""
    found = []
    for first, then in dict.fromkeys((trial.first, trial.then) for trial in trials):
        lead = np.array([t.gain - t.reversed_gain for t in trials if (t.first, t.then) == (first, then)])
        worse, better = float((lead < -TIE).mean()), float((lead > TIE).mean())
        if (worse, -lead.mean()) <= (better, lead.mean()):
            found.append(FailRates(first, then, worse, better, float(lead.mean()), len(lead)))
        else:
            found.append(FailRates(then, first, better, worse, float(-lead.mean()), len(lead)))
    return found


def stages_of(rates: Sequence[FailRates]) -> Stages:
    """Treatments in stages by how many others each should come before, less those that should come before it.

    A pair counts when its rates differ by more than `MARGIN`. ``low-resolution`` is always last: the size is changed
    when the picture is mended.
    """
    wins: dict[Treatment, int] = {}
    for pair in rates:
        parted = int(pair.reversed - pair.rate > MARGIN)
        wins[pair.first] = wins.get(pair.first, 0) + parted
        wins[pair.then] = wins.get(pair.then, 0) - parted
    levels = sorted(set(wins.values()), reverse=True)
    stages = [tuple(one for one in PERCEIVED if wins.get(one) == level) for level in levels]
    return (*stages, ("low-resolution",))


def as_document(rates: Sequence[FailRates], tools: Mapping[Treatment, Tool], note: str) -> dict[str, Any]:
    """The order as a JSON document such as `iqloop.agents.order.load_stages` reads."""
    used = ", ".join(f"{tool.info.name} {tool.info.version}" for tool in tools.values())
    listed = [
        {
            "first": pair.first,
            "then": pair.then,
            "rate": round(pair.rate, 3),
            "reversed": round(pair.reversed, 3),
            "advantage_db": round(pair.advantage, 3),
            "count": pair.count,
        }
        for pair in rates
    ]
    source = f"iqloop train order: fail rates of two orders by PSNR (ties within {TIE} dB), tools {used}"
    origin = [{"source": source, "fail_rates": listed, "note": note}]
    return {"version": "1", "stages": [list(stage) for stage in stages_of(rates)], "origin": origin}


@torch.no_grad()
def _mend(image: Tensor, tools: Sequence[Tool]) -> Tensor:
    for tool in tools:
        image = tool.restore(image[None])[0].clamp(0, 1)
    return image


def _tensor(image: Bytes) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
