"""What an earlier run has done: found by the traces, and done again where what was asked for has changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iqloop.recipes.restore.file import Restored, sha256_of
from iqloop.recipes.restore.jobs import Job, Manner

CriticId = tuple[str, str, str | None]
"""A critic's name and version, and the name of the evidence that its answers are weighed by."""


@dataclass(frozen=True)
class Earlier:
    """A file whose trace, input and output belong together."""

    done: Restored
    critic: CriticId
    """Who judged."""
    changed: tuple[str, ...]
    """What was asked for otherwise then: ``seed``, ``settings.plan``, ..."""
    cut: bool
    """It was cut short by the time limit of its whole run."""
    final: bool
    """It was restored in place: its input is gone, and its output must not be restored again."""

    def differs(self, critic: CriticId | None = None) -> tuple[str, ...]:
        """What of the run has changed; empty for a file that stays as it is. None is a critic not known yet."""
        if self.final:
            return ()
        return (*self.changed, *(["critic"] if critic not in (None, self.critic) else []))


def find_earlier(job: Job, manner: Manner) -> Earlier | None:
    """What an earlier run wrote for this very input, or None when there is nothing, or not all of it."""
    if job.trace is None or job.target.path is None or job.source.path is None:
        return None
    try:
        document = json.loads(job.trace.read_bytes())
        if document["output"]["sha256"] != sha256_of(job.target.path.read_bytes()):
            return None
        untouched = document["input"]["sha256"] == sha256_of(job.source.path.read_bytes())
        if not untouched and not job.target.path.samefile(job.source.path):
            return None
        critic = document["critic"]
        return Earlier(
            _restored(job, document),
            (critic["name"], critic["version"], critic["evidence"]),
            tuple(_changes(document, manner)),
            cut=document["stop_reason"] == "total-time-limit",
            final=not untouched,
        )
    except (OSError, ValueError, KeyError, TypeError):
        # No output, no trace, or a trace that is not one: the file has to be done.
        return None


def sweep(jobs: Iterable[Job]) -> None:
    """Remove the temporary files that killed writers left where these jobs write."""
    from iqloop.io.files import remove_strays

    places: set[Path] = set()
    for job in jobs:
        places |= {path.parent for path in (job.target.path, job.trace) if path is not None}
        places |= {path for path in (job.steps,) if path is not None}
    for place in places:
        remove_strays(place)


def _restored(job: Job, document: dict[str, Any]) -> Restored:
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
        earlier=True,
    )


def _changes(document: dict[str, Any], manner: Manner) -> Iterable[str]:
    for name in ("scale", "seed"):
        if document[name] != getattr(manner, name):
            yield name
    for name in ("settings", "budget"):
        # As JSON has it: tuples are lists there.
        now = json.loads(json.dumps(asdict(getattr(manner, name))))
        then = document[name]
        yield from (f"{name}.{key}" for key in sorted({*now, *then}) if now.get(key) != then.get(key))
