"""Ranking one group after the other; what an earlier run has finished is taken from its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from iqloop.errors import ImageError, IqloopError
from iqloop.recipes.console import Console, Progress
from iqloop.recipes.rank.groups import Group
from iqloop.recipes.rank.journal import Journal, asked_of
from iqloop.recipes.rank.result import Result
from iqloop.recipes.rank.run import Manner, rank_group

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic


def rank_groups(
    groups: Sequence[Group], critic: Critic, manner: Manner, batch_size: int, journal: Journal, console: Console
) -> Iterator[tuple[Group, Result]]:
    """Each group with its result; one that failed as a whole is named and left out.

    Raises what would befall every group: a critic that cannot do it, something that is missing.
    """
    before = 0
    with console.progress(len(groups), "ranking") as progress:
        for group in groups:
            # A file is hashed only where its hash is kept.
            asked = {} if journal.path is None else asked_of(group, critic, manner)
            result = journal.earlier(group, asked)
            if result is not None:
                before += 1
            else:
                if changes := journal.changed(group, asked):
                    console.notice(f"{group.shown}: ranked again, changed: {', '.join(changes)}")
                result = _attempt(group, critic, manner, batch_size, console, alone=len(groups) == 1)
                if result is not None:
                    journal.keep(result, asked)
            if result is not None:
                yield group, result
            progress.advance()
    if before:
        console.notice(f"ranked before: {before} of {len(groups)} groups")


def _attempt(
    group: Group, critic: Critic, manner: Manner, batch_size: int, console: Console, alone: bool
) -> Result | None:
    """The result, or None for a group that failed."""
    with ExitStack() as stack:
        # Several groups have a bar of their own already.
        told = Meter(console, stack) if alone else _silent
        try:
            return rank_group(group, critic, manner, batch_size, console, told)
        except ImageError as error:
            assert group.reference is not None, "other images that cannot be read have a place"
            console.fail(group.reference.shown, error)
        except IqloopError:
            raise
        except Exception as error:
            if alone:
                raise
            console.fail(group.shown, error)
    return None


class Meter:
    """A bar that is drawn when its length is known."""

    def __init__(self, console: Console, stack: ExitStack) -> None:
        self._console, self._stack = console, stack
        self._bar: Progress | None = None
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """Show ``done`` of at most ``total``."""
        if self._bar is None:
            self._bar = self._stack.enter_context(self._console.progress(total, "ranking"))
        self._bar.advance(done - self._done)
        self._done = done


def _silent(done: int, total: int) -> None:
    pass
