"""What one worker does: it loads a critic once, and turns a batch of images into rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.recipes.console import Console, one_line, reason_for
from iqloop.recipes.inputs import CALL_BATCHES
from iqloop.recipes.options import CriticChoice
from iqloop.recipes.scale.listing import Item, items
from iqloop.recipes.scale.rows import CommandName, schema_of, table_of

if TYPE_CHECKING:
    import pyarrow

    from iqloop.recipes.restore.jobs import Job
    from iqloop.recipes.restore.site import Setup

Say = Callable[[str], object]
Worker = Callable[["pyarrow.Table"], "pyarrow.Table"]


@dataclass(frozen=True)
class Work:
    """All that a worker needs to know; it can be sent to another process."""

    command: CommandName
    choice: CriticChoice
    threads: int | None = None
    """Of the CPU; None is torch's own number."""
    setup: Setup | None = None
    """How images are restored."""
    images: Path | None = None
    """Folder of the restored images."""
    keep_steps: bool = False

    @property
    def batch(self) -> int:
        """Images that are worked on together, and done again when their worker dies."""
        return 1 if self.command == "restore" else CALL_BATCHES * self.choice.batch_size


@dataclass
class Telling(Console):
    """A console that keeps its notices for someone else to print."""

    quiet: bool = True
    say: Say = field(default=lambda text: None)

    def notice(self, text: str) -> None:
        """Pass it on."""
        self.say(text)


def start(work: Work, notice: Say) -> Worker:
    """Load the critic. Raises what `iqloop.recipes.loading.load_critic` raises."""
    from iqloop.recipes.restore.site import use_threads

    use_threads(work.threads)
    return Restorer(work, notice) if work.command == "restore" else Asker(work, notice)


class Asker:
    """Scores or perceives."""

    def __init__(self, work: Work, notice: Say) -> None:
        from iqloop.recipes.loading import load_critic

        self.work = work
        self.schema = schema_of(work.command)
        self.console = Telling(say=notice)
        self.critic = load_critic(work.choice, needs=(work.command,))  # type: ignore[arg-type]  # not restore

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """A row for each image of the batch, in its order."""
        began = time.monotonic()
        rows = [self._row(item, found) for item, found in self._ask(items(batch))]
        seconds = (time.monotonic() - began) / max(1, len(rows))
        return table_of([row | {"seconds": seconds} for row in rows], self.schema)

    def _ask(self, sources: list[Item]) -> list[tuple[Any, Any]]:
        if self.work.command == "score":
            from iqloop.recipes.score import score_images as ask
        else:
            from iqloop.recipes.perceive import perceive_images as ask  # type: ignore[assignment]  # another verdict
        return list(ask(sources, self.critic, self.work.choice.batch_size, self.console))

    def _row(self, item: Item, found: Any) -> dict[str, Any]:
        from iqloop.recipes.perceive import perceive_fields
        from iqloop.recipes.score import score_fields

        about = {
            "key": item.key,
            "path": item.shown,
            "critic": self.critic.name,
            "critic_version": self.critic.version,
        }
        if isinstance(found, Exception):
            return {**about, "error": error_of(item, found)}
        told = score_fields(item, found, self.critic) if self.work.command == "score" else perceive_fields(item, found)
        return about | told


class Restorer:
    """Restores, by the loop of ``iqloop restore``.

    An image that an earlier try left whole, with its trace, is not restored again: a worker may die between writing it
    and telling of it.
    """

    def __init__(self, work: Work, notice: Say) -> None:
        from iqloop.recipes.restore.site import Workplace

        assert work.setup is not None
        self.work, self.manner = work, work.setup.manner
        self.place = Workplace(replace(work.setup, threads=work.threads), notice, lambda text: None)
        self.schema = schema_of("restore")

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """A row for each image of the batch, in its order."""
        return table_of([self._row(row) for row in batch.to_pylist()], self.schema)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        from iqloop.recipes.restore.file import Failure, restore_fields
        from iqloop.recipes.restore.resume import find_earlier
        from iqloop.recipes.restore.site import Task

        job = self._job(row)
        name, version, _ = critic = self.place.critic()
        about = {"key": row["key"], "critic": name, "critic_version": version}
        earlier = find_earlier(job, self.manner)
        if earlier is not None and not earlier.differs(critic):
            return about | restore_fields(earlier.done)
        done = self.place.attempt(Task(0, job, ours=True), None)
        if isinstance(done, Failure):
            return {**about, "input": row["path"], "error": one_line(done.reason)}
        return about | restore_fields(done)

    def _job(self, row: dict[str, Any]) -> Job:
        from iqloop.recipes.outputs import Target
        from iqloop.recipes.restore.jobs import Job

        path, target, trace = (Path(os.fsdecode(row[name])) for name in ("file", "target", "trace"))
        source = Item(row["path"], path, Path(os.fsdecode(row["relative"])), None, key=row["key"])
        steps = trace.with_suffix(".steps") if self.work.keep_steps else None
        return Job(source, Target(target, self.work.images, row["clash"]), trace, steps)


def error_of(item: Item, error: Exception) -> str:
    """The sentence of a row, without the file's name."""
    return one_line(reason_for(item.shown if item.path is None else str(item.path), error))
