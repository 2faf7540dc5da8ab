"""Where rows go: a folder of parquet parts, as Spark and Ray write it, each part there whole or not at all.

``OUT.parquet/part-000000.parquet`` and so on; whatever reads a folder of parquet files reads it. What the run was is in
every part's schema metadata under ``iqloop``, as JSON, so that a run can be gone on with, and only by itself.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import CriticError, UsageError
from iqloop.io.files import remove_strays, write_bytes_atomic
from iqloop.recipes.scale.listing import require_pyarrow

if TYPE_CHECKING:
    import pyarrow

METADATA = b"iqloop"
PART_SECONDS = 60.0
"""A part is written when its first row is this old, full or not: more is not lost with the machine."""
_PART = re.compile(r"part-(\d{6,})\.parquet")


@dataclass
class Earlier:
    """What the parts hold already."""

    keys: set[str]
    failed: int = 0
    improved: int = 0
    """Rows of restored images with a step."""


class Sink:
    """Gathers rows into parts. One process may have it at a time: see `opened`."""

    def __init__(
        self,
        folder: Path,
        schema: pyarrow.Schema,
        asked: Mapping[str, Any],
        part_rows: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``asked`` is what must be equal in a run that goes on with this one: JSON."""
        self.folder, self.schema, self.part_rows, self.clock = folder, schema, part_rows, clock
        self.asked = json.loads(json.dumps(asked))
        self._waiting: list[pyarrow.Table] = []
        self._since = 0.0
        self._critic: tuple[str, str] | None = None
        self._next = 0

    def begin(self, resume: bool, overwrite: bool) -> Earlier:
        """Look at what is there. Raises `UsageError` for parts that may not be there, or are another run's."""
        parts = self._parts()
        if parts and overwrite:
            for part in parts:
                part.unlink()
            parts = []
        if parts and not resume:
            raise UsageError(f"{self.folder} has {len(parts)} parts already: go on with --resume, or use --overwrite")
        remove_strays(self.folder)
        self._next = int(_PART.fullmatch(parts[-1].name)[1]) + 1 if parts else 0  # type: ignore[index]  # it matched
        earlier = Earlier(set())
        for part in parts:
            self._take_up(part, earlier)
        return earlier

    def add(self, table: pyarrow.Table) -> None:
        """Rows of `schema`, of one critic. Raises `CriticError` when that is another than before."""
        self._check(table)
        if not self._waiting:
            self._since = self.clock()
        self._waiting.append(table)
        rows = sum(map(len, self._waiting))
        if rows >= self.part_rows or self.clock() - self._since >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a part. Raises `iqloop.errors.ImageWriteError`, as for any file."""
        if not self._waiting:
            return
        import pyarrow
        from pyarrow import parquet

        name, version = self._critic or ("", "")
        about = {**self.asked, "critic": name, "critic_version": version}
        table = pyarrow.concat_tables(self._waiting).replace_schema_metadata({METADATA: json.dumps(about).encode()})
        held = pyarrow.BufferOutputStream()
        parquet.write_table(table, held, compression="zstd")
        write_bytes_atomic(self.folder / f"part-{self._next:06d}.parquet", held.getvalue().to_pybytes())
        self._next += 1
        self._waiting.clear()

    def _parts(self) -> list[Path]:
        if not self.folder.is_dir():
            if self.folder.exists():
                raise UsageError(f"-o {self.folder}: expected a folder of part files or a new name, but it is a file")
            return []
        return sorted(path for path in self.folder.iterdir() if _PART.fullmatch(path.name))

    def _take_up(self, part: Path, earlier: Earlier) -> None:
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(part) as file:
                about = json.loads((file.schema_arrow.metadata or {})[METADATA])
                columns = ["key", "error", *(["steps"] if "steps" in self.schema.names else [])]
                rows = file.read(columns=columns)
                self._critic = (about.pop("critic"), about.pop("critic_version"))
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
            raise UsageError(
                f"{part}: is no part of an iqloop run: move it away, or write elsewhere with -o"
            ) from error
        changed = sorted(name for name in {*about, *self.asked} if about.get(name) != self.asked.get(name))
        if changed:
            raise UsageError(
                f"{part} was written by a run with another {', '.join(changed)}: "
                "ask for the same, or write elsewhere with -o"
            )
        earlier.keys.update(rows["key"].to_pylist())
        earlier.failed += len(rows) - rows["error"].null_count
        if "steps" in columns:
            earlier.improved += sum(bool(steps) for steps in rows["steps"].to_pylist())

    def _check(self, table: pyarrow.Table) -> None:
        names, versions = (table[name].drop_null().to_pylist() for name in ("critic", "critic_version"))
        for critic in set(zip(names, versions, strict=True)):
            self._critic = self._critic or critic
            if critic != self._critic:
                raise CriticError(
                    f"{self.folder} has rows by {_called(self._critic)}, and these are by {_called(critic)}: "
                    "take the same critic everywhere, or write elsewhere with -o"
                )


@contextmanager
def opened(sink: Sink) -> Iterator[Sink]:
    """The sink for this process alone; what waits at the end, whatever the end is, is written.

    Raises `UsageError` when another process has it.
    """
    from filelock import FileLock, Timeout

    require_pyarrow()
    if sink.folder.exists() and not sink.folder.is_dir():
        raise UsageError(f"-o {sink.folder}: expected a folder of part files or a new name, but it is a file")
    sink.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(sink.folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            f"another run writes to {sink.folder}: wait for its end, or write elsewhere with -o"
        ) from error
    try:
        try:
            yield sink
        finally:
            sink.flush()
    finally:
        lock.release()


def _called(critic: tuple[str, str]) -> str:
    return f"{critic[0]} (version {critic[1]})"
