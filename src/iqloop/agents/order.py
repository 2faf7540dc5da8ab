"""The order prior: which degradation to mend before which. Data, with its measured origin (``order.json``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from iqloop.errors import UsageError
from iqloop.restorers.tool import TREATMENTS, Treatment

Stages = tuple[tuple[Treatment, ...], ...]
"""Treatments in stages, first stage first; inside a stage the order is indifferent."""


@cache
def order_prior() -> dict[str, Any]:
    """The package's prior: ``version``, ``stages`` and their ``origin`` (sources and fail rates)."""
    text = resources.files("iqloop.agents").joinpath("order.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))


def default_stages() -> Stages:
    """The stages of the package's prior."""
    return check_stages(order_prior()["stages"], "order.json")


def load_stages(path: Path) -> Stages:
    """The stages of a file such as ``iqloop train order`` writes. Raises `UsageError` for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected an order as  iqloop train order  writes it, got {error}") from error
    if not isinstance(document, dict) or "stages" not in document:
        raise UsageError(f"{path}: expected an order as  iqloop train order  writes it, with stages")
    return check_stages(document["stages"], str(path))


def check_stages(given: Any, name: str) -> Stages:
    """``given`` as stages. Raises `UsageError` naming ``name`` unless it lists lists of treatments, none twice."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise UsageError(f"{name}: expected stages as a list of lists of {', '.join(TREATMENTS)}, got {given!r}")
    seen: list[str] = []
    for stage in given:
        if not isinstance(stage, Sequence) or isinstance(stage, str):
            raise UsageError(f"{name}: expected each stage as a list of {', '.join(TREATMENTS)}, got {stage!r}")
        seen += stage
    wrong = [one for one in seen if one not in TREATMENTS or seen.count(one) > 1]
    if wrong or not seen:
        raise UsageError(f"{name}: expected each of {', '.join(TREATMENTS)} at most once, got {seen}")
    return tuple(tuple(cast(Sequence[Treatment], stage)) for stage in given)
