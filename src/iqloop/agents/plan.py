"""In which order to mend what is suspected. The prior is data: ``order.json`` beside this file, with its measured
origin."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import cache
from importlib import resources
from typing import Any, cast

from iqloop.agents.diagnosis import Suspect
from iqloop.errors import UsageError
from iqloop.restorers.tool import TREATMENTS, Treatment

Stages = tuple[tuple[Treatment, ...], ...]


@cache
def order_prior() -> dict[str, Any]:
    """The whole prior: ``version``, ``stages`` and their ``origin`` (sources and fail rates)."""
    text = resources.files("iqloop.agents").joinpath("order.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))


def default_stages() -> Stages:
    """Treatments in stages, first stage first; inside a stage the order is indifferent."""
    return tuple(tuple(cast(list[Treatment], stage)) for stage in order_prior()["stages"])


def check_treatments(names: Sequence[str], option: str) -> tuple[Treatment, ...]:
    """``names`` as treatments; raises `UsageError` naming ``option`` for an unknown or repeated one."""
    unknown = [name for name in names if name not in TREATMENTS]
    if unknown:
        raise UsageError(f"{option}: expected some of {', '.join(TREATMENTS)}, got {', '.join(unknown)}")
    if len(set(names)) != len(names):
        raise UsageError(f"{option}: each treatment may be named once, got {', '.join(names)}")
    return cast(tuple[Treatment, ...], tuple(names))


def make_plan(
    suspects: Sequence[Suspect],
    *,
    order: Sequence[Treatment] | None = None,
    only: Collection[Treatment] | None = None,
    exclude: Collection[Treatment] = (),
    stages: Stages | None = None,
) -> tuple[Suspect, ...]:
    """Suspects in the order in which to treat them.

    By default stage by stage, the worst first inside a stage. ``order`` (a user's plan) replaces the stages; what it
    does not name is left out. ``only`` keeps, ``exclude`` drops. ``low-resolution`` is never part of it: scale is
    asked for, not perceived.
    """
    if order is not None:
        rank = {treatment: place for place, treatment in enumerate(order)}
    else:
        rank = {t: place for place, stage in enumerate(stages or default_stages()) for t in stage}
    kept = [
        suspect
        for suspect in suspects
        if suspect.treatment in rank
        and suspect.treatment != "low-resolution"
        and suspect.treatment not in exclude
        and (only is None or suspect.treatment in only)
    ]
    return tuple(sorted(kept, key=lambda suspect: (rank[suspect.treatment], -suspect.severity)))
