"""What stands behind the routes: one critic, its line, the batches and the long jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from iqloop.recipes.machine import cores
from iqloop.recipes.serve.batcher import Ask, Batcher, Images, Verdict
from iqloop.recipes.serve.lane import Lane, LongJobs
from iqloop.recipes.serve.limits import Limits
from iqloop.recipes.serve.meters import Meters
from iqloop.recipes.serve.questions import compare_pairs
from iqloop.recipes.serve.refusal import Refusal
from iqloop.recipes.serve.room import Room

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents import Budget, Toolbox
    from iqloop.critic.protocol import Capability, Critic
    from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed
    from iqloop.recipes.serve.questions import Pair

ROUTES = frozenset(
    {"/score", "/perceive", "/compare", "/rank", "/restore", "/health", "/metrics", "/docs", "/openapi.json"}
)


class Service:
    """Answers requests of any number of clients; `running` starts it."""

    def __init__(self, critic: Critic, tools: Toolbox, limits: Limits, budget: Budget) -> None:
        self.critic, self.tools, self.limits, self.budget = critic, tools, limits, budget
        self.room = Room(limits.queue, limits.held_bytes)
        self._lane = Lane()
        self._decoders = ThreadPoolExecutor(max(2, cores()), "iqloop-decode")
        self.scores: Batcher[Tensor, Rating | Unparsed] = self._batcher("score", critic.score)
        self.perceptions: Batcher[Tensor, Degradation | Unparsed] = self._batcher("perceive", critic.perceive)
        self.comparisons: Batcher[Pair, Preference | Unparsed] = self._batcher("compare", compare_pairs(critic))
        self._batchers: dict[str, Batcher[Any, Any]] = {
            "score": self.scores,
            "perceive": self.perceptions,
            "compare": self.comparisons,
        }
        self.rankings = LongJobs("rank", critic, self._lane)
        self.restorations = LongJobs("restore", critic, self._lane)
        self.meters = Meters(critic, ROUTES, {kind: batcher.count_waiting for kind, batcher in self._batchers.items()})

    def need(self, capability: Capability) -> None:
        """Raise `Refusal` (501) for what the critic cannot do."""
        if capability not in self.critic.capabilities:
            able = ", ".join(sorted(self.critic.capabilities))
            raise Refusal(501, f"the critic {self.critic.name} cannot {capability}, it can {able}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while inside."""
        tasks = [asyncio.create_task(batcher.run()) for batcher in self._batchers.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for jobs in (self.rankings, self.restorations, self._lane):
                jobs.close()
            self._decoders.shutdown(wait=False, cancel_futures=True)

    def _batcher(self, kind: str, ask: Ask[Images, Verdict]) -> Batcher[Images, Verdict]:
        def on_batch(size: int) -> None:
            self.meters.batch(kind, size)

        return Batcher(ask, self._lane, self._decoders, self.limits, on_batch)
