"""``iqloop rank``: images from best to worst."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.agents.ranking import By
    from iqloop.critic.protocol import Critic


@click.command("rank")
@options.inputs(required=False)
@click.option("--reference", type=click.Path(), metavar="FILE", help="The degraded image that all are restorations of.")
@click.option(
    "--by",
    type=click.Choice(["score", "comparison", "hybrid"]),
    help="Scores; comparisons, each in both orders; or scores, and comparisons where these are near ties.  [default: "
    "hybrid if the critic compares, else score]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help="Only the K best, and comparisons go into finding them; 1 by comparison is a knockout.",
)
@click.option(
    "--max-comparisons",
    type=click.IntRange(0),
    metavar="N",
    help="Comparisons at most, per group.  [default: at most n log2 n for n images]",
)
@click.option(
    "--groups",
    "grouping",
    metavar="folder|CSV",
    help="Rank several groups, each on its own: the images of each folder, or those of a table with the columns file, "
    "group and perhaps reference.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Draw a contact sheet, one page that holds it all."
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    metavar="RESULT.jsonl",
    help="Write each group here as it is finished: a JSON line with places and comparisons.",
)
@click.option("--resume", is_flag=True, help="Go on with -o: rank the groups that are missing there or have changed.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@options.ask_critic(decoding=True)
@options.talk
def command(
    inputs: tuple[str, ...],
    reference: str | None,
    by: str | None,
    top: int | None,
    max_comparisons: int | None,
    grouping: str | None,
    html: Path | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Order images from best to worst.

    They may differ in size and format; - is one on standard input. Strength is a log-odds scale of mean 0 (by score:
    the score), with its standard error. What cannot be read is named, and the others are ranked; copies share a rank.
    """
    from iqloop.recipes.loading import load_critic
    from iqloop.recipes.outputs import Target
    from iqloop.recipes.rank.groups import find_groups
    from iqloop.recipes.rank.journal import Journal
    from iqloop.recipes.rank.loop import rank_groups
    from iqloop.recipes.rank.result import totals
    from iqloop.recipes.rank.run import Manner
    from iqloop.recipes.rank.tell import columns, tell

    groups = find_groups(inputs, grouping, reference)
    if html is not None:
        Target(html, None).check(overwrite)
    journal = Journal(out, resume, overwrite)
    critic = load_critic(choice, ("score", "compare") if by == "comparison" else ("score",))
    manner = Manner(settle(cast("By | None", by), critic, console), top, max_comparisons, choice.seed)
    if manner.by == "score":
        manner = Manner("score", seed=choice.seed)  # every image has its score, however many are shown
        if any(group.reference for group in groups):
            console.notice("scores take no reference: it is not shown to the critic")
    ranked = []
    with console.table(*columns(groups)):
        for group, result in rank_groups(groups, critic, manner, choice.batch_size, journal, console):
            tell(result, top, console)
            ranked.append((group, result))
    if any(result.by != "score" for _, result in ranked):
        console.notice(totals([result for _, result in ranked]))
    if html is not None:
        from iqloop.io import write_bytes_atomic
        from iqloop.recipes.rank.page import draw_page

        write_bytes_atomic(html, draw_page(ranked, top).encode(), overwrite)
    return failures.SOME_FAILED if console.failed else failures.DONE


def settle(by: By | None, critic: Critic, console: Console) -> By:
    """How to rank, with a notice where that was not asked for."""
    able = "compare" in critic.capabilities
    if by == "score" or (by is not None and able):
        return by
    found: By = "hybrid" if able else "score"
    console.notice(f"by {found}: the critic {critic.name} {'compares' if able else 'cannot compare'}")
    return found
