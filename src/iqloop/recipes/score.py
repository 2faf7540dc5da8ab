"""``iqloop score``: a number for every image."""

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
    from iqloop.critic.verdicts import Rating


def score_images(
    sources: Iterable[Input], critic: Critic, batch_size: int, console: Console
) -> Iterator[tuple[Input, Rating | Exception]]:
    """The rating of each image, in order; what could not be read or rated comes with its error."""
    from iqloop.critic.verdicts import Unparsed
    from iqloop.errors import CriticError

    for source, found in inputs.ask_in_batches(sources, critic.score, batch_size, console):
        if isinstance(found, Unparsed):
            yield source, CriticError(f"the critic's answer could not be read: {found.reason}")
        else:
            yield source, found


def score_fields(source: Input, rating: Rating, critic: Critic) -> dict[str, Any]:
    """The line of ``--json``."""
    return {
        "path": source.shown,
        "score": rating.mean,
        "std": rating.std,
        "metric": critic.name,
        "lower_better": critic.lower_better,
        "range": list(critic.score_range),
        "digit_mass": rating.digit_mass,
        "unparsed": rating.unparsed,
        "answers": list(rating.answers),
    }


@click.command("score")
@options.inputs()
@options.filtered
@writes_rows
@options.ask_critic(decoding=True)
@options.talk
def command(
    inputs: tuple[str, ...], chosen: Filter, spread: Spread, choice: options.CriticChoice, console: Console
) -> int:
    """Score images with a critic.

    FILE_OR_FOLDER may be - for one image on standard input. Prints the mean and the standard deviation of the critic's
    rating (with --samples, of its written answers); a file that cannot be read is named on standard error, and the
    others go on. With -o OUT.parquet it may also be a .parquet file that lists images (columns path, or key and bytes).
    """
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.loading import load_critic

    if spread.wanted(inputs):
        from iqloop.recipes.scale.run import ask_all

        return ask_all("score", inputs, chosen, choice, spread, console)
    sources = gather(inputs, stream=True, chosen=chosen)
    critic = load_critic(choice)
    with console.table("path", "score", "std"), console.progress(len(sources), "scoring") as progress:
        for source, found in score_images(sources, critic, choice.batch_size, console):
            if isinstance(found, Exception):
                console.fail(source.shown, found)
            else:
                fields = score_fields(source, found, critic)
                console.row(fields, source.shown, f"{found.mean:.3f}", f"{found.std:.3f}")
            progress.advance()
    return failures.SOME_FAILED if console.failed else failures.DONE
