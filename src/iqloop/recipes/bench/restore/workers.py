"""The cases of ``iqloop bench restore`` in processes of their own: the same rows by any number of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from iqloop.recipes.bench.restore import mixtures as bench_mixtures
from iqloop.recipes.bench.restore.cases import Case, Wanted, cases
from iqloop.recipes.bench.restore.measure import measure
from iqloop.recipes.bench.tools import use_threads
from iqloop.recipes.console import plain, reason_for
from iqloop.recipes.loading import load_critic, load_registry
from iqloop.recipes.options import CriticChoice
from iqloop.recipes.waiting import sleep_soon

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic
    from iqloop.restorers.registry import Registry


@dataclass(frozen=True)
class Setup:
    """All that a process needs to know; it can be sent to another one."""

    wanted: Wanted
    threads: int
    tile: int | str | None
    files: tuple[str, ...]
    choice: CriticChoice


@dataclass(frozen=True)
class Site:
    """One process with tools, critic and cases."""

    wanted: Wanted
    registry: Registry
    critic: Critic
    cases: Sequence[Case]

    def each(self, keys: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
        """Each key with the answer to its case, or why there is none: one photograph must not end a measurement of
        hours."""
        by_key = {case.key: case for case in self.cases}
        for key in keys:
            try:
                found: dict[str, Any] = plain(measure(by_key[key], self.wanted, self.critic, self.registry))
            except Exception as error:
                yield key, error
            else:
                yield key, found


def open_site(setup: Setup) -> Site:
    """What another process works with."""
    use_threads(setup.threads)
    registry = load_registry(setup.files, setup.choice.device, tile=setup.tile)
    found = cases(setup.wanted, bench_mixtures.load(setup.wanted.mixtures))
    return Site(setup.wanted, registry, load_critic(setup.choice), found)


def measured(setup: Setup, keys: Sequence[str], workers: int) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """As `Site.each`, by so many processes; in the order in which they are done."""
    if not keys:  # a run that is resumed when all is done: no process need load anything
        return
    with get_context("spawn").Pool(min(workers, len(keys)), _open, (setup,)) as pool:
        yield from pool.imap_unordered(_measure, keys)


_SITE: list[Site] = []
"""Of a worker process."""


def _open(setup: Setup) -> None:
    sleep_soon()
    _SITE.append(open_site(setup))


def _measure(key: str) -> tuple[str, dict[str, Any] | str]:
    ((_, answer),) = _SITE[0].each([key])
    return key, reason_for(key, answer) if isinstance(answer, Exception) else answer
