"""``iqloop rank``: images from best to worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Input

if TYPE_CHECKING:
    from iqloop.agents.ranking import Ranked
    from iqloop.critic.verdicts import Rating


def rank_found(found: Sequence[tuple[Input, Rating | Exception]], lower_better: bool) -> list[tuple[Input, Ranked]]:
    """Best first; equal scores share a rank. What has no rating comes last, with the reason."""
    from iqloop.agents import rank_ratings
    from iqloop.critic.verdicts import Unparsed
    from iqloop.recipes.failures import reason_of

    ratings = [Unparsed("", reason_of(what)) if isinstance(what, Exception) else what for _, what in found]
    return [(found[place.index][0], place) for place in rank_ratings(ratings, lower_better)]


def rank_fields(source: Input, place: Ranked) -> dict[str, Any]:
    """The line of ``--json``."""
    return {"path": source.shown, "rank": place.rank, "strength": place.strength, "error": place.error}


@click.command("rank")
@options.inputs()
@click.option("--top", type=click.IntRange(1), metavar="K", help="Only the K best.")
@options.ask_critic(decoding=True)
@options.talk
def command(inputs: tuple[str, ...], top: int | None, choice: options.CriticChoice, console: Console) -> int:
    """Order images from best to worst, by the critic's score."""
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.loading import load_critic
    from iqloop.recipes.score import score_images

    sources = gather(inputs)
    critic = load_critic(choice)
    found: list[tuple[Input, Rating | Exception]] = []
    with console.progress(len(sources), "scoring") as progress:
        for pair in score_images(sources, critic, choice.batch_size, console):
            found.append(pair)
            progress.advance()
    errors = {source.shown: what for source, what in found if isinstance(what, Exception)}
    ranked = rank_found(found, critic.lower_better)
    placed = [(source, place) for source, place in ranked if place.rank is not None]
    with console.table("rank", "score", "path"):
        for source, place in placed[:top]:
            console.row(rank_fields(source, place), place.rank, f"{place.strength:.3f}", source.shown)
    for source, place in ranked:
        if place.rank is None:
            reason = errors.get(source.shown, place.error or "there is no score")
            console.fail(source.shown, reason, rank=None, strength=None)
    return failures.SOME_FAILED if console.failed else failures.DONE
