"""``iqloop perceive``: what is wrong with every image, and how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, inputs, options
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Filter, Input
from iqloop.recipes.scale.options import Spread, writes_rows

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Degradation


def perceive_images(
    sources: Iterable[Input], critic: Critic, batch_size: int, console: Console
) -> Iterator[tuple[Input, Degradation | Exception]]:
    """What each image suffers from, in order; what could not be read or answered comes with its error."""
    from iqloop.critic.verdicts import Unparsed
    from iqloop.errors import CriticError

    for source, found in inputs.ask_in_batches(sources, critic.perceive, batch_size, console):
        if isinstance(found, Unparsed):
            yield source, CriticError(f"the critic's answer could not be read: {found.reason}")
        else:
            yield source, found


def perceive_fields(source: Input, found: Degradation) -> dict[str, Any]:
    """The line of ``--json``."""
    return {
        "path": source.shown,
        "distortion_class": found.distortion_class,
        "severity": found.severity,
        "probabilities": dict(found.probabilities),
        "reasoning": found.reasoning,
        "unparsed": found.unparsed,
    }


@click.command("perceive")
@options.inputs()
@options.filtered
@writes_rows
@options.ask_critic()
@options.talk
def command(
    inputs: tuple[str, ...], chosen: Filter, spread: Spread, choice: options.CriticChoice, console: Console
) -> int:
    """Name what is wrong with images, and how much.

    FILE_OR_FOLDER may be - for one image on standard input. Classes: noise, blur, compression, darken, null (nothing
    is wrong). Severities: slight, moderate, obvious, serious, catastrophic, null. With -o OUT.parquet FILE_OR_FOLDER
    may also be a .parquet file that lists images (columns path, or key and bytes).
    """
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.loading import load_critic

    if spread.wanted(inputs):
        from iqloop.recipes.scale.run import ask_all

        return ask_all("perceive", inputs, chosen, choice, spread, console)
    sources = gather(inputs, stream=True, chosen=chosen)
    critic = load_critic(choice, needs=("perceive",))
    reasoning = ""
    with (
        console.table("path", "class", "severity", "probability"),
        console.progress(len(sources), "perceiving") as progress,
    ):
        for source, found in perceive_images(sources, critic, choice.batch_size, console):
            if isinstance(found, Exception):
                console.fail(source.shown, found)
            else:
                chance = found.probabilities.get(found.distortion_class)
                shown = "" if chance is None else f"{chance:.2f}"
                fields = perceive_fields(source, found)
                console.row(fields, source.shown, found.distortion_class, found.severity, shown)
                reasoning = found.reasoning
            progress.advance()
    if len(sources) == 1 and reasoning and not console.quiet:
        console.line(reasoning)
    return failures.SOME_FAILED if console.failed else failures.DONE
