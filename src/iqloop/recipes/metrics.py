"""``iqloop metrics``: the critics that have a name, and which can be used at once."""

from __future__ import annotations

import math
from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console


def list_critics(pyiqa: bool = False) -> list[dict[str, Any]]:
    """Every critic with a name: iqloop's, plug-ins', and with ``pyiqa`` pyiqa's; none is loaded.

    Each has name, summary, range, lower_better, licence, at_hand, and how to get it if it is not at hand. None stands
    for what is not known before loading: a plug-in's range and direction, the open end of a range, pyiqa's weights.
    """
    from iqloop.critic.known import KNOWN, plugin_critics

    rows = []
    for name, known in KNOWN.items():
        how = how_to_get(known.source)
        direction = known.lower_better
        rows.append(
            _row(name, known.summary, list(known.score_range), direction, known.source.licence, how is None, how)
        )
    for name, plugin in plugin_critics().items():
        rows.append(_row(name, f"plug-in of {plugin.distribution}", None, None, plugin.licence, True, None))
    return rows + (pyiqa_rows() if pyiqa else [])


def pyiqa_rows() -> list[dict[str, Any]]:
    """pyiqa's metrics of single images without a reference, each as a critic ``pyiqa:NAME``.

    Raises `PrerequisiteError` when pyiqa is not installed.
    """
    from iqloop.critic.known import PYIQA
    from iqloop.critic.pyiqa_critic import LICENCE, default_configs, metric_names, parse_range

    configs = default_configs()
    rows = []
    for name in metric_names():
        ends = [end if math.isfinite(end) else None for end in parse_range(configs[name].get("score_range"))]
        lower_better = bool(configs[name].get("lower_better", False))
        rows.append(_row(PYIQA + name, "metric of pyiqa; the range is rough", ends, lower_better, LICENCE, None, None))
    return rows


def _row(
    name: str,
    summary: str,
    ends: list[Any] | None,
    lower_better: bool | None,
    licence: str,
    at_hand: bool | None,
    how: str | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary,
        "range": ends,
        "lower_better": lower_better,
        "licence": licence,
        "at_hand": at_hand,
        "how": how,
    }


def how_to_get(source: Any) -> str | None:
    """None when the checkpoint is on this machine; else the sentence that says how to get it. Fetches nothing."""
    # The lookup that loading itself does, so that this list never promises what loading refuses.
    from iqloop.critic.checkpoint import locate
    from iqloop.errors import IqloopError

    try:
        locate(source)
    except IqloopError as error:
        return str(error)
    return None


@click.command("metrics")
@click.option("--pyiqa", is_flag=True, help="List pyiqa's metrics too, which serve as critics by the name pyiqa:NAME.")
@options.talk
def command(pyiqa: bool, console: Console) -> int:
    """List the critics: range, direction, licence, and whether their weights are on this machine."""
    rows = list_critics(pyiqa)
    with console.table("name", "range", "better", "licence", "at hand", "what"):
        for row in rows:
            better = _said(row["lower_better"], "lower", "higher")
            at_hand = _said(row["at_hand"], "yes", "no")
            console.row(row, row["name"], _shown(row["range"]), better, row["licence"], at_hand, row["summary"])
    for row in rows:
        if row["how"] is not None and not console.json:
            console.notice(f"{row['name']}: {row['how']}")
    return failures.DONE


def _shown(ends: list[Any] | None) -> str:
    return "?" if ends is None else "..".join("" if end is None else f"{end:g}" for end in ends)


def _said(value: bool | None, yes: str, no: str) -> str:
    return "?" if value is None else yes if value else no
