"""``iqloop tools``: what can repair an image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.restorers.tool import ToolInfo


def list_tools(tools: Iterable[ToolInfo]) -> list[dict[str, Any]]:
    """What is known of each tool, as JSON types."""
    return [
        {
            "name": tool.name,
            "treats": list(tool.treats),
            "scale": tool.scale,
            "code_licence": tool.code_licence,
            "weights_licence": tool.weights_licence,
            "cost": tool.cost,
            "seeded": tool.seeded,
            "strength": tool.strength,
            "version": tool.version,
            "summary": tool.summary,
        }
        for tool in tools
    ]


@click.command("tools")
@options.model_files
@options.talk
def command(files: tuple[str, ...], console: Console) -> int:
    """List the restoration tools: what they treat, their scale, licences and cost.

    Cost is the order of magnitude on two CPU cores: light below 1, medium below 10, heavy above 10 seconds per output
    megapixel.
    """
    from iqloop.recipes.loading import load_registry

    with console.table("name", "treats", "scale", "code", "weights", "cost", "what"):
        for row in list_tools(load_registry(files)):
            treats, weights = ", ".join(row["treats"]), row["weights_licence"] or "none"
            console.row(
                row, row["name"], treats, row["scale"], row["code_licence"], weights, row["cost"], row["summary"]
            )
    return failures.DONE
