"""``iqloop train judge``: what a critic's answers are worth, measured on pairs of which the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqloop.recipes.train.judge_chunks import Chunk, Runner

LOOKS, TRIES, HELD_OUT = (4, 100), (8, 200), (8, 300)
"""Chunks of each part (the first two: of each half of the photographs), and what is added to the seed for the first."""
SECOND = 50
"""Added for the second half."""


@click.command("judge")
@options.clean_photos
@click.option("--held-out", type=click.Path(path_type=Path), help="Folder of other ones, to measure on.")
@click.option("--looks", type=click.IntRange(1), default=800, show_default=True, help="Crops to look at.")
@click.option("--count", type=click.IntRange(1), default=240, show_default=True, help="Crops to try tools on.")
@click.option("--held-out-count", type=click.IntRange(1), default=48, show_default=True, help="Crops to measure on.")
@click.option("--side", type=click.IntRange(64), default=384, show_default=True, help="Side of the crops in pixels.")
@options.model_files
@options.result_file("The weights as JSON, for  iqloop restore --judge.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; the result is the same."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of each.  [default: 1 with several workers]")
@options.ask_critic(batched=False)
@options.talk
def command(
    photos: Path | None,
    held_out: Path | None,
    looks: int,
    count: int,
    held_out_count: int,
    side: int,
    files: tuple[str, ...],
    out: Path,
    overwrite: bool,
    workers: int,
    threads: int | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure what this critic's answers are worth to the loop, with the tools that it tries first.

    Photographs are damaged, mended, and compared with the clean originals; three logistic regressions for each
    degradation are fitted: is it there, will its tool help, and is the output better? What the first says of a
    photograph on which tools are tried comes from the other half of the photographs, or the last two would trust it
    too much. On one core half a second a look and 6 s a crop with tools.
    """
    from iqloop.agents.evidence import as_document
    from iqloop.agents.evidence_measure import agreement, fit, fit_presence
    from iqloop.io import write_bytes_atomic
    from iqloop.io.files import refuse_existing
    from iqloop.recipes.train.judge_chunks import Setup, cut, runner

    refuse_existing(out, overwrite)
    setup = Setup(choice, files, side, threads or (1 if workers > 1 else None))
    with runner(setup, workers) as (site, work):
        halves: list[list[Any]] = []
        for half, some in enumerate((looks - looks // 2, looks // 2)):
            chunks = cut(photos, some, LOOKS[0], choice.seed + LOOKS[1] + half * SECOND, half=half)
            halves.append(_all(work, "look", chunks, "looking", console))
        seen = halves[0] + halves[1]
        presence = fit_presence(seen, site.critic, {})
        learned: list[Any] = []
        for half, some in enumerate((count - count // 2, count // 2)):
            other = as_document(fit_presence(halves[1 - half], site.critic, {}))
            chunks = cut(photos, some, TRIES[0], choice.seed + TRIES[1] + half * SECOND, other, half)
            learned += _all(work, "attempt", chunks, "trying", console)
        origin = {
            "source": "iqloop train judge",
            "tools": {treatment: f"{tool.info.name} {tool.info.version}" for treatment, tool in site.tools.items()},
            "looks": len(seen),
            "pairs": len(learned),
            "note": f"{looks} crops of {side} px to look at, {count} to try tools on, seed {choice.seed}",
        }
        evidence = fit(learned, replace(presence, origin=origin))
        if not evidence.verdict:
            raise UsageError(f"expected pairs, some better and some worse, got {len(learned)}: raise --count")
        tested = learned
        if held_out is not None:
            chunks = cut(held_out, held_out_count, HELD_OUT[0], choice.seed + HELD_OUT[1], as_document(presence))
            tested = _all(work, "attempt", chunks, "measuring", console)
    document = json.dumps(as_document(evidence), indent=1) + "\n"
    write_bytes_atomic(out, document.encode(), overwrite=overwrite)
    with console.table("treatment", "right", "of pairs"):
        for name, (share, pairs) in agreement(tested, evidence).items():
            console.row({"treatment": name, "agreement": share, "pairs": pairs}, name, f"{share:.3f}", pairs)
    console.line(
        f"{out}: {len(learned)} pairs; agreement on {'held-out' if held_out else 'the same'} pairs over 0.5 dB"
    )
    return failures.DONE


def _all(work: Runner, job: str, chunks: Sequence[Chunk], what: str, console: Console) -> list[Any]:
    found: list[Any] = []
    with console.progress(len(chunks), what) as progress:
        for part in work(job, chunks):
            found += part
            progress.advance()
    return found
