"""Writing a file whole or not at all, and clearing away what writers that were killed left behind.

A temporary file is locked for as long as its writer lives: the system drops the lock with the process, whatever ended
it, so that a file without one is nobody's. Where there are no such locks (Windows, some network file systems) nothing
is cleared away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from iqloop.errors import ImageReadError, ImageWriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.iqloop-[0-9a-f]{16}\.tmp")


def write_bytes_atomic(path: str | Path, data: bytes, overwrite: bool = False) -> Path:
    """Write ``data`` to ``path`` through a temporary file in the same folder; return the path.

    Missing parent folders are made. On any failure, an interrupt included, the temporary file is removed and a file
    that was there stays as it was. The new file has the mode that the umask gives. Raises ImageWriteError.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent) as (temporary, file):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file
            os.replace(temporary, path)
    except OSError as error:
        raise ImageWriteError(path, _reason(path, error)) from error
    return path


def copy_bytes(source: str | Path, target: str | Path, *, overwrite: bool = False) -> Path:
    """Copy a file's bytes to ``target`` as :func:`write_bytes_atomic` does; return the target.

    Copying a file onto itself does nothing. Raises ImageReadError or ImageWriteError.
    """
    source, target = Path(source), Path(target)
    data = read_bytes(source)
    if overwrite and target.exists() and os.path.samefile(source, target):
        return target
    return write_bytes_atomic(target, data, overwrite)


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises ImageReadError that says why not."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        reason = "no such file: check the name"
    except IsADirectoryError:
        reason = "is a folder, expected an image file: name a file in it"
    except PermissionError:
        reason = "no permission to read it: change its mode or run as its owner"
    except (OSError, ValueError) as error:
        reason = f"cannot be opened ({getattr(error, 'strerror', None) or error}): check the path"
    raise ImageReadError(path, reason)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ImageWriteError if ``path`` may not be written for what is there already."""
    try:
        if path.is_dir():
            raise ImageWriteError(path, "is a folder, expected a file name: add one")
        if not overwrite and os.path.lexists(path):
            raise ImageWriteError(path, "exists already: choose another name, or overwrite with --overwrite")
    except (OSError, ValueError) as error:
        raise ImageWriteError(path, f"cannot be written ({error}): choose another name") from error


def remove_strays(folder: Path) -> list[Path]:
    """Remove the temporary files that killed writers left in ``folder`` (not below it); return what was removed.

    Files of living writers, and files that are not `write_bytes_atomic`'s, stay. A folder that is missing or cannot be
    listed has none.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if _TEMPORARY.fullmatch(entry.name)]
    except OSError:
        return []
    return [folder / name for name in names if _remove_stray(folder / name)]


def _remove_stray(path: Path) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if _lock(file, wait=False):
            path.unlink()
            return True
    return False


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new locked file in ``folder``, open for writing; removed at the end unless it was renamed."""
    # Not tempfile.mkstemp: it forces mode 0600, and reading the umask to mend that is not safe with threads.
    # The name is short so that a long target name stays within the file system's limit, and hidden from find_images.
    path = folder / f".iqloop-{secrets.token_hex(8)}.tmp"
    with open(path, "xb") as file:
        _lock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink:
            try:
                yield path, file
            except BaseException:
                with contextlib.suppress(OSError):
                    file.close()
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
            return
    # Between opening and locking it was taken for a stray.
    with _temporary(folder) as made:
        yield made


def _lock(file: BinaryIO, wait: bool) -> bool:
    """Whether the file is ours now; False too where files cannot be locked."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _reason(path: Path, error: OSError) -> str:
    folder = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk: free some, or write elsewhere with -o"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in the folder {folder}: change its mode, or write elsewhere with -o"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"expected {folder} to be a folder, but a part of it is a file: write elsewhere with -o"
    return f"cannot be written ({error.strerror or error}): write elsewhere with -o"
