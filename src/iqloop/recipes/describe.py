"""``iqloop describe``: every image's quality in words."""

from __future__ import annotations

from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Filter, Input


def describe_fields(source: Input, description: str) -> dict[str, Any]:
    """The line of ``--json``."""
    return {"path": source.shown, "description": description}


@click.command("describe")
@options.inputs()
@options.filtered
@options.ask_critic()
@options.talk
def command(inputs: tuple[str, ...], chosen: Filter, choice: options.CriticChoice, console: Console) -> int:
    """Describe the quality of images in words.

    FILE_OR_FOLDER may be - for one image on standard input.
    """
    from iqloop.recipes.inputs import ask_in_batches, gather
    from iqloop.recipes.loading import load_critic

    sources = gather(inputs, stream=True, chosen=chosen)
    critic = load_critic(choice, needs=("describe",))
    with console.table("path", "description"), console.progress(len(sources), "describing") as progress:
        for source, found in ask_in_batches(sources, critic.describe, choice.batch_size, console):
            if isinstance(found, Exception):
                console.fail(source.shown, found)
            else:
                console.row(describe_fields(source, found), source.shown, found)
            progress.advance()
    return failures.SOME_FAILED if console.failed else failures.DONE
