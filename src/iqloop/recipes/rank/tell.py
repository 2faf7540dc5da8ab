"""Results of ranking for a terminal, and as the lines of ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iqloop.recipes.console import Console
from iqloop.recipes.rank.groups import Group
from iqloop.recipes.rank.result import Place, Result, totals


def columns(groups: Sequence[Group]) -> tuple[str, ...]:
    """The head of the table."""
    first = () if groups[0].name is None else ("group",)
    return (*first, "rank", "strength", "\N{PLUS-MINUS SIGN}", "score", "path")


def tell(result: Result, top: int | None, console: Console) -> None:
    """Rows of at most ``top`` places; then what failed, and what is to be known."""
    for place in result.ranked[:top]:
        figures = map(_figure, (place.strength, place.standard_error, place.score))
        console.row(rank_fields(place, result), *_cell(result.group), place.rank, *figures, place.path)
    where = "" if result.group is None else f"{result.group}: "
    for place in result.ranked:
        if place.copy_of is not None:
            console.notice(f"{where}{place.path} is a copy of {place.copy_of} and shares its rank")
    for place in result.failed:
        group = {} if result.group is None else {"group": result.group}
        console.fail(place.path, place.error or "it could not be judged", rank=None, strength=None, **group)
    if result.note:
        console.notice(f"{where}{result.note}")
    if len(result.ranked) == 1 and result.by != "score":
        console.notice(f"{where}only one image is ranked, there is nothing to tell it from")
    if result.group is not None:
        console.detail(f"{where}{totals([result])}")


def rank_fields(place: Place, result: Result) -> dict[str, Any]:
    """The line of ``--json``."""
    return {
        "path": place.path,
        "rank": place.rank,
        "strength": place.strength,
        "error": place.error,
        "standard_error": place.standard_error,
        "score": place.score,
        "group": result.group,
        "comparisons": place.comparisons,
    }


def _cell(group: str | None) -> tuple[str, ...]:
    """The column of the group, where there are groups."""
    return () if group is None else (group,)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
