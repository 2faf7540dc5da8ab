"""A run that writes rows: what is left to do, who does it, what is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import UsageError
from iqloop.recipes import failures
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Filter
from iqloop.recipes.options import CriticChoice
from iqloop.recipes.scale import rows
from iqloop.recipes.scale.listing import Files, Listing, find, require_pyarrow
from iqloop.recipes.scale.options import Spread
from iqloop.recipes.scale.sink import Earlier, Sink, opened
from iqloop.recipes.scale.work import Work

if TYPE_CHECKING:
    import pyarrow

    from iqloop.recipes.restore.site import Setup

DIED = "the process that worked on it died every time: it may be damaged, or need more memory than there is"


def ask_all(
    command: rows.CommandName,
    named: Sequence[str],
    chosen: Filter,
    choice: CriticChoice,
    spread: Spread,
    console: Console,
) -> int:
    """``score`` or ``perceive`` with rows; the exit code."""
    choice = _elsewhere(choice)
    threads = spread.cpus if spread.engine == "ray" else None
    listing = find(named, chosen)
    asked = {
        "command": command,
        "decoding": choice.decoding,
        "samples": choice.samples,
        "seed": choice.seed,
        "critic_options": list(choice.more),
    }
    return run(Work(command, choice, threads), listing, asked, spread, console)


def restore_all(
    named: Sequence[str],
    chosen: Filter,
    images: Path | None,
    keep_steps: bool,
    setup: Setup,
    spread: Spread,
    console: Console,
) -> int:
    """``restore`` with rows, by Ray; ``images`` is the folder of the outputs. The exit code."""
    from iqloop.recipes.scale.places import jobs_of

    if images is None:
        raise UsageError(
            "--engine ray writes rows to -o, and the images to a folder of their own: give --images FOLDER"
        )
    images = Path(os.path.abspath(images))
    listing = find(named, chosen, images)
    if not isinstance(listing, Files):
        raise UsageError("restoring needs files: give a folder, or a table with a column path")
    if images.is_dir() and any(images.iterdir()) and not (spread.resume or spread.overwrite):
        raise UsageError(
            f"--images {images} is not empty: go on with --resume, use --overwrite, or name another folder"
        )
    choice = _elsewhere(setup.choice)
    setup = replace(setup, choice=choice)
    manner = setup.manner
    asked = {
        "command": "restore",
        "settings": asdict(manner.settings),
        "budget": asdict(manner.budget),
        "scale": manner.scale,
        "seed": manner.seed,
        "images": str(images),
    }
    work = Work("restore", choice, spread.cpus, setup, images, keep_steps)
    return run(work, jobs_of(listing, images), asked, spread, console)


def run(work: Work, listing: Listing, asked: dict[str, Any], spread: Spread, console: Console) -> int:
    """Do what there is to do; the exit code."""
    assert spread.out is not None
    require_pyarrow()
    began = time.monotonic()
    sink = Sink(spread.out, rows.schema_of(work.command), asked, spread.part_rows)
    with opened(sink):
        earlier = sink.begin(spread.resume, spread.overwrite)
        keys = set(listing.keys)
        left = keys - earlier.keys
        told = Report(work, sink, console, earlier)
        with console.progress(len(keys), _DOING[work.command]) as progress:
            progress.advance(len(keys) - len(left))
            if left:
                rest = listing if len(left) == len(keys) else listing.only(left)
                for table in _done(work, rest, spread, console):
                    left.difference_update(table["key"].to_pylist())
                    told.add(table)
                    progress.advance(len(table))
            if left:
                lost = [{"key": key, _NAME[work.command]: key, "error": DIED} for key in listing.keys if key in left]
                told.add(rows.table_of(lost, sink.schema))
    return told.conclude(len(keys), time.monotonic() - began)


@dataclass
class Report:
    """Puts rows where they belong and counts them."""

    work: Work
    sink: Sink
    console: Console
    earlier: Earlier
    done: int = 0
    failed: int = 0
    improved: int = 0

    def add(self, table: pyarrow.Table) -> None:
        """Some more."""
        self.sink.add(table)
        for row in table.to_pylist():
            if row["error"] is not None:
                self.failed += 1
                self.console.fail(rows.shown(row), row["error"])
            else:
                self.done += 1
                self.improved += bool(row.get("steps"))
                self.console.fields(rows.json_fields(row, self.work.command))

    def conclude(self, total: int, seconds: float) -> int:
        """The last words; the exit code."""
        failed = self.failed + self.earlier.failed
        facts = [
            ("rows", f"{self.done + self.failed} new of {total}, {failed} of all failed"),
            ("images per second", f"{(self.done + self.failed) / max(seconds, 1e-9):.2f}"),
            ("written to", str(self.sink.folder)),
        ]
        if not self.console.json:
            self.console.facts(facts)
        if failed:
            return failures.SOME_FAILED
        setup = self.work.setup
        if setup is None or setup.manner.scale > 1 or self.improved + self.earlier.improved:
            return failures.DONE
        return failures.NOT_IMPROVED


_DOING: dict[rows.CommandName, str] = {"score": "scoring", "perceive": "perceiving", "restore": "restoring"}
_NAME: dict[rows.CommandName, str] = {"score": "path", "perceive": "path", "restore": "input"}


def _done(work: Work, listing: Listing, spread: Spread, console: Console) -> Iterator[pyarrow.Table]:
    if spread.engine == "ray":
        from iqloop.recipes.scale.cluster import work_by_ray

        return work_by_ray(work, listing, spread, console.notice)
    from iqloop.recipes.scale.local import work_here

    return work_here(work, listing, console.notice)


def _elsewhere(choice: CriticChoice) -> CriticChoice:
    """The choice as it is understood in a process that may have another current folder."""
    return replace(choice, name=os.path.abspath(choice.name)) if Path(choice.name).is_dir() else choice
