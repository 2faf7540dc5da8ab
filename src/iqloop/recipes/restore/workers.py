"""Several processes that restore files side by side. One that dies costs nothing but its file's second try.

They are spawned, not forked: a process that has used torch's threads or a GPU cannot be forked safely. Each works at
one file at a time and dies with the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from iqloop.errors import PrerequisiteError
from iqloop.recipes.restore.file import Failure, not_begun
from iqloop.recipes.restore.site import Deadline, Place, Result, Say, Setup, Task, Workplace, without_trace

if TYPE_CHECKING:
    from iqloop.recipes.restore.resume import CriticId


class Pool:
    """Worker processes, started when there is work for them."""

    def __init__(
        self, setup: Setup, size: int, notice: Say, detail: Say, place: Callable[..., Place] = Workplace
    ) -> None:
        self.setup, self.size, self.notice, self.detail, self.place = setup, size, notice, detail, place
        self.workers: list[_Worker] = []
        self._critic: CriticId | None = None
        self._noticed: set[str] = set()

    def critic(self) -> CriticId:
        """What the first worker that is ready says. Raises `PrerequisiteError` with the reason why none is."""
        while self._critic is None:
            self._hire(1)
            for worker in self._heard():
                self._receive(worker)
        return self._critic

    def work(self, tasks: Sequence[Task], deadline: Deadline) -> Iterator[tuple[int, Result]]:
        """Each result as it comes. Raises `PrerequisiteError` when no worker can be started."""
        waiting, again = deque(tasks), deque[Task]()
        while waiting or again or self._busy():
            if deadline.left() == 0:
                yield from ((task.index, not_begun(task.job)) for task in (*again, *waiting))
                waiting.clear()
                again.clear()
            self._hand_out(waiting, again, deadline)
            for worker in self._heard():
                task, result = worker.task, self._receive(worker)
                if task is not None and result is not None:
                    yield task.index, result
                elif task is not None and worker not in self.workers:
                    if task.again:
                        yield task.index, _lost(task, worker)
                    else:
                        again.append(Task(task.index, task.job, task.ours, again=True))

    def close(self) -> None:
        """Kill what is under way: a worker in the middle of a net answers nothing gentler."""
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.task is not None]

    def _hand_out(self, waiting: deque[Task], again: deque[Task], deadline: Deadline) -> None:
        busy = self._busy()
        if any(worker.task is not None and worker.task.again for worker in busy):
            return
        if again:
            # It gets the machine to itself: what ended its process may have been a lack of memory.
            if not busy:
                for worker in self.workers[1:]:
                    worker.end()
                del self.workers[1:]
                self._hire(1)
                self._give(again, deadline)
            return
        self._hire(min(self.size, len(busy) + len(waiting)))
        self._give(waiting, deadline)

    def _give(self, tasks: deque[Task], deadline: Deadline) -> None:
        for worker in self.workers:
            if tasks and worker.ready and worker.task is None:
                worker.give(tasks.popleft(), deadline.left())

    def _hire(self, count: int) -> None:
        while len(self.workers) < count:
            self.workers.append(_Worker(self.setup, self.place))

    def _heard(self) -> list[_Worker]:
        """Workers that say something or have died."""
        if not self.workers:
            return []
        speaking = wait([worker.pipe for worker in self.workers])
        return [worker for worker in self.workers if worker.pipe in speaking]

    def _receive(self, worker: _Worker) -> Result | None:
        """Take one message. A worker that has died leaves ``workers``."""
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return None
        if kind == "done":
            worker.task = None
            result: Result = content
            return result
        if kind == "ready":
            worker.ready = True
            self._critic = self._critic or content
        elif kind == "unready":
            self._bury(worker, content)
        elif kind == "detail":
            self.detail(content)
        elif content not in self._noticed:
            self._noticed.add(content)
            self.notice(content)
        return None

    def _bury(self, worker: _Worker, reason: str | None = None) -> None:
        worker.end()
        self.workers.remove(worker)
        if worker.ready:
            return
        # There is no room for so many; and what keeps the first from loading will keep all.
        self.size -= 1
        if self.size < 1 or (reason is not None and self._critic is None):
            raise PrerequisiteError(
                reason or f"no worker could be started (the last one {worker.ending()}): try  --workers 1"
            )


class _Worker:
    """One process, as seen from the outside."""

    def __init__(self, setup: Setup, place: Callable[..., Place]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, setup, place), daemon=True)
        with _interrupts_held():
            self.process.start()
        theirs.close()
        self.ready = False
        self.task: Task | None = None

    def give(self, task: Task, left: float | None) -> None:
        """Let it restore a file. That it has died meanwhile is heard from its pipe."""
        self.task = task
        with suppress(OSError):
            self.pipe.send((task, left))

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def ending(self) -> str:
        """How it ended, in words."""
        code = self.process.exitcode or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _lost(task: Task, worker: _Worker) -> Failure:
    return Failure(
        task.job.source.shown,
        f"the process that restored it {worker.ending()}, twice, the second time with no other beside it: "
        "it may need more memory than there is, try a smaller --tile",
    )


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits, and a process that is started here never gets it: its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Started beforehand, because it would let interrupts through again.
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection[Any, Any], setup: Setup, make_place: Callable[..., Place]) -> None:
    """A worker's life: load, then restore what comes until nothing comes any more."""
    from iqloop.recipes.console import State
    from iqloop.recipes.failures import as_exit_code, reason_of

    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # results are the parent's to print
    with as_exit_code(State(setup.verbose, setup.quiet)) as outcome, suppress(EOFError, ConnectionError):
        try:
            place = make_place(setup, _sayer(pipe, "notice"), _sayer(pipe, "detail" if setup.verbose else None))
        except Exception as error:
            pipe.send(("unready", reason_of(error)))
            return
        pipe.send(("ready", place.critic()))
        while True:
            task, left = pipe.recv()
            pipe.send(("done", without_trace(place.attempt(task, left))))
    sys.exit(outcome.code)


def _sayer(pipe: Connection[Any, Any], kind: str | None) -> Say:
    return lambda text: None if kind is None else pipe.send((kind, text))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
