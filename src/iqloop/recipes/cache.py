"""``iqloop cache``: what is kept on disk for later runs, and emptying it."""

from __future__ import annotations

import shlex
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import PrerequisiteError, UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.agents.disk_cache import CacheInfo, DiskCache

DAY = 86400.0


@click.group("cache")
def command() -> None:
    """Show or empty the folder of tool outputs and critics' answers, which spares later runs the work.

    It is IQLOOP_CACHE, else IQLOOP_HOME/cache, else iqloop in the user's folder for caches, and takes at most
    IQLOOP_CACHE_LIMIT (such as 500MB; by default 2 GiB). What was used least recently goes first.
    """


@command.command("info")
@options.talk
def info(console: Console) -> int:
    """Show the folder, what it holds, how much it takes and may take, and when its entries were last used."""
    from iqloop.sizes import readable

    disk = _disk()
    with _explained(disk):
        held = disk.info()
    console.fields(info_fields(held))
    console.line(f"folder: {held.folder}" + ("" if held.folder.exists() else " (made when something is kept)"))
    console.line(f"outputs of tools: {held.outputs}")
    console.line(f"answers of critics: {held.answers}")
    console.line(f"size: {readable(held.bytes)} of at most {readable(held.limit)}")
    if held.oldest is not None and held.newest is not None:
        console.line(f"last used: {_date(held.oldest)} to {_date(held.newest)}")
    return failures.DONE


@command.command("clear")
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="Only what was not used for so long.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.talk
def clear(older_than: float | None, yes: bool, console: Console) -> int:
    """Remove what is kept, after asking; nothing but the cache's own files, and those of no other folder."""
    from iqloop.sizes import readable

    disk = _disk()
    with _explained(disk):
        if not yes and disk.folder.exists() and not _agreed(disk, older_than, console):
            console.notice("nothing was removed")
            return failures.SOME_FAILED
        gone = disk.clear() if older_than is None else disk.clear(time.time() - older_than * DAY)
    fields = {"outputs": gone.outputs, "answers": gone.answers, "bytes": gone.bytes}
    console.fields({"folder": str(disk.folder), **fields})
    console.line(
        f"removed {gone.outputs} outputs of tools and {gone.answers} answers of critics, {readable(gone.bytes)}, "
        f"from {disk.folder}"
    )
    return failures.DONE


def info_fields(held: CacheInfo) -> dict[str, Any]:
    """What is known of the cache, as JSON types; times are in seconds since 1970."""
    return {
        "folder": str(held.folder),
        "outputs": held.outputs,
        "answers": held.answers,
        "entries": held.outputs + held.answers,
        "bytes": held.bytes,
        "limit": held.limit,
        "oldest": held.oldest,
        "newest": held.newest,
    }


def _disk() -> DiskCache:
    from iqloop.agents.cache_folder import cache_folder, cache_limit, check_folder
    from iqloop.agents.disk_cache import DiskCache

    folder = cache_folder()
    check_folder(folder)
    return DiskCache(folder, cache_limit())


@contextmanager
def _explained(disk: DiskCache) -> Iterator[None]:
    """A table that cannot be read is one sentence."""
    try:
        yield
    except sqlite3.Error as error:
        raise PrerequisiteError(
            f"{disk.answers.path} cannot be used ({error}): wait until other runs have ended, or delete {disk.folder}"
        ) from error


def _agreed(disk: DiskCache, older_than: float | None, console: Console) -> bool:
    """Ask on a terminal; elsewhere nobody can answer, and the command that needs none is the error."""
    if console.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        chosen = [] if older_than is None else ["--older-than", f"{older_than:g}"]
        line = shlex.join(["iqloop", "cache", "clear", *chosen, "--yes"])
        raise UsageError(f"nobody is at a terminal to agree to this: run  {line}")
    what = "everything" if older_than is None else f"what was not used for {older_than:g} days"
    return click.confirm(f"Remove {what} from {disk.folder}?", err=True)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "minutes")
