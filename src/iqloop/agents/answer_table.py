"""Critics' answers on disk: rows of one SQLite table, the least recently used dropped beyond a limit.

An answer is about a kilobyte of text: as a file of its own it would take four, and a folder of photographs has tens of
thousands. In the table (write-ahead log, safe for many processes and when one is killed) keeping one takes 0.06 ms and
finding it 0.02 ms, no more than with files.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds to wait while another process writes."""
FRESH = 3600
"""A row found again within so many seconds is not noted as used again: a search then writes nothing."""
EVERY = 256
"""Answers kept between two looks at the size."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_MAKE = """CREATE TABLE IF NOT EXISTS answers
    (key TEXT PRIMARY KEY, text TEXT NOT NULL, crc INTEGER NOT NULL, used INTEGER NOT NULL)"""
# In the order in which they came, so that whole pages become free.
_DROP_A_QUARTER = """DELETE FROM answers WHERE key IN
    (SELECT key FROM answers ORDER BY used, rowid LIMIT (SELECT max(count(*) / 4, 1) FROM answers))"""
_SIZE = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)


class AnswerTable:
    """Texts by key; a damaged table is begun anew. Methods raise sqlite3.Error and OSError."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        """Bytes of the table's pages; a quarter of the rows goes when they are more."""
        self._lock = threading.Lock()
        self._open: tuple[int, sqlite3.Connection] | None = None
        """Of this process: a connection must not be carried into a forked one."""
        self._puts = 0

    def get(self, key: str) -> str | None:
        """A text, or None."""
        return self._do(lambda table: _get(table, key)) if self.path.exists() else None

    def put(self, key: str, text: str) -> None:
        """Keep a text."""
        self._do(lambda table: self._put(table, key, text))

    def _put(self, table: sqlite3.Connection, key: str, text: str) -> None:
        if self._puts % EVERY == 0 and _size(table) > self.limit:
            table.execute(_DROP_A_QUARTER)
        self._puts += 1
        row = (key, text, zlib.crc32(text.encode()), int(time.time()))
        table.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row)

    def summary(self) -> tuple[int, int, float | None, float | None]:
        """Number of rows, bytes of the files, and when the least and the most recently used were used."""
        if not self.path.exists():
            return 0, 0, None, None
        count, oldest, newest = self._do(
            lambda table: table.execute("SELECT count(*), min(used), max(used) FROM answers").fetchone()
        ) or (0, None, None)
        return count, sum(_bytes(path) for path in self._files()), oldest, newest

    def clear(self, before: float) -> tuple[int, int]:
        """Remove what was last used before a time, in seconds since 1970; how many rows and, about, bytes."""
        if not self.path.exists():
            return 0, 0

        def drop(table: sqlite3.Connection) -> tuple[int, int]:
            size = _size(table)
            count = table.execute("DELETE FROM answers WHERE used < ?", (before,)).rowcount
            freed = size - _size(table)
            with contextlib.suppress(sqlite3.OperationalError):  # another process reads: its file shrinks another time
                table.execute("VACUUM")
                table.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return count, freed

        return self._do(drop) or (0, 0)

    def close(self) -> None:
        """Close the connection of this process, if there is one; the next question opens another."""
        if self._open is not None and self._open[0] == os.getpid():
            self._open[1].close()
        self._open = None

    def __del__(self) -> None:
        self.close()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Work with the table; None when it is damaged, and then it is begun anew."""
        with self._lock:
            try:
                return work(self._connected())
            except sqlite3.DatabaseError as error:
                # The low byte is the kind of error, what is above it says more.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    raise
                self.close()
                for path in reversed(self._files()):  # a new table must not meet the log of the old one
                    path.unlink(missing_ok=True)
                return None

    def _connected(self) -> sqlite3.Connection:
        if self._open is not None and self._open[0] == os.getpid():
            return self._open[1]
        with contextlib.suppress(FileExistsError):
            # SQLite would let everybody read it; its log gets the mode of the table.
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        table = sqlite3.connect(self.path, PATIENCE, isolation_level=None, check_same_thread=False)
        self._open = os.getpid(), table
        with contextlib.suppress(sqlite3.OperationalError):  # another process is just doing it
            table.execute("PRAGMA journal_mode = WAL").fetchall()
        table.execute("PRAGMA synchronous = NORMAL")
        table.execute(_MAKE)
        return table

    def _files(self) -> list[Path]:
        return [self.path.with_name(self.path.name + end) for end in ("", "-shm", "-wal")]


def _get(table: sqlite3.Connection, key: str) -> str | None:
    row = table.execute("SELECT text, crc, used FROM answers WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    text, crc, used = row
    if not isinstance(text, str) or zlib.crc32(text.encode()) != crc:
        table.execute("DELETE FROM answers WHERE key = ?", (key,))
        return None
    now = int(time.time())
    if now - used > FRESH:
        with contextlib.suppress(sqlite3.OperationalError):  # a read-only disk, or others are writing
            table.execute("UPDATE answers SET used = ? WHERE key = ?", (now, key))
    return text


def _size(table: sqlite3.Connection) -> int:
    return int(table.execute(_SIZE).fetchone()[0])


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
