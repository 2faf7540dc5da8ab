"""``iqloop metrics``: the critics that have a name, and which can be used at once."""

from __future__ import annotations

from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console


def list_critics() -> list[dict[str, Any]]:
    """Every known critic: name, summary, range, lower_better, licence, location, at_hand, and how to get it if not."""
    from iqloop.critic.known import KNOWN

    rows = []
    for name, known in KNOWN.items():
        how = how_to_get(known.source)
        rows.append(
            {
                "name": name,
                "summary": known.summary,
                "range": list(known.score_range),
                "lower_better": known.lower_better,
                "licence": known.source.licence,
                "at_hand": how is None,
                "how": how,
            }
        )
    return rows


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
@options.talk
def command(console: Console) -> int:
    """List the critics: range, direction, licence, and whether their weights are on this machine."""
    rows = list_critics()
    with console.table("name", "range", "better", "licence", "at hand", "what"):
        for row in rows:
            low, high = row["range"]
            better = "lower" if row["lower_better"] else "higher"
            at_hand = "yes" if row["at_hand"] else "no"
            console.row(row, row["name"], f"{low:g}..{high:g}", better, row["licence"], at_hand, row["summary"])
    for row in rows:
        if row["how"] is not None and not console.json:
            console.notice(f"{row['name']}: {row['how']}")
    return failures.DONE
