"""The images that a label file names: below one folder, and looked for before the first question is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from iqloop.errors import UsageError
from iqloop.recipes.inputs import Input

Command = TypeVar("Command", bound=Callable[..., Any])


def where(command: Command) -> Command:
    """``--images --skip-missing``."""
    root = click.option(
        "--images",
        type=click.Path(path_type=Path),
        metavar="ROOT",
        help="Folder that the names start from.  [default: that of the table, or the one above]",
    )
    skip = click.option("--skip-missing", is_flag=True, help="Leave out images that are not there, and count them.")
    return root(skip(command))


def found(
    names: Iterable[str], table: Path, images: Path | None = None, skip_missing: bool = False
) -> tuple[dict[str, Input], int]:
    """Each named image once, in the order of the names, and how many of them are missing.

    Args:
        names: relative paths, any number of times.
        table: what names them.
        images: the folder that they start from; None finds it as `iqloop.critic.labels.root_of` does.
        skip_missing: leave missing images out instead of refusing.

    Raises `UsageError` naming the first missing image, and when all are missing.
    """
    from iqloop.critic.labels import root_of

    distinct = list(dict.fromkeys(names))
    root = root_of(table, distinct, images)
    missing = [name for name in distinct if not (root / name).is_file()]
    if missing and (not skip_missing or len(missing) == len(distinct)):
        more = "" if len(missing) == 1 else f" ({len(missing)} of its {len(distinct)} images are missing)"
        mend = "say with --images where they are" + ("" if skip_missing else ", or leave them out with --skip-missing")
        raise UsageError(f"{root / missing[0]}: no such file, which {table} names{more}: {mend}")
    gone = set(missing)
    there = {name: Input(str(root / name), root / name, Path(name), root) for name in distinct if name not in gone}
    return there, len(missing)
