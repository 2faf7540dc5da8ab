"""Tools' outputs on disk: one safetensors file each, the least recently used dropped beyond a limit.

Float32 as it is: of a photograph of one megapixel (12.6 MB) zlib takes off a fifth in 0.5 s, a third in 0.3 s when the
bytes are sorted by place, while writing and reading it take 0.02 s each. A file's time of change is that of its last
use; so there is no index that could disagree with the files, or that many processes would have to share.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.agents.cache_folder import sweep, write_private

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_NAMED = "image"


@dataclass(frozen=True)
class OutputFile:
    """One kept output."""

    path: Path
    bytes: int
    used: float
    """When it was last written or found, in seconds since 1970."""


class OutputFiles:
    """A folder of outputs by key, 64 hexadecimal digits; shared by any number of processes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        """Bytes of all files together. Each process may exceed it by a sixteenth until it looks again."""
        self._room: int | None = None
        """Bytes that may be written before the folder is looked through again; None before the first time."""

    def get(self, key: str) -> Tensor | None:
        """The output ``(3, H, W)``, bit for bit; a damaged file is removed. Raises OSError."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        image = _unpack(data)
        with contextlib.suppress(OSError):
            # Another process may have dropped it, or the disk may be read-only.
            path.unlink() if image is None else os.utime(path)
        return image

    def put(self, key: str, image: Tensor) -> None:
        """Keep an output ``(3, H, W)`` float32. Raises OSError."""
        data = _pack(image)
        if len(data) > self.limit:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self._room is None or self._room < len(data):
            total = self.prune(self.limit - len(data))
            self._room = min(self.limit - total, max(self.limit // 16, len(data)))
        write_private(self._path(key), data)
        self._room -= len(data)

    def files(self) -> list[OutputFile]:
        """What is kept, the least recently used first."""
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):  # another process has just dropped it
                        seen = entry.stat()
                        found.append(OutputFile(Path(entry.path), seen.st_size, seen.st_mtime))
        return sorted(found, key=lambda file: file.used)

    def prune(self, limit: int) -> int:
        """Drop the least recently used until the rest takes at most ``limit`` bytes; returns what it takes.

        Some more go when any must, so that the next output does not find the folder full again. Files of dead processes
        go too.
        """
        sweep(self.folder)
        files = self.files()
        total = sum(file.bytes for file in files)
        goal = limit if total <= limit else limit - self.limit // 10
        for file in files:
            if total <= goal:
                break
            _remove(file.path)
            total -= file.bytes
        return total

    def clear(self, before: float) -> tuple[int, int]:
        """Remove what was last used before a time, in seconds since 1970; returns how many files and bytes."""
        chosen = [file for file in self.files() if file.used < before]
        for file in chosen:
            _remove(file.path)
        return len(chosen), sum(file.bytes for file in chosen)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _pack(image: Tensor) -> bytes:
    from safetensors.torch import save

    image = image.detach().cpu().contiguous()
    return save({_NAMED: image}, {"crc32": _checksum(image)})


def _unpack(data: bytes) -> Tensor | None:
    """The tensor, or None when a byte of it is wrong."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        told = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["crc32"]
        image = load(data)[_NAMED]
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    return image if _checksum(image) == told else None


def _checksum(image: Tensor) -> str:
    """Of the values, their type and the shape."""
    return str(zlib.crc32(image.numpy().data, zlib.crc32(f"{image.dtype} {tuple(image.shape)}".encode())))
