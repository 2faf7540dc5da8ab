"""``iqloop tools``: what can repair an image, and adding model files to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.restorers.registry import Registry
    from iqloop.restorers.tool import ToolInfo


def list_tools(tools: Iterable[ToolInfo], origins: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """What is known of each tool, as JSON types.

    Args:
        tools: of a registry.
        origins: where weights come from, by the tool's name (`weights_from`).
    """
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
            "from": (origins or {}).get(tool.name),
        }
        for tool in tools
    ]


def weights_from(registry: Registry, files: Sequence[str] = ()) -> dict[str, str]:
    """Where the weights of each tool come from, by name.

    ``no weights``, ``the package``, a repository or address, a file's path, or ``a plug-in``.

    Args:
        registry: of `iqloop.recipes.loading.load_registry`.
        files: with which it was made; their tools are its last.
    """
    from iqloop.restorers.registry import builtin_entries, parse_file
    from iqloop.restorers.user_tools import origins

    packaged = {entry.info.name: "the package" for entry in builtin_entries()}
    named = registry.names()[len(registry) - len(files) :]
    given = {name: str(parse_file(text)[2]) for name, text in zip(named, files, strict=True)}
    known = origins() | given | packaged
    return {
        tool.name: "no weights" if tool.weights_licence is None else known.get(tool.name, "a plug-in")
        for tool in registry
    }


@click.group("tools", invoke_without_command=True)
@options.model_files
@options.talk
def command(files: tuple[str, ...], console: Console) -> int:
    """List the restoration tools: what they treat, their scale, licences, cost, and where their weights come from.

    Cost is the order of magnitude on two CPU cores: light below 1, medium below 10, heavy above 10 seconds per output
    megapixel.
    """
    from iqloop.recipes.loading import load_registry
    from iqloop.restorers.public import PUBLIC

    if click.get_current_context().invoked_subcommand is not None:
        if files or console.json:
            raise click.UsageError("options of add and remove stand after these words")
        return failures.DONE
    registry = load_registry(files)
    with console.table("name", "treats", "scale", "code", "weights", "cost", "from", "what"):
        for row in list_tools(registry, weights_from(registry, files)):
            treats, weights = ", ".join(row["treats"]), row["weights_licence"] or "none"
            cells = (row["scale"], row["code_licence"], weights, row["cost"], row["from"], row["summary"])
            console.row(row, row["name"], treats, *cells)
    more = sum(name not in registry for name in PUBLIC)
    if more and not console.json:
        console.notice(f"{more} more by  iqloop models pull NAME, see  iqloop models list")
    return failures.DONE


@command.command("add")
@click.argument("text", metavar="[NAME[:TREATMENT+...]=]FILE")
@click.option("--licence", metavar="SPDX", help="Of the weights.  [default: what the file says, or unknown]")
@options.talk
def add(text: str, licence: str | None, console: Console) -> int:
    """Remember a model file as a tool, for every command from now on.

    FILE is a .safetensors or .pth of any architecture that spandrel knows; it is loaded once to see that it is, and
    stays where it is. TREATMENT is noise, blur, compression, darken or low-resolution; what it treats follows from the
    file otherwise.
    """
    from iqloop.recipes.loading import hushed
    from iqloop.restorers.user_tools import list_file, remember

    with hushed():
        own = remember(text, licence)
    (row,) = list_tools([own.info], {own.name: own.path})
    console.fields(row | {"sha256": own.sha256})
    console.line(f"{own.name}: {own.summary}; treats {', '.join(own.treats)}, weights {own.weights_licence}")
    console.line(f"remembered in {list_file()}")
    return failures.DONE


@command.command("remove")
@click.argument("name")
@options.talk
def remove(name: str, console: Console) -> int:
    """Forget a tool that was added; its file stays."""
    from iqloop.restorers.user_tools import forget

    own = forget(name)
    console.fields({"name": own.name, "file": own.path})
    console.line(f"{own.name} is forgotten; {own.path} stays")
    return failures.DONE
