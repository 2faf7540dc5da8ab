"""Where the disk cache is, how large it may become, and how its folder is told from any other.

The folder holds pictures, so that only its owner may look into it; and it is emptied by a command, so that nothing is
written to or removed from a folder without the cache's own mark.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

from iqloop.errors import UsageError
from iqloop.restorers import home

VARIABLE = "IQLOOP_CACHE"
"""Names another folder."""
LIMIT_VARIABLE = "IQLOOP_CACHE_LIMIT"
"""Sets another limit: bytes, or a number with kB, MB or GB."""
LIMIT = 2 * 2**30
"""Bytes on disk unless told otherwise."""
MARK = "CACHEDIR.TAG"
"""The file by which backups know a cache (https://bford.info/cachedir/); its second line says whose it is."""
_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# iqloop: outputs of restoration tools and answers of critics; `iqloop cache clear` empties this folder.\n"
)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
TEMPORARY = re.compile(r"\.iqloop-[0-9a-f]{16}\.tmp")
"""Names of files that are being written."""
STALE = 3600.0
"""Seconds after which a file that is being written has been left by a process that is dead."""


def cache_folder() -> Path:
    """``IQLOOP_CACHE``, else ``IQLOOP_HOME/cache``, else ``XDG_CACHE_HOME/iqloop``, else ``~/.cache/iqloop``."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    if os.environ.get(home.VARIABLE):
        return home.data_home() / "cache"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a path that is not absolute is as if it were not set.
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "iqloop"


def cache_limit() -> int:
    """Bytes that the cache may take: ``IQLOOP_CACHE_LIMIT``, else `LIMIT`. Raises `UsageError`."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return LIMIT
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(f"{LIMIT_VARIABLE} takes a size such as 500MB or 5GB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def is_cache(folder: Path) -> bool:
    """Whether the folder bears the mark. Raises OSError when that cannot be read."""
    try:
        return (folder / MARK).read_bytes() == _TEXT.encode()
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_folder(folder: Path) -> None:
    """Raise `UsageError` for a folder that holds something else, or a file."""
    try:
        if is_cache(folder) or not os.path.lexists(folder):
            return
        names = [name for name in os.listdir(folder) if not TEMPORARY.fullmatch(name)]
    except NotADirectoryError:
        raise UsageError(f"{folder} is a file, expected a folder for the cache: set {VARIABLE} to another") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}): set {VARIABLE} to another folder") from error
    if names:
        raise UsageError(
            f"{folder} holds something else ({sorted(names)[0]}) and is no cache of iqloop: set {VARIABLE} to an empty "
            "or a new folder"
        )


def make_folder(folder: Path) -> None:
    """Make the folder and mark it, unless that is done; for its owner's eyes only. Raises OSError."""
    if is_cache(folder):
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_private(folder / MARK, _TEXT.encode())


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, with mode 0600. Raises OSError.

    Not flushed to the disk itself: what a power failure spoils is found to be damaged and is a miss.
    """
    temporary = path.parent / f".iqloop-{secrets.token_hex(8)}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sweep(folder: Path) -> None:
    """Remove what dead processes were writing. Raises OSError for a folder that cannot be read."""
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - STALE:
                    path.unlink()
