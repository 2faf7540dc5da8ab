"""``iqloop train judge``: what a critic's answers are worth, measured on pairs of which the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqloop.agents.evidence import Evidence
    from iqloop.agents.evidence_measure import Known
    from iqloop.recipes.train.judge_chunks import Chunk, Runner

    Quarters = list[list[Any]]
    """What was found on each part of the photographs."""

QUARTERS = 4
"""Of the photographs. What was learned on one is asked about another: about those it was learned on it is too sure."""
GLANCES, LOOKS, TRIES, HELD_OUT = (4, 400), (4, 100), (8, 200), (8, 300)
"""Chunks of each part (of each quarter, each quarter, each half, all), and what is added to the seed for the first."""
NEXT = 10
"""Added for the next quarter; for the second half as for the third quarter."""


@click.command("judge")
@options.clean_photos
@click.option("--held-out", type=click.Path(path_type=Path), help="Folder of other ones, to measure on.")
@click.option("--glances", type=click.IntRange(1), default=8000, show_default=True, help="Crops to measure, unasked.")
@click.option("--looks", type=click.IntRange(1), default=800, show_default=True, help="Crops to look at.")
@click.option("--count", type=click.IntRange(1), default=240, show_default=True, help="Crops to try tools on.")
@click.option("--held-out-count", type=click.IntRange(1), default=48, show_default=True, help="Crops to measure on.")
@click.option("--side", type=click.IntRange(64), default=384, show_default=True, help="Side of the crops in pixels.")
@click.option("--pairs", type=click.Path(path_type=Path, dir_okay=False), help="Write each pair as JSON Lines too.")
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
    glances: int,
    looks: int,
    count: int,
    held_out_count: int,
    side: int,
    pairs: Path | None,
    files: tuple[str, ...],
    out: Path,
    overwrite: bool,
    workers: int,
    threads: int | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure what this critic's answers are worth to the loop, with the tools that it tries first.

    Photographs are damaged, mended, and compared with the clean originals; four logistic regressions for each
    degradation are fitted: is it there, by the pixels alone and by all that is known, will its tool help, and is the
    output better? Each trusts the one before it as far as that is right about photographs that it was not learned on.
    On one core a thirtieth of a second a glance, two thirds a look and 12 s a crop with tools. --pairs
    writes for each pair what was gained (dB), the chance given by pairs of the other half of the photographs, and
    whether it is a held-out one: what thresholds are chosen by. The table tells how often pairs that differ by more
    than 0.5 dB are decided rightly, by the probabilities that the loop asks for and by even odds.
    """
    from iqloop.agents.evidence import as_document
    from iqloop.agents.evidence_measure import agreement, fit, fit_presence, fit_traces
    from iqloop.io import write_bytes_atomic
    from iqloop.io.files import refuse_existing
    from iqloop.recipes.train.judge_chunks import Setup, cut, runner

    for file in (out, pairs):
        if file is not None:
            refuse_existing(file, overwrite)
    setup = Setup(choice, files, side, threads or (1 if workers > 1 else None))
    with runner(setup, workers) as (site, work):

        def of_quarters(
            job: str, count: int, part: tuple[int, int], known: Sequence[dict[str, Any] | None]
        ) -> Quarters:
            found: Quarters = []
            for quarter, document in enumerate(known):
                some = count // QUARTERS + (quarter < count % QUARTERS)
                seed = choice.seed + part[1] + quarter * NEXT
                chunks = cut(photos, some, part[0], seed, document, (quarter, QUARTERS))
                found.append(_all(work, job, chunks, f"{job}, {quarter + 1} of {QUARTERS}", console))
            return found

        measured = of_quarters("glance", glances, GLANCES, [None] * QUARTERS)
        traces = [fit_traces(some, site.critic, {}) for some in measured]
        # Quarters 0 and 2 are one half, 1 and 3 the other: a look is weighed by what the rest of its half taught.
        others = [as_document(traces[(quarter + 2) % QUARTERS]) for quarter in range(QUARTERS)]
        seen = of_quarters("look", looks, LOOKS, others)
        whole = fit_presence([*chain(*seen)], fit_traces([*chain(*measured)], site.critic, {}))
        learned: Quarters = []
        for half in range(2):
            other = 1 - half
            known = fit_traces(measured[other] + measured[other + 2], site.critic, {})
            taught = as_document(fit_presence(seen[other] + seen[other + 2], known))
            some = count // 2 + (half < count % 2)
            chunks = cut(photos, some, TRIES[0], choice.seed + TRIES[1] + 2 * half * NEXT, taught, (half, 2))
            learned.append(_all(work, "attempt", chunks, f"trying, half {half + 1} of 2", console))
        both = learned[0] + learned[1]
        origin = {
            "source": "iqloop train judge",
            "tools": {treatment: f"{tool.info.name} {tool.info.version}" for treatment, tool in site.tools.items()},
            "glances": sum(map(len, measured)),
            "looks": sum(map(len, seen)),
            "pairs": len(both),
            "note": f"{glances} crops of {side} px measured, {looks} looked at, {count} to try tools on, "
            f"seed {choice.seed}",
        }
        evidence = fit(both, replace(whole, origin=origin))
        if not evidence.verdict:
            raise UsageError(f"expected pairs, some better and some worse, got {len(both)}: raise --count")
        tested: list[Any] = []
        if held_out is not None:
            chunks = cut(held_out, held_out_count, HELD_OUT[0], choice.seed + HELD_OUT[1], as_document(whole))
            tested = _all(work, "attempt", chunks, "measuring", console)
    if pairs is not None:
        crossed = [fit(learned[1 - half], whole) for half in range(2)]
        rows = [_row(one, crossed[half], False) for half in range(2) for one in learned[half]]
        rows += [_row(one, evidence, True) for one in tested]
        write_bytes_atomic(pairs, "".join(json.dumps(row) + "\n" for row in rows).encode(), overwrite=overwrite)
    text = json.dumps(as_document(evidence), indent=1) + "\n"
    write_bytes_atomic(out, text.encode(), overwrite=overwrite)
    with console.table("treatment", "right", "at even odds", "of pairs"):
        for name, (right, even, number) in agreement(tested or both, evidence).items():
            told = {"treatment": name, "agreement": right, "at_even_odds": even, "pairs": number}
            console.row(told, name, f"{right:.3f}", f"{even:.3f}", number)
    console.line(f"{out}: {len(both)} pairs; agreement on {'held-out' if tested else 'the same'} pairs over 0.5 dB")
    return failures.DONE


def _row(one: Known, evidence: Evidence, held_out: bool) -> dict[str, Any]:
    verdict = evidence.verdict.get(one.treatment)
    chance = None if verdict is None else round(verdict.probability(one.both), 4)
    return {
        "treatment": one.treatment,
        "folds": one.folds,
        "gain": round(one.gain, 3),
        "chance": chance,
        "held_out": held_out,
    }


def _all(work: Runner, job: str, chunks: Sequence[Chunk], what: str, console: Console) -> list[Any]:
    found: list[Any] = []
    with console.progress(len(chunks), what) as progress:
        for number, part in enumerate(work(job, chunks)):
            found += part
            console.detail(f"{what}: {number + 1} of {len(chunks)}")
            progress.advance()
    return found
