"""The files of a run: where each and its trace go, and what can be refused before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.errors import ImageWriteError, UsageError
from iqloop.recipes.inputs import Input
from iqloop.recipes.outputs import Target

if TYPE_CHECKING:
    from iqloop.agents import Budget, RestoreSettings
    from iqloop.agents.evidence import Evidence

TRACES = ".iqloop"
"""Folder of traces inside an output folder; hidden, so that it is not searched for images."""


@dataclass(frozen=True)
class Job:
    """One photograph and every place that its run writes to."""

    source: Input
    target: Target
    trace: Path | None
    """None writes no trace."""
    steps: Path | None
    """Folder for the outputs that were judged; None keeps none."""


@dataclass(frozen=True)
class Manner:
    """What all files of a run have in common."""

    settings: RestoreSettings
    budget: Budget
    scale: int = 1
    seed: int = 0
    keep_metadata: bool = True
    overwrite: bool = False
    resume: bool = False
    stamp: bool = False
    """What was done goes into the output's EXIF Software tag."""
    evidence: Evidence | None = None
    """What the critic's answers are worth, if not the package's."""


def make_jobs(sources: Sequence[Input], targets: Sequence[Target], trace: Path | None, keep_steps: bool) -> list[Job]:
    """Where everything goes. Raises `UsageError` for options that do not fit the inputs."""
    if trace is not None and (len(sources) > 1 or sources[0].root is not None):
        raise UsageError("--trace names one file but there may be many inputs: with -o FOLDER each gets its own trace")
    if keep_steps and targets[0].path is None:
        raise UsageError("--keep-steps needs a place for the steps: write to a file or a folder with -o")
    shared = Counter(_trace_path(target, ".json") for target in targets)
    jobs = []
    for source, target in zip(sources, targets, strict=True):
        own = _trace_path(target, ".json")
        if own is not None and shared[own] > 1 and target.path is not None:
            # a.png and a.jpg in one folder: NAME.json would be both.
            own = own.with_name(f"{target.path.name}.json")
        steps = None
        if keep_steps and target.path is not None:
            steps = target.path.with_suffix(".steps") if own is None else own.with_suffix(".steps")
        jobs.append(Job(source, target, trace or own, steps))
    return jobs


def _trace_path(target: Target, suffix: str) -> Path | None:
    if target.folder is None or target.path is None:
        return None
    relative = target.path.relative_to(target.folder)
    return target.folder / TRACES / relative.with_suffix(suffix)


def check(job: Job, manner: Manner) -> None:
    """Raise `ImageWriteError` for a place that cannot be written or must not be overwritten."""
    job.target.check(manner.overwrite)
    if job.trace is not None and TRACES not in job.trace.parts:
        Target(job.trace, None).check(manner.overwrite or manner.resume)
    if job.steps is not None and TRACES not in job.steps.parts and not manner.overwrite and job.steps.exists():
        raise ImageWriteError(job.steps, "exists already: remove it, or overwrite with --overwrite")


def refuse_early(job: Job, manner: Manner) -> None:
    """Raise what `iqloop.recipes.restore.file.restore_file` would without looking at the image: no critic is needed."""
    check(job, manner)
    if job.source.path is not None and not job.source.path.exists():
        job.source.bytes()
