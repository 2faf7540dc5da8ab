"""``iqloop train judge``: what a critic's answers are worth, measured on pairs of which the truth is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.agents.evidence_measure import Bytes, Known
    from iqloop.recipes.bench_tools import Reader

SPREAD = 8
"""Crops start at multiples of so many pixels: JPEG's grid."""


@click.command("judge")
@click.option(
    "--photos", type=click.Path(path_type=Path), help="Folder of clean photographs.  [default: scikit-image's]"
)
@click.option("--held-out", type=click.Path(path_type=Path), help="Folder of other ones, to measure on.")
@click.option("--looks", type=click.IntRange(1), default=800, show_default=True, help="Crops to look at.")
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Crops to try tools on.")
@click.option("--held-out-count", type=click.IntRange(1), default=48, show_default=True, help="Crops to measure on.")
@click.option("--side", type=click.IntRange(64), default=384, show_default=True, help="Side of the crops in pixels.")
@options.model_files
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The weights as JSON, for  iqloop restore --judge.",
)
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
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
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure what this critic's answers are worth to the loop, with the tools that it tries first.

    Photographs are damaged, mended, and compared with the clean originals; three logistic regressions for each
    degradation are fitted: is it there, will its tool help, and is the output better? On one core half a second a look
    and 6 s a crop with tools.
    """
    from iqloop.agents.diagnosis import PERCEIVED, UNKNOWN_SEVERITY
    from iqloop.agents.evidence import as_document
    from iqloop.agents.evidence_measure import agreement, fit, fit_presence, gather, observe
    from iqloop.agents.toolbox import choose_tools
    from iqloop.io import write_bytes_atomic
    from iqloop.io.files import refuse_existing
    from iqloop.recipes.bench_tools import photographs
    from iqloop.recipes.loading import load_critic, load_registry

    refuse_existing(out, overwrite)
    registry = load_registry(files, choice.device, console.notice, "auto")
    entries = {treatment: choose_tools(registry, treatment, UNKNOWN_SEVERITY, 1) for treatment in PERCEIVED}
    tools = {treatment: found[0].load() for treatment, found in entries.items() if found}
    if not tools:
        raise UsageError(f"expected a tool for one of {', '.join(PERCEIVED)}, found none")
    critic = load_critic(choice, ("score", "perceive"))

    def known(readers: Sequence[Reader], crops: int, seed: int, what: str) -> list[Known]:
        with console.progress(crops, what) as progress:

            def tell(pairs: Sequence[Known]) -> None:
                console.detail(", ".join(f"{pair.treatment} {pair.gain:+.2f} dB" for pair in pairs))
                progress.advance()

            return gather(_crops(readers, crops, side, seed), tools, critic, presence, seed, tell)

    with console.progress(looks, "looking") as progress:
        # Other draws than those that tools are tried on.
        crops = _crops(photographs(photos), looks, side, choice.seed + 2)
        presence = fit_presence(observe(crops, critic, choice.seed + 2, progress.advance), critic, {})
    learned = known(photographs(photos), count, choice.seed, "trying")
    origin = {
        "source": "iqloop train judge",
        "tools": {treatment: f"{tool.info.name} {tool.info.version}" for treatment, tool in tools.items()},
        "looks": looks,
        "pairs": len(learned),
        "note": f"{count} crops of {side} px, seed {choice.seed}",
    }
    evidence = fit(learned, replace(presence, origin=origin))
    if not evidence.verdict:
        raise UsageError(f"expected pairs of which some are better and some worse, got {len(learned)}: raise --count")
    tested = learned
    if held_out is not None:
        tested = known(photographs(held_out), held_out_count, choice.seed + 1, "measuring")
    document = json.dumps(as_document(evidence), indent=1) + "\n"
    write_bytes_atomic(out, document.encode(), overwrite=overwrite)
    with console.table("treatment", "right", "of pairs"):
        for name, (share, pairs) in agreement(tested, evidence).items():
            console.row({"treatment": name, "agreement": share, "pairs": pairs}, name, f"{share:.3f}", pairs)
    console.line(
        f"{out}: {len(learned)} pairs; agreement on {'held-out' if held_out else 'the same'} pairs over 0.5 dB"
    )
    return failures.DONE


def _crops(readers: Sequence[Reader], count: int, side: int, seed: int) -> Iterator[Bytes]:
    """Random crops, one photograph after the other in a random order, each as often as it takes."""
    import numpy as np

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(readers))
    for i in range(count):
        image = readers[int(order[i % len(readers)])]()
        top, left = (int(rng.integers(max(1, extent - side + 1))) // SPREAD * SPREAD for extent in image.shape[:2])
        yield np.ascontiguousarray(image[top : top + side, left : left + side])
