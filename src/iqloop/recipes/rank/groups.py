"""Which images are ranked against each other: all of them, those of each folder, or those of each group of a table."""

from __future__ import annotations

import builtins
import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from iqloop.errors import UsageError
from iqloop.recipes.inputs import STREAM, Input, gather

FOLDER = "folder"
"""The word for groups by folder."""


@dataclass(frozen=True)
class Held(Input):
    """Standard input: it can be read once, so its bytes are kept."""

    data: builtins.bytes = b""

    def bytes(self) -> builtins.bytes:
        """As they came."""
        return self.data


@dataclass(frozen=True)
class Group:
    """Images of the same thing."""

    name: str | None
    """None when all images are one group."""
    sources: tuple[Input, ...]
    """In the order given, each file once."""
    reference: Input | None = None
    """The degraded image of which they are restorations."""

    @property
    def shown(self) -> str:
        """How it is named in messages."""
        return "the images" if self.name is None else self.name


def find_groups(named: Sequence[str], groups: str | None, reference: str | None) -> list[Group]:
    """What is to be ranked.

    Args:
        named: files and folders, and ``-`` for standard input; with a table nothing, or the folder that its names
            start from.
        groups: None for one group; ``"folder"``: the images that lie in the same folder; else a table (`read_table`).
        reference: of every group that the table gives none.

    Raises `UsageError`: nothing is named, a folder without images, a table that is not one.
    """
    shared = None if reference is None else find_reference(reference)
    if groups is not None and groups != FOLDER:
        if len(named) > 1 or any(not Path(name).is_dir() for name in named):
            raise UsageError(f"--groups {groups} names the images: leave out the files, or name the folder they are in")
        return read_table(Path(groups), Path(named[0]) if named else None, shared)
    if not named:
        raise UsageError("expected images to rank: name files or folders, or a table with --groups FILE.csv")
    if groups is None:
        return [Group(None, tuple(find_sources(named)), shared)]
    by_folder: dict[str, list[Input]] = {}
    for source in gather(named):
        assert source.path is not None
        by_folder.setdefault(str(source.path.parent), []).append(source)
    return [Group(name, tuple(sources), shared) for name, sources in by_folder.items()]


def find_sources(named: Sequence[str]) -> list[Input]:
    """The images; standard input may stand among files, and comes first."""
    files = [name for name in named if name != STREAM]
    held = []
    if STREAM in named:
        (stream,) = gather([STREAM], stream=True)
        held = [Held(stream.shown, stream.path, stream.relative, stream.root, stream.bytes())]
    return held + (gather(files) if files else [])


def find_reference(name: str) -> Input:
    """The one image of that name. Raises `UsageError` for a folder."""
    if Path(name).is_dir():
        raise UsageError(f"--reference {name}: is a folder, expected an image file")
    return gather([name])[0]


def read_table(path: Path, root: Path | None = None, shared: Input | None = None) -> list[Group]:
    """The groups of a CSV in the order in which they first come; files need not be there.

    Args:
        path: columns ``file``, ``group`` and perhaps ``reference``, the same or nothing in all rows of a group.
        root: the folder that the names start from; None finds it as `iqloop.critic.labels.root_of` does.
        shared: the reference of groups without one.

    Raises `UsageError` with the row, what was expected and what is there.
    """
    from iqloop.critic.labels import root_of

    rows = _rows(path)
    root = root_of(path, [row["file"] for _, row in rows], root)
    sources: dict[str, dict[str, Input]] = {}
    references: dict[str, str] = {}
    for number, row in rows:
        group, name = row["group"], row.get("reference", "")
        source = _input(root, row["file"])
        sources.setdefault(group, {}).setdefault(os.path.abspath(source.shown), source)
        if name and references.setdefault(group, name) != name:
            _fail(path, number, f"expected one reference for the group {group}, {references[group]}", name)
    return [
        Group(name, tuple(images.values()), _input(root, references[name]) if name in references else shared)
        for name, images in sources.items()
    ]


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The cells of each row by column, with the number of its line."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"--groups {path}: cannot be read ({error.strerror}): expected the word folder, or a CSV"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--groups {path}: expected a CSV, got bytes that are no text at {error.start}") from error
    first = text.splitlines()[0] if text else ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), skipinitialspace=True)
    names = [name.strip().casefold() for name in next(reader, [])]
    if not {"file", "group"} <= set(names):
        _fail(path, 1, "expected the columns file, group and perhaps reference", ", ".join(names) or "nothing")
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            _fail(path, reader.line_num, f"expected {len(names)} cells as in the header", str(len(cells)))
        row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        if not (row["file"] and row["group"]):
            _fail(path, reader.line_num, "expected a file and its group", repr(",".join(cells)))
        rows.append((reader.line_num, row))
    if not rows:
        _fail(path, 2, "expected a row for each image", "none")
    return rows


def _input(root: Path, name: str) -> Input:
    return Input(str(root / name), root / name, Path(name), root)


def _fail(path: Path, row: int, expected: str, got: str) -> NoReturn:
    raise UsageError(f"{path}, row {row}: {expected}, got {got}")
