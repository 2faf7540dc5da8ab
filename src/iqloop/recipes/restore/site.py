"""Where files are restored: critic and tools, loaded once, and one file after the other."""

from __future__ import annotations

import contextlib
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from iqloop.recipes.console import reason_for
from iqloop.recipes.options import CriticChoice
from iqloop.recipes.restore.file import Failure, Restored, not_begun, restore_file
from iqloop.recipes.restore.jobs import Job, Manner

if TYPE_CHECKING:
    from iqloop.agents import Event
    from iqloop.recipes.restore.resume import CriticId

Result = Restored | Failure
Say = Callable[[str], object]


@dataclass(frozen=True)
class Setup:
    """All that a process needs to know before its first file; it can be sent to another one."""

    manner: Manner
    choice: CriticChoice
    files: tuple[str, ...] = ()
    """Tools of the user's own, as ``--tool`` takes them."""
    tile: int | str | None = "auto"
    threads: int | None = None
    """Of the CPU, for one file; None is torch's own number."""
    cache: Path | None = None
    """Folder of the disk cache; None uses no disk."""
    verbose: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Task:
    """One file to restore."""

    index: int
    """Its place among the inputs."""
    job: Job
    ours: bool = False
    """The output that is there is an earlier run's, and is to be replaced."""
    again: bool = False
    """The process that tried it first has ended."""


@dataclass
class Deadline:
    """The time limit of a run."""

    seconds: float | None
    """From now; None for no limit."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._began = self.clock()

    def left(self) -> float | None:
        """Seconds left, at least 0; None without a limit."""
        return None if self.seconds is None else max(0.0, self.seconds - (self.clock() - self._began))


class Site(Protocol):
    """One process or several."""

    size: int
    """Processes, at most."""

    def critic(self) -> CriticId:
        """Who judges, once loaded. Raises what loading raises."""
        ...

    def work(self, tasks: Sequence[Task], deadline: Deadline) -> Iterator[tuple[int, Result]]:
        """Restore files; each is given with its index when it is done, in any order."""
        ...

    def close(self) -> None:
        """End at once, whatever is under way."""
        ...


class Place(Protocol):
    """What restores one file after the other; a worker process has one."""

    def critic(self) -> CriticId:
        """Who judges."""
        ...

    def attempt(self, task: Task, left: float | None) -> Result:
        """Restore one file; ``left`` are the seconds that the whole run has left."""
        ...


class Workplace:
    """This process, with critic and tools."""

    size = 1

    def __init__(self, setup: Setup, notice: Say, detail: Say) -> None:
        from iqloop.agents.disk_cache import open_cache
        from iqloop.agents.plan import check_names
        from iqloop.recipes.loading import load_critic, load_registry

        use_threads(setup.threads)
        self.setup, self.notice, self.detail = setup, notice, detail
        self.tools = load_registry(setup.files, setup.choice.device, notice, setup.tile)
        settings = setup.manner.settings
        for option in ("plan", "only", "exclude"):
            # Said at once, not for each file.
            check_names(getattr(settings, option) or (), option, self.tools, setup.manner.scale)
        self.judge = load_critic(setup.choice)
        self.critic()  # says at once whether the evidence fits
        self.cache = None if setup.cache is None else open_cache(setup.cache, max_bytes=settings.cache_bytes)

    def critic(self) -> CriticId:
        """Name and version, and what its answers are weighed by."""
        from iqloop.agents.evidence import evidence_for

        evidence = evidence_for(self.judge.name, self.judge.version, self.setup.manner.evidence)
        return self.judge.name, self.judge.version, None if evidence is None else evidence.name

    def attempt(self, task: Task, left: float | None, clock: Callable[[], float] = time.monotonic) -> Result:
        """Restore one file; whatever goes wrong with it is a `Failure`."""
        try:
            with heard(self.notice):
                return restore_file(
                    task.job,
                    self.setup.manner,
                    self.judge,
                    self.tools,
                    self._listen,
                    cache=self.cache,
                    left=left,
                    ours=task.ours,
                    clock=clock,
                )
        except BrokenPipeError:
            raise  # standard output is gone, and with it whoever wanted the image
        except Exception as error:
            details = "".join(traceback.format_exception(error))
            return Failure(task.job.source.shown, reason_for(task.job.source.shown, error), details)

    def work(self, tasks: Sequence[Task], deadline: Deadline) -> Iterator[tuple[int, Result]]:
        """One after the other."""
        for task in tasks:
            left = deadline.left()
            yield task.index, not_begun(task.job) if left == 0 else self.attempt(task, left, deadline.clock)

    def close(self) -> None:
        """Nothing outlives a call."""

    def _listen(self, event: Event) -> None:
        self.detail(event.message)


@contextlib.contextmanager
def heard(notice: Say) -> Iterator[None]:
    """Warnings (a cache that cannot be written, say) become a line each, without Python's frame around it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            yield
        finally:
            for warning in caught:
                if issubclass(warning.category, RuntimeWarning):
                    notice(str(warning.message))


def without_trace(result: Result) -> Result:
    """The same without what is needed for one file's report only."""
    return replace(result, trace=None) if isinstance(result, Restored) else result


def use_threads(count: int | None) -> None:
    """How many cores each net and filter may use; None changes nothing."""
    if count is None:
        return
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)
