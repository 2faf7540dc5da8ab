"""Bytes: for people, and how many are free."""

from __future__ import annotations

import shutil
from pathlib import Path


def readable(count: int) -> str:
    """Bytes for people, in powers of ten as disks are sold: ``16.6 GB``.

    >>> readable(67_040_989)
    '67.0 MB'
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def free_bytes(folder: Path) -> int:
    """Bytes free where ``folder`` is, or would be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
