"""What is decoded, what is asked, and in which order: the batcher and its questions by themselves."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import torch

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Preference
from iqloop.recipes.serve.batcher import Batcher, ask_each
from iqloop.recipes.serve.lane import Lane, LongJobs
from iqloop.recipes.serve.limits import Limits
from iqloop.recipes.serve.questions import compare_pairs

from .serve_helpers import WAIT, WatchedCritic

T = TypeVar("T")


@dataclass
class Desk:
    """Answers a number by itself plus 100; says what came to it, and can be held up."""

    asked: list[list[int]] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open: threading.Event = field(default_factory=threading.Event)

    def ask(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        self.entered.release()
        assert self.open.wait(WAIT)
        return [number + 100 for number in numbers]

    def load(self, number: int) -> int:
        self.decoded.append(number)
        return number

    async def begins(self) -> None:
        """Wait until a question is under way."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=WAIT)

    def batcher(self, limits: Limits) -> Batcher[int, int]:
        return Batcher(self.ask, Lane(), ThreadPoolExecutor(1), limits, lambda size: None)


def within(scene: Coroutine[Any, Any, T]) -> T:
    """Run it, but not for ever."""
    return asyncio.run(asyncio.wait_for(scene, WAIT))


def test_while_one_batch_is_asked_about_the_next_is_decoded_and_no_more() -> None:
    desk = Desk()

    async def scene() -> list[int]:
        batcher = desk.batcher(Limits(batch_size=2, batch_wait=0))
        work = asyncio.create_task(batcher.run())
        answers = [asyncio.create_task(batcher.answer(lambda n=n: desk.load(n), 1)) for n in range(7)]  # type: ignore[misc]
        await desk.begins()
        while len(desk.decoded) < 4:
            await asyncio.sleep(0)
        assert batcher.count_waiting() == 3
        desk.open.set()
        found = await asyncio.gather(*answers)
        work.cancel()
        assert sorted(desk.decoded) == list(range(7)) and desk.asked[0] == [0, 1]
        return found

    assert within(scene()) == [100, 101, 102, 103, 104, 105, 106]
    assert [number for batch in desk.asked for number in batch] == list(range(7))
    assert max(map(len, desk.asked)) == 2


def test_large_images_make_small_batches() -> None:
    desk = Desk()
    desk.open.set()

    async def scene() -> None:
        batcher = desk.batcher(Limits(batch_size=8))
        answers = [asyncio.create_task(batcher.answer(lambda n=n: desk.load(n), 30_000_000)) for n in range(5)]  # type: ignore[misc]
        await asyncio.sleep(0)
        work = asyncio.create_task(batcher.run())
        await asyncio.gather(*answers)
        work.cancel()

    within(scene())
    assert desk.asked == [[0, 1], [2, 3], [4]]


def test_what_is_not_wanted_is_neither_decoded_nor_asked_about() -> None:
    desk = Desk()

    async def scene() -> None:
        batcher = desk.batcher(Limits(batch_size=1, batch_wait=0))
        work = asyncio.create_task(batcher.run())
        answers = [asyncio.create_task(batcher.answer(lambda n=n: desk.load(n), 1)) for n in range(4)]  # type: ignore[misc]
        await desk.begins()
        while len(desk.decoded) < 2:
            await asyncio.sleep(0)
        answers[1].cancel()  # decoded, and next in line
        answers[2].cancel()  # waits as it came
        while batcher.count_waiting() > 1:
            await asyncio.sleep(0)
        desk.open.set()
        assert [await answers[0], await answers[3]] == [100, 103]
        work.cancel()

    within(scene())
    assert desk.asked == [[0], [3]] and desk.decoded == [0, 1, 3]


def test_a_long_job_that_is_given_up_before_its_turn_holds_nothing() -> None:
    class Job:
        def __call__(self, _: Critic) -> None:
            pytest.fail("nobody wanted it")

    go_on = threading.Event()

    async def scene() -> None:
        jobs = LongJobs("restore", WatchedCritic(), Lane())
        first = asyncio.create_task(jobs.run(lambda _: go_on.wait(WAIT)))
        waiting = Job()
        seen = weakref.ref(waiting)
        second = asyncio.create_task(jobs.run(waiting))
        del waiting
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        assert second.cancelled()
        del second  # and with it the traceback
        gc.collect()
        assert seen() is None
        go_on.set()
        assert await first
        jobs.close()

    within(scene())


def test_one_by_one_after_a_fault() -> None:
    def ask(numbers: Sequence[int]) -> list[int]:
        if 3 in numbers:
            raise ValueError("three")
        return [-number for number in numbers]

    assert ask_each(ask, [1, 2]) == [-1, -2]
    first, second, third = ask_each(ask, [1, 3, 2])
    assert (first, third) == (-1, -2) and isinstance(second, ValueError)


def test_pairs_with_and_without_a_reference_in_one_batch() -> None:
    critic = WatchedCritic()
    levels = [(0.9, 0.1, None), (0.2, 0.6, 0.5), (0.5, 0.4, None), (0.3, 0.1, 0.2)]

    def plain(level: float) -> torch.Tensor:
        return torch.full((3, 8, 8), level)

    pairs = [(plain(a), plain(b), None if c is None else plain(c)) for a, b, c in levels]
    found = compare_pairs(critic)(pairs)
    assert critic.batches == [2, 2]
    for (a, b, c), verdict in zip(levels, found, strict=True):
        assert isinstance(verdict, Preference)
        assert verdict.probability == pytest.approx(0.5 + 0.4 * (a - b)) and verdict.reasoning == str(c is not None)
