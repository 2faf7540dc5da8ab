"""Restoring one file: what is written, and what is told of it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop import __version__
from iqloop.recipes import outputs
from iqloop.recipes.console import one_line
from iqloop.recipes.inputs import Input, refuse_animation
from iqloop.recipes.restore.jobs import Job, Manner, check
from iqloop.recipes.stamp import stamp

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents import Cache, Event, Toolbox, Trace
    from iqloop.critic.protocol import Critic
    from iqloop.io import Photo


@dataclass(frozen=True)
class Restored:
    """What came of one file."""

    input: str
    output: str | None
    """None for a file that was not begun, because the time of the whole run was over."""
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
    """None for a file that was done in an earlier run or by another process, and for one that was not begun."""
    earlier: bool = False
    """Done in an earlier run."""


@dataclass(frozen=True)
class Failure:
    """A file that failed."""

    path: str
    reason: str
    details: str = ""
    """The traceback, for whoever asks."""


def restore_file(
    job: Job,
    manner: Manner,
    critic: Critic,
    tools: Toolbox,
    on_event: Callable[[Event], None] | None = None,
    *,
    cache: Cache | None = None,
    left: float | None = None,
    ours: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Restored:
    """Run the loop on one file and write the result; a file that nothing improved is copied byte for byte.

    Args:
        job: the file, and where its results go.
        manner: what all files of the run have in common.
        critic: who judges.
        tools: what may be tried.
        on_event: is told what happens.
        cache: where outputs and answers of earlier runs are found; None remembers only this one.
        left: seconds that the whole run has left; a file that they cut short ends with ``total-time-limit``.
        ours: the output that is there is an earlier run's and is to be replaced, with ``overwrite`` or without.
        clock: a monotonic clock in seconds.

    Raises:
        IqloopError: before any work where that is possible.
    """
    from iqloop.agents import restore

    manner = replace(manner, overwrite=manner.overwrite or ours)
    check(job, manner)
    raw, photo = _read(job.source)
    keeper = _Keeper(job, photo, on_event)
    limits = [limit for limit in (manner.budget.time_limit, left) if limit is not None]
    outcome = restore(
        photo.pixels,
        critic,
        tools,
        settings=manner.settings,
        scale=manner.scale,
        seed=manner.seed,
        budget=replace(manner.budget, time_limit=min(limits, default=None)),
        on_event=keeper,
        cache=cache,
        evidence=manner.evidence,
        clock=clock,
    )
    # The trace says what was asked for: what the run had left by chance would make equal runs differ.
    trace = replace(outcome.trace, budget=manner.budget)
    if trace.stop_reason == "time-limit" and left is not None and left == min(limits):
        trace = replace(trace, stop_reason="total-time-limit")
    if ours and job.target.path is not None and not _in_place(job):
        # A new trace beside the old output, if this is interrupted between the two, would make that a stranger's.
        job.target.path.unlink(missing_ok=True)
    _deliver(job, manner, raw, photo, outcome.image, trace, keeper)
    return told(job, trace, critic.lower_better)


def told(job: Job, trace: Trace, lower_better: bool) -> Restored:
    """What came of a run, as it is reported."""
    return Restored(
        input=job.source.shown,
        output=job.target.shown,
        steps=trace.accepted_tools,
        stop_reason=trace.stop_reason,
        score_before=trace.score_before,
        score_after=trace.score_after,
        calls=trace.spent.tool_calls,
        critic_calls=trace.spent.critic_calls,
        seconds=trace.spent.seconds,
        improved=trace.improved,
        lower_better=lower_better,
        trace=trace,
    )


def not_begun(job: Job) -> Restored:
    """What is reported of a file for which the run had no time left."""
    return Restored(job.source.shown, None, (), "total-time-limit", None, None, 0, 0, 0.0, False)


def restore_fields(done: Restored | Failure) -> dict[str, Any]:
    """The line of ``--json``."""
    if isinstance(done, Failure):
        return {"path": done.path, "error": one_line(done.reason)}
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
    refuse_animation(photo, source.shown)
    return raw, photo


def _deliver(
    job: Job, manner: Manner, raw: bytes | None, photo: Photo, image: Tensor, trace: Trace, keeper: _Keeper
) -> None:
    """Write trace and output. The trace comes first: an output without one could not be resumed."""
    from iqloop.io.files import read_bytes

    changed = trace.improved or manner.scale > 1
    copy = not changed and manner.keep_metadata and _same_format(job, photo)
    if copy:
        data = raw if raw is not None else read_bytes(_path(job.source))
    else:
        result = photo.with_pixels(image) if changed else photo
        software = stamp(trace.accepted_tools, __version__) if manner.stamp else None
        data = outputs.encoded(result, job.target, manner.keep_metadata, software)
    _write_trace(job, trace, photo, sha256_of(data), keeper)
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


def _write_trace(job: Job, trace: Trace, photo: Photo, output_sha256: str, keeper: _Keeper) -> None:
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
        candidate_paths=keeper.paths,
        candidate_sha256s=keeper.sha256s,
    )
    write_bytes_atomic(job.trace, to_json(named).encode(), overwrite=True)


class _Keeper:
    """Passes events on, and saves the input and all that was made from it when that was asked for."""

    def __init__(self, job: Job, photo: Photo, listener: Callable[[Event], None] | None) -> None:
        self.job, self.photo, self.listener = job, photo, listener
        self.paths: dict[str, str] = {}
        """Candidate id to the file's name, relative to the output's folder."""
        self.sha256s: dict[str, str] = {}
        """Candidate id to the digest of the file's bytes."""
        if job.steps is not None:
            self._keep("c0", photo, job.steps / "c0-input.png")

    def __call__(self, event: Event) -> None:
        if self.listener is not None:
            self.listener(event)
        if self.job.steps is not None and event.kind in ("judged", "enlarged") and event.candidate is not None:
            name = f"{event.candidate.id}-{event.tool}.png"
            self._keep(event.candidate.id, self.photo.with_pixels(event.candidate.image), self.job.steps / name)

    def _keep(self, candidate: str, photo: Photo, path: Path) -> None:
        from iqloop.io import encode, write_bytes_atomic

        data = encode(photo, path)
        write_bytes_atomic(path, data, overwrite=True)
        self.paths[candidate] = _text(_below(self.job, path))
        self.sha256s[candidate] = sha256_of(data)


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


def _in_place(job: Job) -> bool:
    paths = (job.source.path, job.target.path)
    return all(path is not None and path.exists() for path in paths) and _path(job.source).samefile(job.target.shown)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
