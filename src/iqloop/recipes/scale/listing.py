"""What a large run works on: a key and a place for every image; pixels and bytes stay where they are.

A source is a folder, files, or a table: a parquet file, or a folder of such, with the columns

- ``path`` (string): a file, relative to the current folder if not absolute; or ``bytes`` (binary): an image file's
  bytes, read batch by batch; and
- ``key`` (string): what the image is called in the results. With ``path`` it may be left out, and is the path then.

A key stands for one image: two rows with one key are refused. Of a folder the key is the path below it, of several
inputs the path as named.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from iqloop.errors import UsageError, missing_extra
from iqloop.recipes.inputs import STREAM, Filter, Input, gather
from iqloop.recipes.scale.options import is_table

if TYPE_CHECKING:
    import pyarrow

CHUNK = 10_000
"""Rows of a table of keys and paths that travel together."""


@dataclass(frozen=True)
class Item(Input):
    """One image of a batch."""

    key: str = ""
    data: bytes | None = None
    """The file's bytes, where a table holds them."""

    def bytes(self) -> bytes:
        """The image file's bytes."""
        return super().bytes() if self.data is None else self.data


class Listing(Protocol):
    """The images of a run."""

    @property
    def keys(self) -> Sequence[str]:
        """One for every image, none twice."""
        ...

    def only(self, keys: Collection[str]) -> Listing:
        """Those of them with these keys."""
        ...

    def tables(self, rows: int) -> Iterator[pyarrow.Table]:
        """Tables for `items`, of at most ``rows`` rows, one after the other."""
        ...


@dataclass(frozen=True)
class Files:
    """Images in files of their own."""

    table: pyarrow.Table
    """``key`` and ``path`` (string, as shown), ``file`` (binary: the absolute path in the file system's encoding),
    ``relative`` (binary: the path below the folder that was named), and what a command adds."""

    @property
    def keys(self) -> Sequence[str]:
        """As of `Listing`."""
        keys: list[str] = self.table["key"].to_pylist()
        return keys

    def only(self, keys: Collection[str]) -> Files:
        """As of `Listing`."""
        wanted = keys if isinstance(keys, set | frozenset) else set(keys)
        return Files(self.table.filter([key in wanted for key in self.keys]))

    def tables(self, rows: int) -> Iterator[pyarrow.Table]:
        """As of `Listing`."""
        for start in range(0, len(self.table), rows):
            yield self.table.slice(start, rows)


@dataclass(frozen=True)
class Packed:
    """Images whose bytes are in parquet files."""

    source: str
    """Absolute: it is opened by other processes too."""
    keys: Sequence[str]
    wanted: frozenset[str] | None = None
    """Which keys are meant, if not all."""

    def only(self, keys: Collection[str]) -> Packed:
        """As of `Listing`."""
        wanted = frozenset(keys)
        return Packed(self.source, [key for key in self.keys if key in wanted], wanted)

    def tables(self, rows: int) -> Iterator[pyarrow.Table]:
        """As of `Listing`."""
        for batch in dataset(self.source).to_batches(columns=["key", "bytes"], batch_size=rows, batch_readahead=1):
            table = keep(require_pyarrow().Table.from_batches([batch]), self.wanted)
            if len(table):
                yield table


def keep(table: pyarrow.Table, wanted: Collection[str] | None) -> pyarrow.Table:
    """The rows whose key is wanted; None wants all."""
    return table if wanted is None else table.filter([key in wanted for key in table["key"].to_pylist()])


def find(named: Sequence[str], chosen: Filter | None = None, out: Path | None = None) -> Listing:
    """What ``named`` stands for; ``chosen`` and ``out`` as for `iqloop.recipes.inputs.gather`.

    Raises `UsageError` for standard input, for a table beside other inputs or without the columns, for two equal keys.
    """
    if STREAM in named:
        raise UsageError("standard input (-) holds one image, and rows are for many: name a folder or a table")
    if not any(is_table(name) for name in named):
        sources = gather(named, chosen=chosen, out=out)
        single = len(named) == 1
        return files_of(sources, [text(source.relative if single else source.shown) for source in sources])
    if len(named) > 1:
        raise UsageError(f"a table of images stands alone, got {len(named)} inputs: run once for each")
    columns = set(dataset(named[0]).schema.names)
    if "path" in columns:
        return files_of(*_listed(named[0], columns))
    if not {"key", "bytes"} <= columns:
        raise UsageError(
            f"{named[0]}: expected a column path, or the columns key and bytes, got {', '.join(sorted(columns))}"
        )
    keys = dataset(named[0]).to_table(columns=["key"])["key"].to_pylist()
    refuse_doubles(keys)
    return Packed(os.path.abspath(named[0]), keys)


def files_of(sources: Sequence[Input], keys: Sequence[str]) -> Files:
    """A listing of files. Raises `UsageError` for two equal keys."""
    refuse_doubles(keys)
    pyarrow = require_pyarrow()
    files = [os.fsencode(os.path.abspath(source.path or "")) for source in sources]
    return Files(
        pyarrow.table(
            {
                "key": pyarrow.array(keys, pyarrow.string()),
                "path": pyarrow.array([text(source.shown) for source in sources], pyarrow.string()),
                "file": pyarrow.array(files, pyarrow.binary()),
                "relative": pyarrow.array([os.fsencode(source.relative) for source in sources], pyarrow.binary()),
            }
        )
    )


def items(table: pyarrow.Table) -> list[Item]:
    """The images of a batch."""
    return [_item(row) for row in table.select(_present(table)).to_pylist()]


def refuse_doubles(keys: Iterable[str | None]) -> None:
    """Raise `UsageError` for a key that is there twice or missing."""
    seen: set[str] = set()
    for key in keys:
        if key is None:
            raise UsageError("an image has no key: expected a text in every row of the column key (or path)")
        if key in seen:
            raise UsageError(f"the key {key!r} stands for two images: give each a key of its own")
        seen.add(key)


def dataset(source: str) -> Any:
    """A parquet file or a folder of such, opened. Raises `UsageError`."""
    require_pyarrow()
    import pyarrow
    from pyarrow import dataset as datasets

    try:
        return datasets.dataset(source, format="parquet")
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{source}: expected a parquet file or a folder of such ({reason})") from error


def require_pyarrow() -> Any:
    """The package; raises `iqloop.errors.PrerequisiteError` where it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("pyarrow", "ray") from error
    return pyarrow


def text(path: str | Path) -> str:
    """A path as Arrow has it; bytes that are not UTF-8 are escaped, so that two names stay two."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")


def _listed(source: str, columns: set[str]) -> tuple[list[Input], list[str]]:
    found = dataset(source).to_table(columns=["path", "key"] if "key" in columns else ["path"])
    paths = found["path"].to_pylist()
    refuse_doubles(paths)
    # Outputs mirror the tree below the folder that all have in common.
    root = Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])) if paths else Path()
    sources = [Input(path, Path(path), Path(os.path.relpath(path, root)), root) for path in paths]
    return sources, found["key"].to_pylist() if "key" in columns else paths


def _present(table: pyarrow.Table) -> list[str]:
    return [name for name in ("key", "path", "file", "bytes") if name in table.column_names]


def _item(row: dict[str, Any]) -> Item:
    shown = row.get("path") or row["key"]
    path = Path(os.fsdecode(row["file"])) if "file" in row else None
    return Item(shown, path, Path(shown), None, key=row["key"], data=row.get("bytes"))
