"""Dynamic batching: requests of one kind become questions about several images, and each gets its own answer.

While the critic is asked about one batch, the images of the next are decoded; so two batches are in memory, and what
waits behind them waits as it came. A batch is asked about when it is full, or when the critic is free and its first
image has waited for long enough.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from iqloop.recipes.inputs import CALL_MEGAPIXELS
from iqloop.recipes.serve.lane import Lane
from iqloop.recipes.serve.limits import Limits

Images = TypeVar("Images")
"""What one question is about: an image, or two and perhaps a reference."""
Verdict = TypeVar("Verdict")
Ask = Callable[[Sequence[Images]], Sequence[Verdict]]


@dataclass(eq=False)
class Item(Generic[Images, Verdict]):
    """One request that waits."""

    load: Callable[[], Images]
    """Decodes; may raise."""
    pixels: int
    answer: asyncio.Future[Verdict]
    """Done when nobody waits any more, too."""
    arrived: float
    loading: asyncio.Future[Images] | None = None


@dataclass(eq=False)
class Batcher(Generic[Images, Verdict]):
    """The requests of one kind."""

    ask: Ask[Images, Verdict]
    """Asks the critic; one verdict for each, in order."""
    lane: Lane
    decoders: Executor
    limits: Limits
    on_batch: Callable[[int], None]
    """Is told the size of each batch that was asked about."""
    _waiting: deque[Item[Images, Verdict]] = field(default_factory=deque)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Something has arrived, or the critic has become free."""

    def count_waiting(self) -> int:
        """Requests whose images are not decoded yet."""
        return len(self._waiting)

    async def answer(self, load: Callable[[], Images], pixels: int) -> Verdict:
        """The verdict about what ``load`` decodes; when the caller is cancelled before its turn, nothing is done.

        Raises what decoding or the critic raised.
        """
        loop = asyncio.get_running_loop()
        item: Item[Images, Verdict] = Item(load, pixels, loop.create_future(), loop.time())
        self._waiting.append(item)
        self._changed.set()
        try:
            return await item.answer
        finally:
            with contextlib.suppress(ValueError):  # it is being seen to already
                self._waiting.remove(item)

    async def run(self) -> None:
        """Answer until cancelled."""
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                batch = await self._collect(asking)
                if asking is not None:
                    await asking
                asking = asyncio.create_task(self._ask(batch))
                del batch  # or its images would stay until the next one
                asking.add_done_callback(lambda _: self._changed.set())
        finally:
            if asking is not None:
                asking.cancel()

    async def _collect(self, asking: asyncio.Task[None] | None) -> list[Item[Images, Verdict]]:
        """The next batch, decoded or failed."""
        loop = asyncio.get_running_loop()
        batch: list[Item[Images, Verdict]] = []
        while True:
            while self._waiting and not self._full(batch):
                item = self._waiting.popleft()
                if not item.answer.done():
                    item.loading = loop.run_in_executor(self.decoders, item.load)
                    batch.append(item)
            due = batch[0].arrived + self.limits.batch_wait if batch else None
            late = due is not None and loop.time() >= due
            if self._full(batch) or (late and (asking is None or asking.done())):
                break
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if late else due):
                    await self._changed.wait()
        await asyncio.gather(*(item.loading for item in batch if item.loading), return_exceptions=True)
        return batch

    def _full(self, batch: Sequence[Item[Images, Verdict]]) -> bool:
        megapixels = sum(item.pixels for item in batch) / 1e6
        return len(batch) >= self.limits.batch_size or megapixels >= CALL_MEGAPIXELS

    async def _ask(self, batch: Sequence[Item[Images, Verdict]]) -> None:
        loaded: list[tuple[Item[Images, Verdict], Images]] = []
        for item in batch:
            assert item.loading is not None, "a batch is decoded"
            error = item.loading.exception()
            if error is None:
                loaded.append((item, item.loading.result()))
            elif not item.answer.done():
                item.answer.set_exception(error)
        try:
            answers = await self.lane.ask(lambda: self._verdicts(loaded))
        except Exception as error:  # the lane is closed
            answers = [(item, error) for item, _ in loaded]
        if answers:
            self.on_batch(len(answers))
        for item, verdict in answers:
            if item.answer.done():
                continue
            if isinstance(verdict, Exception):
                item.answer.set_exception(verdict)
            else:
                item.answer.set_result(verdict)

    def _verdicts(
        self, loaded: Sequence[tuple[Item[Images, Verdict], Images]]
    ) -> list[tuple[Item[Images, Verdict], Verdict | Exception]]:
        """In the critic's thread: the answers to what is still wanted by now."""
        wanted = [(item, images) for item, images in loaded if not item.answer.done()]
        if not wanted:
            return []
        verdicts = ask_each(self.ask, [images for _, images in wanted])
        return [(item, verdict) for (item, _), verdict in zip(wanted, verdicts, strict=True)]


def ask_each(ask: Ask[Images, Verdict], images: Sequence[Images]) -> list[Verdict | Exception]:
    """A verdict or an exception for each: when a batch fails, one by one, so that only the culprit is lost."""
    try:
        return list(ask(images))
    except Exception as error:
        if len(images) == 1:
            return [error]
    return [verdict for one in images for verdict in ask_each(ask, [one])]
