"""Searches by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from iqloop.agents.beam import beam
from iqloop.agents.exhaustive import exhaustive
from iqloop.agents.greedy import greedy
from iqloop.agents.search import Search, Steps, Strategy
from iqloop.agents.settings import parse_search
from iqloop.critic.verdicts import Unparsed


def look_only(search: Search) -> Steps:
    """Perceive the input and change nothing."""
    perceived = search.perceive(search.original)
    yield from ()
    if isinstance(perceived, Unparsed):
        return "unparsed"
    search.plan(perceived, search.original)
    return "perceive-only"


_STRATEGIES: Mapping[str, Strategy] = {"greedy": greedy, "exhaustive": exhaustive, "none": look_only}


def strategy_of(name: str) -> Strategy:
    """``greedy``, ``beam:K``, ``exhaustive`` or ``none``. Raises `iqloop.errors.UsageError` for another name."""
    kind, width = parse_search(name)
    return partial(beam, width=width) if kind == "beam" else _STRATEGIES[kind]
