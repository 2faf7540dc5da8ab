"""Where results go, checked before any work is done, and how they get there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.errors import ImageWriteError, UsageError
from iqloop.recipes.inputs import STREAM, Input

if TYPE_CHECKING:
    from iqloop.io import Photo

_NOT_WRITABLE = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".pdf", ".svg", ".raw", ".dng")


@dataclass(frozen=True)
class Target:
    """Where one result goes."""

    path: Path | None
    """None for standard output."""
    folder: Path | None
    """The folder given with ``-o``; None when a file was named, or nothing."""
    clash: str | None = None
    """Another input whose result would go to the same place."""

    @property
    def shown(self) -> str:
        """How it is named in messages."""
        return STREAM if self.path is None else str(self.path)

    def check(self, overwrite: bool) -> None:
        """Raise `ImageWriteError` for what can be known beforehand: it exists, or its folder cannot be written."""
        from iqloop.io.files import refuse_existing

        if self.path is None:
            return
        if self.clash is not None:
            raise ImageWriteError(self.path, f"is the output of {self.clash} already: give the inputs different names")
        refuse_existing(self.path, overwrite)
        above = self.path.absolute().parent
        while not os.path.lexists(above) and above != above.parent:
            above = above.parent
        if not above.is_dir():
            raise ImageWriteError(
                self.path, f"expected {above} to be a folder, but it is a file: write elsewhere with -o"
            )
        if not os.access(above, os.W_OK | os.X_OK):
            raise ImageWriteError(self.path, f"no permission to write in the folder {above}: write elsewhere with -o")


def place(sources: Sequence[Input], out: Path | None, suffix: str) -> list[Target]:
    """A target for every input. Raises `UsageError` when ``out`` cannot mean what it would have to."""
    from iqloop.io import WRITABLE, output_path

    single = len(sources) == 1 and sources[0].root is None
    if out is not None and str(out) == STREAM:
        if not single:
            raise UsageError(f"-o - writes one image to standard output, got {len(sources)} inputs: give a folder")
        return [Target(None, None)]
    if sources and sources[0].path is None:
        if out is None or out.is_dir() or out.suffix.lower() not in WRITABLE:
            raise UsageError(f"reading from standard input: give -o - or -o FILE with one of {' '.join(WRITABLE)}")
        return [Target(out, None)]
    to_file = False
    if out is not None and not out.is_dir():
        if out.suffix.lower() in _NOT_WRITABLE:
            raise UsageError(f"-o {out}: expected a folder or a name that ends in {' '.join(WRITABLE)}")
        to_file = out.suffix.lower() in WRITABLE
        if to_file and not single:
            raise UsageError(f"-o {out} names one file but there are {len(sources)} inputs: give a folder")
    taken: dict[str, str] = {}
    targets = []
    for source in sources:
        assert source.path is not None
        root = source.root if single or source.root is not None else source.path.parent
        path = output_path(source.path, root, out, f".{suffix}")
        owner = taken.setdefault(str(path.absolute()), source.shown)
        folder = None if out is None or to_file else out
        targets.append(Target(path, folder, None if owner == source.shown else owner))
    return targets


def stream_name(photo: Photo) -> str:
    """A file name whose suffix says how ``photo`` is written to standard output: in its own format if possible."""
    from iqloop.io import WRITABLE

    return next((f"stdout{suffix}" for suffix, name in WRITABLE.items() if name == photo.format), "stdout.png")


def encoded(photo: Photo, target: Target, keep_metadata: bool = True, software: str | None = None) -> bytes:
    """The bytes of a result; ``software`` goes into its EXIF Software tag. Raises `ImageWriteError`."""
    from iqloop.io import encode

    return encode(photo, target.path or stream_name(photo), metadata=keep_metadata, software=software)


def send(data: bytes, target: Target, overwrite: bool) -> None:
    """Put the bytes where they belong, whole or not at all. Raises `ImageWriteError`."""
    from iqloop.io import write_bytes_atomic

    if target.path is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_bytes_atomic(target.path, data, overwrite)
