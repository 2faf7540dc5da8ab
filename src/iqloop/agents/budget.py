"""What a run may spend, and what it has spent. Checked before every call, so that no limit is ever exceeded by a
call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from iqloop.agents.stop import StopReason
from iqloop.errors import UsageError

Clock = Callable[[], float]
"""A monotonic clock in seconds."""


@dataclass(frozen=True)
class Budget:
    """Limits of one run; None means no limit, 0 means not one."""

    max_steps: int | None = 24
    """Steps: one degradation worked on, whether or not an output was accepted; a redo and the upscaling are steps
    too."""
    max_tool_calls: int | None = 24
    """Runs of a tool; an output found in the cache costs nothing."""
    max_critic_calls: int | None = 128
    """Questions about one image or one pair (both orders of a pair are one); an answer found in the cache costs
    nothing."""
    time_limit: float | None = None
    """Seconds from the start of the run; a call under way is not interrupted."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "max_tool_calls", "max_critic_calls", "time_limit"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UsageError(f"{name} must be 0 or more, or None for no limit, got {value}")
            if value == math.inf:
                object.__setattr__(self, name, None)


class OverBudget(Exception):
    """The next call would exceed a limit. Caught inside the search; never reaches a caller of `restore`."""

    def __init__(self, reason: StopReason) -> None:
        self.reason: StopReason = reason
        super().__init__(reason)


class Spending:
    """Counts calls and refuses the one that would exceed the budget."""

    def __init__(self, budget: Budget, clock: Clock = time.monotonic) -> None:
        self.budget = budget
        self.clock = clock
        self.started = clock()
        self.steps = 0
        self.tool_calls = 0
        self.critic_calls = 0
        self.tool_cache_hits = 0
        self.critic_cache_hits = 0

    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def begin_step(self) -> None:
        """Count a step, or raise `OverBudget`."""
        self._check(self.steps, self.budget.max_steps, "max-steps")
        self.steps += 1

    def call_tool(self) -> None:
        """Count a tool call, or raise `OverBudget`."""
        self._check(self.tool_calls, self.budget.max_tool_calls, "max-tool-calls")
        self.tool_calls += 1

    def call_critic(self) -> None:
        """Count a question to the critic, or raise `OverBudget`."""
        self._check(self.critic_calls, self.budget.max_critic_calls, "max-critic-calls")
        self.critic_calls += 1

    def _check(self, spent: int, limit: int | None, reason: StopReason) -> None:
        if self.budget.time_limit is not None and self.seconds() >= self.budget.time_limit:
            raise OverBudget("time-limit")
        if limit is not None and spent >= limit:
            raise OverBudget(reason)
