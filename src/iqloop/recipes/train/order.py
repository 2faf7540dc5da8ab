"""``iqloop train order``: the order prior of the loop, measured anew from the tools at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.agents.order_measure import Bytes


@click.command("order")
@options.clean_photos
@click.option("--count", type=click.IntRange(1), help="Photographs at most, the first by name.  [default: all]")
@click.option("--side", type=click.IntRange(32), default=256, show_default=True, help="Middle pixels taken of each.")
@options.model_files
@options.on_device
@options.seeded
@options.result_file("The order as JSON, for  iqloop restore --order.")
@options.talk
def command(
    photos: Path | None,
    count: int | None,
    side: int,
    files: tuple[str, ...],
    device: str | None,
    seed: int,
    out: Path,
    overwrite: bool,
    console: Console,
) -> int:
    """Measure in which order to mend two degradations: both orders on damaged photographs, against the clean ones.

    For each degradation the tool is used that  iqloop restore  tries first.
    """
    from iqloop.agents.diagnosis import PERCEIVED, UNKNOWN_SEVERITY
    from iqloop.agents.order_measure import Trial, as_document, fail_rates, run_trials
    from iqloop.agents.toolbox import choose_tools
    from iqloop.io import write_bytes_atomic
    from iqloop.io.files import refuse_existing
    from iqloop.recipes.bench.tools import photographs
    from iqloop.recipes.loading import load_registry

    refuse_existing(out, overwrite)
    registry = load_registry(files, device, console.notice, "auto")
    entries = {treatment: choose_tools(registry, treatment, UNKNOWN_SEVERITY, 1) for treatment in PERCEIVED}
    tools = {treatment: found[0].load() for treatment, found in entries.items() if found}
    readers = photographs(photos, count)
    pairs = len(tools) * (len(tools) - 1) // 2
    if not pairs:
        raise UsageError(f"expected tools for at least two of {', '.join(PERCEIVED)}, found {len(tools)}")

    def middles() -> Iterator[Bytes]:
        for read in readers:
            image = read()
            top, left = (max(0, (extent - side) // 2) for extent in image.shape[:2])
            yield image[top : top + side, left : left + side].copy()

    with console.progress(len(readers) * pairs, "measuring") as progress:

        def tell(trial: Trial) -> None:
            console.detail(f"{trial.first}, {trial.then}: {trial.gain:+.2f} dB; reversed {trial.reversed_gain:+.2f} dB")
            progress.advance()

        trials = run_trials(middles(), tools, seed, tell)
    rates = fail_rates(trials)
    note = f"{len(readers)} photographs, middles of {side} px, severities drawn with seed {seed}"
    document = as_document(rates, tools, note)
    write_bytes_atomic(out, (json.dumps(document, indent=2) + "\n").encode(), overwrite=overwrite)
    with console.table("first", "then", "fails", "reversed", "dB"):
        for pair in rates:
            fields = {"first": pair.first, "then": pair.then, "rate": pair.rate, "reversed": pair.reversed}
            cells = (pair.first, pair.then, f"{pair.rate:.2f}", f"{pair.reversed:.2f}", f"{pair.advantage:+.2f}")
            console.row(fields | {"advantage_db": pair.advantage, "count": pair.count}, *cells)
    stages = [", ".join(stage) for stage in document["stages"]]
    console.line(f"{out}: {' -> '.join(stages)}")
    return failures.DONE
