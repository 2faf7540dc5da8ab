"""Which images a command line means, and where their outputs go."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iqloop.errors import UsageError
from iqloop.io.formats import READABLE, WRITABLE


@dataclass(frozen=True)
class FoundImage:
    """One input."""

    path: Path
    """The file, as named or as found below a named folder."""
    root: Path
    """The folder that was searched, or the parent of a file that was named itself."""

    @property
    def relative(self) -> Path:
        """The path below ``root``: how outputs and traces name it."""
        return self.path.relative_to(self.root)


@dataclass(frozen=True)
class FoundImages:
    """The inputs of a run, each file once, in the order they were named; folders in natural order."""

    images: tuple[FoundImage, ...]

    def __iter__(self) -> Iterator[FoundImage]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)


def find_images(
    paths: Iterable[str | Path],
    recursive: bool = True,
    *,
    include: Sequence[str] = (),
    ignore: Sequence[str] = (),
    skip: str | Path | None = None,
) -> FoundImages:
    """The images that ``paths`` name: files as they are, folders searched for the suffixes in ``READABLE``.

    A named file is always returned, even if missing or not an image, so that reading it reports the error and the
    others go on. In folders, hidden files and folders (``.name``, ``._name``) are skipped, and a folder reached twice
    through links is searched once. Names sort naturally: ``2.png`` before ``10.png``.

    Args:
        paths: files and folders.
        recursive: search folders below folders too.
        include: globs (`matches`), of which one must match a found file's path below the folder that was named.
        ignore: globs of which none may match; they win over ``include``. A named file is taken whatever they say.
        skip: a folder that is not searched where it lies below a named one: where outputs go.

    Raises:
        UsageError: a folder has no images, or none that the globs leave, or cannot be listed; a glob is empty.
    """
    if not all(glob.strip("/") for glob in (*include, *ignore)):
        raise UsageError("a glob is empty: expected one such as **/*.jpg")

    def taken(image: FoundImage) -> bool:
        name = image.relative.as_posix()
        if any(matches(name, glob) for glob in ignore):
            return False
        return not include or any(matches(name, glob) for glob in include)

    avoided = None if skip is None else os.path.realpath(skip)
    found: dict[str, FoundImage] = {}
    for named in paths:
        path = Path(named)
        inside = [FoundImage(path, path.parent)]
        if path.is_dir():
            everything = _search(path, recursive, avoided)
            inside = [image for image in everything if taken(image)]
            if not inside:
                raise UsageError(f"{path}: has {len(everything)} images, and the globs leave none: loosen them")
        for image in inside:
            found.setdefault(os.path.abspath(image.path), image)
    return FoundImages(tuple(found.values()))


def matches(path: str, glob: str) -> bool:
    """Whether a glob stands for a whole path, both with ``/``; capitals do not matter.

    ``*``, ``?``, ``[ab]`` and ``[!ab]`` stay within one part of the path; ``**`` as a whole part stands for any number
    of parts.

    >>> matches("2024/may/IMG_1.JPG", "**/*.jpg"), matches("2024/a.jpg", "*.jpg")
    (True, False)
    """
    return _match(path.casefold().split("/"), glob.casefold().strip("/").split("/"))


def _match(parts: Sequence[str], globs: Sequence[str]) -> bool:
    if not globs:
        return not parts
    first, *rest = globs
    if first == "**":
        return any(_match(parts[place:], rest) for place in range(len(parts))) or (not rest and bool(parts))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], first) and _match(parts[1:], rest)


def output_path(source: str | Path, root: Path | None, out: str | Path | None, suffix: str = ".restored") -> Path:
    """Where the output of ``source`` goes.

    Without ``out``: beside the source, as NAME.restored.EXT. With ``out`` and a ``root``: in the folder ``out``, under
    the name that the source has below ``root``. With ``out`` and no ``root`` (one file was named): ``out`` itself if
    it is a file name that can be written, else the source's name in the folder ``out``.
    A suffix that cannot be written (``.gif``) becomes ``.png``.
    """
    source = Path(source)
    extension = source.suffix if source.suffix.lower() in WRITABLE else ".png"
    if out is None:
        return source.with_name(f"{source.stem}{suffix}{extension}")
    out = Path(out)
    if root is None and out.suffix.lower() in WRITABLE and not out.is_dir():
        return out
    relative = Path(source.name) if root is None else source.relative_to(root)
    return out / relative.with_name(f"{relative.stem}{extension}")


def _search(folder: Path, recursive: bool, avoided: str | None) -> list[FoundImage]:
    # The folder that was named is searched even if it is the one to avoid: outputs may replace inputs.
    seen = set() if avoided is None or avoided == os.path.realpath(folder) else {avoided}
    files = sorted(_walk(folder, recursive, seen), key=lambda path: _natural(path.relative_to(folder)))
    if not files:
        where = "in it or below it" if recursive else "in it"
        raise UsageError(f"{folder}: expected images ({' '.join(READABLE)}) {where}, found none")
    return [FoundImage(path, folder) for path in files]


def _walk(folder: Path, recursive: bool, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if recursive:
                yield from _walk(folder / entry.name, recursive, seen)
        elif os.path.splitext(entry.name)[1].lower() in READABLE:
            yield folder / entry.name


def _natural(path: Path) -> tuple[tuple[str | int, ...], ...]:
    """Sort key: runs of digits compare as numbers. Odd places are always numbers, so kinds never mix."""
    return tuple(
        (*(int(text) if text.isdecimal() else text for text in re.split(r"(\d+)", part.casefold())), part)
        for part in path.parts
    )
