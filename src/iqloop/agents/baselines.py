"""What an agent is held against: sequences of tools that no judge looks at, and the best of all in hindsight.

Sequences that begin alike share their beginnings, and no output is made twice (`Outputs`): of four tools there are 40
sequences of one to three different ones, made in 40 runs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iqloop.agents.candidate import pixel_hash
from iqloop.agents.diagnosis import UNKNOWN_SEVERITY, Suspect
from iqloop.agents.plan import make_plan
from iqloop.agents.sanity import find_fault
from iqloop.errors import ToolError
from iqloop.restorers.tool import Tool, ToolInfo

Chain = tuple[str, ...]
"""Names of tools, the first to run first."""
Value = Callable[[Tensor], float]
"""How good an image is; higher is better."""


class Outputs:
    """Tool outputs by content; they stay in memory as long as this object does."""

    def __init__(self, tools: Iterable[Tool], seed: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.tools = {tool.info.name: tool for tool in tools}
        self.seed = seed
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Tensor, float]] = {}

    def run(self, image: Tensor, name: str) -> tuple[Tensor, float]:
        """A tool's output for an image ``(3, H, W)``, and the seconds it took when it was made.

        Raises `ToolError` for an output that is no image (`iqloop.agents.sanity`).
        """
        key = (pixel_hash(image), name)
        if key not in self._known:
            start = self._clock()
            with torch.no_grad():
                output = self.tools[name].restore(image[None].clone(), seed=self.seed)
            seconds = self._clock() - start
            fault = find_fault(output, image)
            if fault is not None:
                raise ToolError(f"{name}: {fault}")
            self._known[key] = output[0].detach().to(image.device, image.dtype).clamp(0, 1), seconds
        return self._known[key]


@dataclass(frozen=True, eq=False)
class Found:
    """The best of some sequences, and what it took to find it."""

    image: Tensor
    tools: Chain
    tool_calls: int
    """Runs of a tool, each beginning counted once."""
    seconds: float
    """Of these runs."""


def best_of(image: Tensor, chains: Sequence[Chain], outputs: Outputs, value: Value) -> Found:
    """Run every sequence on ``image`` ``(3, H, W)`` and keep the best; of equals the first.

    One sequence alone is simply run. Raises `ToolError`.
    """
    beginnings = {chain[:length] for chain in chains for length in range(1, len(chain) + 1)}
    made: dict[Chain, Tensor] = {(): image}
    total = 0.0
    for chain in sorted(beginnings, key=lambda one: (len(one), one)):
        made[chain], seconds = outputs.run(made[chain[:-1]], chain[-1])
        total += seconds
    best = max(chains, key=lambda chain: value(made[chain]))
    return Found(made[best], best, len(beginnings), total)


def all_chains(names: Sequence[str], longest: int) -> list[Chain]:
    """Every sequence of up to ``longest`` different tools, short ones first; the empty one is the first.

    >>> all_chains(["a", "b"], 2)
    [(), ('a',), ('b',), ('a', 'b'), ('b', 'a')]
    """
    return [chain for length in range(longest + 1) for chain in itertools.permutations(names, length)]


def prior_chain(tools: Iterable[ToolInfo]) -> Chain:
    """All tools in the order of the order prior (`iqloop.agents.plan`), by the first thing that each treats."""
    infos = list(tools)
    treatments = dict.fromkeys(info.treats[0] for info in infos)
    plan = make_plan([Suspect(treatment, UNKNOWN_SEVERITY) for treatment in treatments])
    return tuple(info.name for suspect in plan for info in infos if info.treats[0] == suspect.treatment)


def random_chain(names: Sequence[str], rng: np.random.Generator) -> Chain:
    """All tools in an order drawn uniformly."""
    return tuple(names[i] for i in rng.permutation(len(names)))
