"""Tool outputs and critics' answers on disk, for later runs; it saves time and never changes a run.

A run that finds something here counts it as the call that it saves (`iqloop.agents.workshop`,
`iqloop.agents.questions`), so its trace, budget and counters are those of a run without a disk. A key holds the pixels,
the tool or the critic, and everything else that the result follows from (`iqloop.agents.circumstances`,
`iqloop.critic.fingerprint`). Outputs are files (`iqloop.agents.output_files`), answers are rows of a table
(`iqloop.agents.answer_table`); a sixteenth of the limit is the answers'.

Any number of processes may share a folder, and any may be killed. What is damaged is a miss and goes. Whatever goes
wrong with the disk costs one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from iqloop.agents.answer_table import AnswerTable
from iqloop.agents.cache_folder import cache_folder, cache_limit, check_folder, is_cache, make_folder, sweep
from iqloop.agents.output_files import OutputFiles
from iqloop.critic.verdict_json import Verdict, from_text, to_text
from iqloop.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents.cache import Cache, Key

FORM = "iqloop-cache/1"
"""Of what is kept; part of every key."""
SHARE = 16
"""The answers' part of the limit is one in so many."""
T = TypeVar("T")


@dataclass(frozen=True)
class CacheInfo:
    """What a folder holds."""

    folder: Path
    limit: int
    """Bytes that it may take."""
    outputs: int
    answers: int
    bytes: int
    oldest: float | None
    """When the least recently used entry was used, in seconds since 1970; None when there is none."""
    newest: float | None


@dataclass(frozen=True)
class Removed:
    """What was removed from a folder."""

    outputs: int
    answers: int
    bytes: int


class DiskCache:
    """A folder of outputs and answers. Made by the first thing that is kept; no method but `clear` raises."""

    def __init__(self, folder: Path, limit: int, made_with: str | None = None) -> None:
        self.folder = folder
        self.limit = limit
        self.made_with = made_with
        """What decides how tools compute besides their versions (device, tiles), for all tools; None asks each tool,
        which then has to be loaded before its outputs can be looked for."""
        self.outputs = OutputFiles(folder / "outputs", limit - limit // SHARE)
        self.answers = AnswerTable(folder / "answers.sqlite", limit // SHARE)
        self._failed: set[str] = set()
        """What is not tried any more, "reading" or "writing"."""

    def output(self, key: Key) -> Tensor | None:
        """A tool's output ``(3, H, W)`` float32 on the CPU, bit for bit; or None."""
        return self._tried("reading", lambda: self.outputs.get(_digest("output", key)))

    def keep_output(self, key: Key, image: Tensor) -> None:
        """Keep a tool's output ``(3, H, W)`` float32."""

        def keep() -> None:
            make_folder(self.folder)
            self.outputs.put(_digest("output", key), image)

        self._tried("writing", keep)

    def answer(self, key: Key) -> Verdict | None:
        """A critic's verdict, or None."""
        text = self._tried("reading", lambda: self.answers.get(_digest("answer", key)))
        if text is not None:
            with contextlib.suppress(ValueError):
                return from_text(text)
        return None

    def keep_answer(self, key: Key, verdict: Verdict) -> None:
        """Keep a critic's verdict, if it can be written as text."""
        text = to_text(verdict)

        def keep() -> None:
            if text is not None:
                make_folder(self.folder)
                self.answers.put(_digest("answer", key), text)

        self._tried("writing", keep)

    def info(self) -> CacheInfo:
        """What is there; nothing for a folder that does not exist. Raises OSError and sqlite3.Error."""
        files = self.outputs.files()
        answers, taken, oldest, newest = self.answers.summary()
        used = [file.used for file in files] + [time for time in (oldest, newest) if time is not None]
        total = taken + sum(file.bytes for file in files)
        return CacheInfo(
            self.folder, self.limit, len(files), answers, total, min(used, default=None), max(used, default=None)
        )

    def clear(self, before: float = math.inf) -> Removed:
        """Remove what was last used before a time, in seconds since 1970; nothing but the cache's own files.

        Raises `UsageError` for a folder without the cache's mark; OSError and sqlite3.Error.
        """
        if not self.folder.exists():
            return Removed(0, 0, 0)
        if not is_cache(self.folder):
            raise UsageError(f"{self.folder} is no cache of iqloop, so nothing in it is removed")
        for place in (self.folder, self.outputs.folder):
            if place.is_dir():
                sweep(place)
        files, freed = self.outputs.clear(before)
        answers, more = self.answers.clear(before)
        return Removed(files, answers, freed + more)

    def _tried(self, what: str, work: Callable[[], T]) -> T | None:
        if what in self._failed:
            return None
        try:
            return work()
        except (OSError, sqlite3.Error) as error:
            if not self._failed:
                reason = getattr(error, "strerror", None) or error
                warnings.warn(
                    f"the cache in {self.folder} fails at {what} ({reason}) and is not used for that any more; "
                    "free some space, set IQLOOP_CACHE to another folder, or give --no-cache",
                    RuntimeWarning,
                    stacklevel=3,
                )
            self._failed.add(what)
            return None


def open_cache(
    folder: str | Path | None = None,
    limit: int | None = None,
    *,
    max_bytes: int | None = None,
    made_with: str | None = None,
) -> Cache:
    """A cache with a disk, for `iqloop.agents.restore`; one for many runs or a new one for each, which is the same.

    Each run that is given it remembers for itself and shares no more than the disk (`Cache.for_run`), so that nothing
    in a trace depends on the runs before.

    Args:
        folder: where; None is `iqloop.agents.cache_folder.cache_folder`. Made when something is kept.
        limit: bytes on disk; None is `iqloop.agents.cache_folder.cache_limit`.
        max_bytes: memory for each run's own outputs, as ``RestoreSettings.cache_bytes``; None is its default.
        made_with: how all tools were made, such as ``"cuda:0, tile 512"``. Then an output is found without loading its
            tool; whoever makes tools in another way must say something else. None asks the tools.

    Raises:
        UsageError: the folder holds something else, or the limit cannot be.
    """
    from iqloop.agents.cache import Cache

    place = cache_folder() if folder is None else Path(folder).expanduser().absolute()
    size = cache_limit() if limit is None else limit
    if size < 0:
        raise UsageError(f"the limit of the cache must be 0 bytes or more, got {size}")
    check_folder(place)
    disk = DiskCache(place, size, made_with)
    return Cache(disk=disk) if max_bytes is None else Cache(max_bytes, disk)


def _digest(kind: str, key: Key) -> str:
    from iqloop.agents.circumstances import machine, software

    return hashlib.sha256(json.dumps([FORM, kind, software(), machine(), key]).encode()).hexdigest()
