"""Who may ask the critic, and when: one thread asks, everything else stands in line for it.

Each kind of request has at most one question in that line: a batch of `iqloop.recipes.serve.batcher.Batcher`, or the
question that a long job has come to. So the kinds take turns, and a score waits for at most one question of each other
kind, however long a restoration takes; tools run beside the line, in the thread of their job.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.critic.protocol import Capability, Critic
    from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed

T = TypeVar("T")


class GivenUp(Exception):
    """Nobody waits for the answer any more."""


class Lane:
    """The thread that asks the critic."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "iqloop-critic")

    async def ask(self, question: Callable[[], T]) -> T:
        """The answer, in turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _without_gradient, question)

    def ask_and_wait(self, question: Callable[[], T]) -> T:
        """The answer, in turn, for a thread."""
        return self._thread.submit(_without_gradient, question).result()

    def close(self) -> None:
        """Ask nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class LongJobs:
    """Jobs of one kind, one after the other, in a thread of their own."""

    def __init__(self, kind: str, critic: Critic, lane: Lane) -> None:
        self.critic, self.lane = critic, lane
        self._thread = ThreadPoolExecutor(1, f"iqloop-{kind}")

    async def run(self, job: Callable[[Critic], T]) -> T:
        """Do a job with a critic that stands in line for each question.

        When the caller is cancelled, a job that has not begun never does, and another ends at its next question.
        """
        given_up = threading.Event()
        critic = QueuedCritic(self.critic, self.lane, given_up)
        waiting = [job]
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: waiting.pop()(critic))
        finally:
            given_up.set()
            waiting.clear()  # the thread's own list keeps what was cancelled, but so not the images

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class QueuedCritic:
    """A `iqloop.critic.Critic` for one job: each question is asked in the lane; raises `GivenUp` when it is not wanted
    any more."""

    def __init__(self, critic: Critic, lane: Lane, given_up: threading.Event) -> None:
        self._critic, self._lane, self._given_up = critic, lane, given_up
        self.name, self.version = critic.name, critic.version
        self.score_range, self.lower_better = critic.score_range, critic.lower_better
        self.capabilities: frozenset[Capability] = critic.capabilities

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image."""
        return self._ask(lambda: self._critic.score(images))

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Name each image's degradation."""
        return self._ask(lambda: self._critic.perceive(images))

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Compare ``a[i]`` with ``b[i]``."""
        return self._ask(lambda: self._critic.compare(a, b, reference))

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Describe each image."""
        return self._ask(lambda: self._critic.describe(images))

    def _ask(self, question: Callable[[], T]) -> T:
        if self._given_up.is_set():
            raise GivenUp
        return self._lane.ask_and_wait(question)


def _without_gradient(question: Callable[[], T]) -> T:
    import torch

    with torch.no_grad():  # a property of each thread
        return question()
