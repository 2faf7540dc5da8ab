"""Restoring one file: where it and its trace go, what is kept, and how an interrupted folder goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import ImageWriteError, UsageError
from iqloop.recipes import outputs
from iqloop.recipes.inputs import Input, refuse_animation
from iqloop.recipes.outputs import Target

if TYPE_CHECKING:
    from iqloop.agents import Budget, Event, Outcome, RestoreSettings, Toolbox, Trace
    from iqloop.critic.protocol import Critic
    from iqloop.io import Photo

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


@dataclass(frozen=True)
class Restored:
    """What came of one file."""

    input: str
    output: str
    steps: tuple[str, ...]
    stop_reason: str
    score_before: float | None
    score_after: float | None
    calls: int
    critic_calls: int
    seconds: float
    improved: bool
    lower_better: bool = False
    trace: Trace | None = None
    """None for a file that was done in an earlier run."""


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


def restore_file(
    job: Job, manner: Manner, critic: Critic | None, tools: Toolbox, on_event: Callable[[Event], None] | None = None
) -> Restored:
    """Run the loop on one file and write the result; a file that nothing improved is copied byte for byte.

    ``critic`` may be None for a file that `needs_work` says needs none.
    Raises `iqloop.errors.IqloopError`, before any work where that is possible.
    """
    from iqloop.agents import restore

    if manner.resume and (done := finished(job, manner)) is not None:
        return done
    check(job, manner)
    raw, photo = _read(job.source)
    assert critic is not None, "a file that can be read needs work"
    keeper = _Keeper(job, photo, on_event)
    outcome = restore(
        photo.pixels,
        critic,
        tools,
        settings=manner.settings,
        scale=manner.scale,
        seed=manner.seed,
        budget=manner.budget,
        on_event=keeper,
    )
    _deliver(job, manner, raw, photo, outcome, keeper.paths)
    return told(job, outcome, critic.lower_better)


def told(job: Job, outcome: Outcome, lower_better: bool) -> Restored:
    """What came of a run, as it is reported."""
    return Restored(
        input=job.source.shown,
        output=job.target.shown,
        steps=outcome.steps,
        stop_reason=outcome.stop_reason,
        score_before=outcome.score_before,
        score_after=outcome.score_after,
        calls=outcome.tool_calls,
        critic_calls=outcome.critic_calls,
        seconds=outcome.seconds,
        improved=outcome.improved,
        lower_better=lower_better,
        trace=outcome.trace,
    )


def check(job: Job, manner: Manner) -> None:
    """Raise `ImageWriteError` for a place that cannot be written or must not be overwritten."""
    job.target.check(manner.overwrite)
    if job.trace is not None and TRACES not in job.trace.parts:
        Target(job.trace, None).check(manner.overwrite or manner.resume)
    if job.steps is not None and TRACES not in job.steps.parts and not manner.overwrite and job.steps.exists():
        raise ImageWriteError(job.steps, "exists already: remove it, or overwrite with --overwrite")


def needs_work(job: Job, manner: Manner) -> bool:
    """False for a file that is done already, or that can be refused without looking at it."""
    if manner.resume and finished(job, manner) is not None:
        return False
    try:
        check(job, manner)
    except ImageWriteError:
        return False
    return job.source.path is None or job.source.path.exists()


def finished(job: Job, manner: Manner) -> Restored | None:
    """What an earlier run wrote for this very input at this scale, or None when there is something to do."""
    if job.trace is None or job.target.path is None or job.source.path is None:
        return None
    try:
        document = json.loads(job.trace.read_bytes())
        if document["output"]["sha256"] != _sha256(job.target.path.read_bytes()):
            return None
        # Restored in place: the input of the earlier run is gone, and its output must not be restored again.
        in_place = job.target.path.samefile(job.source.path)
        if not in_place and document["input"]["sha256"] != _sha256(job.source.path.read_bytes()):
            return None
        if document["scale"] != manner.scale:
            return None
        spent = document["spent"]
        return Restored(
            input=job.source.shown,
            output=job.target.shown,
            steps=tuple(document["accepted_tools"]),
            stop_reason=document["stop_reason"],
            score_before=document["score_before"],
            score_after=document["score_after"],
            calls=spent["tool_calls"],
            critic_calls=spent["critic_calls"],
            seconds=spent["seconds"],
            improved=document["improved"],
            lower_better=document["critic"]["lower_better"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        # No output, no trace, or a trace that is not one: the file has to be done.
        return None


def restore_fields(done: Restored) -> dict[str, Any]:
    """The line of ``--json``."""
    return {
        "input": done.input,
        "output": done.output,
        "steps": list(done.steps),
        "stop_reason": done.stop_reason,
        "score_before": done.score_before,
        "score_after": done.score_after,
        "calls": done.calls,
        "critic_calls": done.critic_calls,
        "seconds": done.seconds,
    }


def _read(source: Input) -> tuple[bytes | None, Photo]:
    """The photo; for standard input its bytes too, which cannot be read twice."""
    from iqloop.io import read

    raw = source.bytes() if source.path is None else None
    photo = source.read() if raw is None else read(raw)
    refuse_animation(photo, source)
    return raw, photo


def _deliver(job: Job, manner: Manner, raw: bytes | None, photo: Photo, outcome: Outcome, kept: dict[str, str]) -> None:
    """Write trace and output. The trace comes first: an output without one could not be resumed."""
    from iqloop.io.files import read_bytes

    changed = outcome.improved or manner.scale > 1
    copy = not changed and manner.keep_metadata and _same_format(job, photo)
    if copy:
        data = raw if raw is not None else read_bytes(_path(job.source))
    else:
        result = photo.with_pixels(outcome.image) if changed else photo
        data = outputs.encoded(result, job.target, manner.keep_metadata)
    _write_trace(job, outcome.trace, photo, _sha256(data), kept)
    try:
        if copy and job.target.path is not None and job.source.path is not None:
            from iqloop.io import copy_bytes

            copy_bytes(job.source.path, job.target.path, overwrite=manner.overwrite)
        else:
            outputs.send(data, job.target, manner.overwrite)
    except BaseException:
        if job.trace is not None:
            with suppress(OSError):
                job.trace.unlink()
        raise


def _same_format(job: Job, photo: Photo) -> bool:
    from iqloop.io import WRITABLE

    if job.target.path is None:
        return True
    suffix = job.target.path.suffix.lower()
    named_alike = job.source.path is not None and job.source.path.suffix.lower() == suffix
    return named_alike or WRITABLE.get(suffix) == photo.format


def _write_trace(job: Job, trace: Trace, photo: Photo, output_sha256: str, kept: dict[str, str]) -> None:
    if job.trace is None:
        return
    from iqloop.agents import to_json, with_files
    from iqloop.io import write_bytes_atomic

    named = with_files(
        trace,
        input_path=None if job.source.path is None else _text(job.source.relative),
        input_sha256=photo.sha256,
        output_path=None if job.target.path is None else _text(_below(job, job.target.path)),
        output_sha256=output_sha256,
        candidate_paths=kept,
    )
    write_bytes_atomic(job.trace, to_json(named).encode(), overwrite=True)


class _Keeper:
    """Passes events on, and saves the outputs that were judged when that was asked for."""

    def __init__(self, job: Job, photo: Photo, listener: Callable[[Event], None] | None) -> None:
        self.job, self.photo, self.listener = job, photo, listener
        self.paths: dict[str, str] = {}
        """Candidate id to the file's name, relative to the output's folder."""

    def __call__(self, event: Event) -> None:
        if self.listener is not None:
            self.listener(event)
        if self.job.steps is None or event.kind != "judged" or event.candidate is None:
            return
        from iqloop.io import write

        path = self.job.steps / f"{event.candidate.id}-{event.tool}.png"
        write(self.photo.with_pixels(event.candidate.image), path, overwrite=True)
        self.paths[event.candidate.id] = _text(_below(self.job, path))


def _below(job: Job, path: Path) -> Path:
    """The path relative to the output folder, or to the folder of the one output."""
    assert job.target.path is not None
    return path.relative_to(job.target.folder or job.target.path.parent)


def _path(source: Input) -> Path:
    assert source.path is not None
    return source.path


def _text(path: Path) -> str:
    """A relative path with ``/``; names that are not UTF-8 become readable, because JSON has no bytes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
