"""``iqloop bench all``: how fast everything is, in one run, as ratios to what others have, and how it grows.

rounds, figures  measuring in turn; what is found, as data
against_loop, against_metrics, against_nets, agent, ranking, start_up, folder, memory, growth  the parts
run              how much of each, one after the other
page, plot       the page and its pictures
"""

from __future__ import annotations

import io
import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.recipes.bench.speed.figures import Report

PAGE, FIGURES, COST, GROWTH = "speed.md", "speed.json", "speed-cost.png", "speed-growth.png"


@click.command("all")
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help=f"Write {PAGE}, {FIGURES}, {COST} and {GROWTH} here; replaced if they exist.",
)
@click.option("--quick", is_flag=True, help="Small images and few of them: shows that it works, not how fast it is.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: as many as cores]")
@click.option("--repeats", type=click.IntRange(1), metavar="N", help="Rounds.  [default: 5; 1 with --quick]")
@options.ask_critic()
@options.talk
def command(
    out: Path,
    quick: bool,
    threads: int | None,
    repeats: int | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """How fast everything is on this machine, in one run: medians with intervals, ratios, growth.

    The critic's modes beside the plain loop of the published demos, metric calls beside pyiqa's (where it is
    installed), the tools beside OpenCV's and the public DnCNN, the loop, ranking, start-up, a folder of 1,000 files,
    memory, and how they grow with size and number. Takes ten minutes or more; nothing else should run meanwhile.
    """
    from iqloop.recipes.bench.speed.page import page
    from iqloop.recipes.bench.speed.run import FULL, PARTS, QUICK, measure
    from iqloop.recipes.bench.tools import use_threads
    from iqloop.recipes.machine import cores
    from iqloop.recipes.outputs import Target

    for name in (PAGE, FIGURES, COST, GROWTH):
        Target(out / name, None).check(overwrite=True)
    used = threads or cores()
    use_threads(used)
    extent = QUICK if quick else FULL
    extent = extent if repeats is None else replace(extent, rounds=repeats)
    with console.progress(len(PARTS), "measuring") as progress:

        def done(name: str) -> None:
            console.detail(f"measured: {name}")
            progress.advance()

        report = measure(choice, extent, used, done)
    text = page(report, _command_line(quick, used, repeats, choice), (COST, GROWTH))
    found = asdict(report)
    found["targets"] = [{**asdict(target), "met": target.met} for target in report.targets]
    console.fields(found)
    for line in text.splitlines():
        console.line(line)
    _write(out, report, found, text)
    return failures.DONE


def _write(out: Path, report: Report, found: dict[str, Any], text: str) -> None:
    from iqloop.io import write_bytes_atomic
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.speed.plot import cost_plot, growth_plot

    out.mkdir(parents=True, exist_ok=True)
    write_page(out / PAGE, text)
    write_bytes_atomic(out / FIGURES, json.dumps(found, indent=1, allow_nan=False).encode(), overwrite=True)
    for name, figure in ((COST, cost_plot(report.parts)), (GROWTH, growth_plot(report.curves))):
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=120)
        write_bytes_atomic(out / name, drawn.getvalue(), overwrite=True)


def _command_line(quick: bool, threads: int, repeats: int | None, choice: options.CriticChoice) -> str:
    """The command that measures this; folders by their last name."""
    flags: list[tuple[str, object]] = [
        ("--threads", threads),
        ("--repeats", repeats),
        ("--critic", Path(choice.name).name),
        ("--device", choice.device),
        ("--dtype", choice.dtype),
    ]
    words = [str(word) for name, value in flags if value is not None for word in (name, value)]
    return shlex.join(["iqloop", "bench", "all", "-o", "FOLDER", *(["--quick"] if quick else []), *words])
