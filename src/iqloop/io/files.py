"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from iqloop.errors import ImageReadError, ImageWriteError


def write_bytes_atomic(path: str | Path, data: bytes, overwrite: bool = False) -> Path:
    """Write ``data`` to ``path`` through a temporary file in the same folder; return the path.

    Missing parent folders are made. On any failure, an interrupt included, the temporary file is removed and a file
    that was there stays as it was. The new file has the mode that the umask gives. Raises ImageWriteError.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    # Not tempfile.mkstemp: it forces mode 0600, and reading the umask to mend that is not safe with threads.
    # The name is short so that a long target name stays within the file system's limit, and hidden from find_images.
    temporary = path.parent / f".iqloop-{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_through(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
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


def _write_through(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _reason(path: Path, error: OSError) -> str:
    folder = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk: free some, or write elsewhere with -o"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in the folder {folder}: change its mode, or write elsewhere with -o"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"expected {folder} to be a folder, but a part of it is a file: write elsewhere with -o"
    return f"cannot be written ({error.strerror or error}): write elsewhere with -o"
