"""``iqloop restore``: the loop on files. Perceive, try, judge; keep only what is better, else the file as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.recipes import options
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Filter
from iqloop.recipes.scale.options import Spread, is_table, refuse_beside_ray, spreads

if TYPE_CHECKING:
    from iqloop.agents import Budget


def _list_of(name: str, text: str) -> Callable[[options.Command], options.Command]:
    return click.option(name, multiple=True, metavar="A,B", help=text)


@click.command("restore")
@options.inputs()
@options.writes("restored")
@options.filtered
@click.option("--scale", type=click.Choice(["1", "2", "4"]), default="1", show_default=True, help="Size of the output.")
@click.option(
    "--profile",
    type=click.Choice(["gentle", "balanced", "strong"]),
    default="balanced",
    show_default=True,
    help="From keeping what is there to perceived quality.",
)
@_list_of("--plan", "Try exactly these, in this order: noise, blur, compression, darken, or tools by name.")
@_list_of("--only", "Use none but these degradations and tools.")
@_list_of("--exclude", "Never use these degradations and tools.")
@options.model_files
@options.tiles
@click.option(
    "--search",
    default="greedy",
    show_default=True,
    metavar="greedy|beam:K|exhaustive|none",
    help="Go on from what is accepted, from the K best of a round, or try every order of the planned tools; none only "
    "looks.",
)
@click.option(
    "--order",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What to mend before what, as  iqloop train order  writes it.",
)
@click.option(
    "--judge",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What this critic's answers are worth, as  iqloop train judge  writes it.  [default: measured for the "
    "embedded critic; rules for any other]",
)
@click.option(
    "--trace", type=click.Path(path_type=Path), help="Write the run as JSON.  [default: OUT/.iqloop/NAME.json]"
)
@click.option("--keep-steps", is_flag=True, help="Keep the input and every output that was judged, beside the trace.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an interrupted run: skip files whose output and trace are there, belong to the same input, and "
    "were asked for with the same settings, budget, seed and critic.",
)
@click.option("--dry-run", is_flag=True, help="Only say what is wrong and what would be tried; write nothing.")
@options.metadata
@options.stamped
@options.cached
@options.budgeted
@click.option(
    "--total-time-limit",
    type=click.FloatRange(0),
    help="Seconds for the whole run: no image is begun after it, and the one under way gets what is left.",
)
@options.parallel
@spreads
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="With --engine ray, whose -o OUT.parquet has rows: where the restored images go.",
)
@options.ask_critic(batched=False)
@options.talk
def command(
    inputs: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    chosen: Filter,
    scale: str,
    profile: str,
    plan: tuple[str, ...],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    files: tuple[str, ...],
    tile: int | str | None,
    search: str,
    order: Path | None,
    judge: Path | None,
    trace: Path | None,
    keep_steps: bool,
    resume: bool,
    dry_run: bool,
    keep_metadata: bool,
    stamp: bool,
    cache: Path | None,
    budget: Budget,
    total_time_limit: float | None,
    workers: int | None,
    threads: int | None,
    spread: Spread,
    images: Path | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Restore photographs, keeping only what the critic finds better.

    A photograph that nothing improves is copied byte for byte. FILE_OR_FOLDER may be - for one image on standard input
    (with -o - or -o FILE). Folders are searched below, and -o FOLDER mirrors them; OUT/.iqloop/summary.jsonl then has
    a line for every image. Whatever interrupts a run with -o FOLDER, --resume finishes it. Exit codes: 0 done, 1 some
    files failed or were not begun in time, 2 wrong usage or a missing prerequisite, 3 no file improved.
    """
    from iqloop.agents import load_stages
    from iqloop.agents.evidence import load_evidence
    from iqloop.agents.settings import PROFILES
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.machine import on_gpu
    from iqloop.recipes.outputs import place
    from iqloop.recipes.restore.jobs import Manner, make_jobs
    from iqloop.recipes.restore.run import Run, look
    from iqloop.recipes.restore.site import Deadline, Setup

    deadline = Deadline(total_time_limit)
    settings = replace(
        PROFILES[profile],
        search=search,
        plan=options.words(plan),
        only=options.words(only),
        exclude=options.words(exclude) or (),
        order=None if order is None else load_stages(order),
    )
    evidence = None if judge is None else load_evidence(judge)
    manner = Manner(settings, budget, int(scale), choice.seed, keep_metadata, overwrite, resume, stamp, evidence)
    setup = Setup(manner, choice, files, tile, threads, cache, console.verbose, console.quiet)
    if spread.engine == "ray":
        from iqloop.recipes.scale.run import restore_all

        workers, threads = spread.workers or workers, threads or spread.cpus
        spread = replace(spread, out=out, resume=resume, overwrite=overwrite, workers=workers, cpus=threads)
        unfit = {
            "--trace": trace,
            "--dry-run": dry_run,
            "--total-time-limit": total_time_limit,
        }
        return restore_all(inputs, chosen, images, keep_steps, setup, refuse_beside_ray(spread, unfit), console)
    if images is not None or (out is not None and is_table(str(out))):
        raise click.UsageError("-o OUT.parquet and --images are for --engine ray: give -o FOLDER")
    sources = gather(inputs, stream=True, chosen=chosen, out=out)
    targets = place(sources, out, "restored")
    if targets[0].path is None:
        if console.json and not dry_run:
            raise click.UsageError("--json and -o - both want standard output: write the image to a file")
        console.stdout_taken = True
    jobs = make_jobs(sources, targets, trace, keep_steps)
    if resume and any(job.trace is None for job in jobs):
        raise click.UsageError("--resume needs traces: write to a folder with -o FOLDER, or give --trace FILE")
    if threads is None and len(jobs) > 1 and not on_gpu(choice.device):
        setup = replace(setup, threads=1)
    return look(jobs, setup, console) if dry_run else Run(jobs, setup, workers, deadline, console).all()
