"""``iqloop train``: the models that ship with the toolkit, trained again."""

from __future__ import annotations

from pathlib import Path

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.train_mini import STAGES, MiniRun, Stage, run_stage

_DEFAULT = MiniRun(Path(), Path())


@click.group("train")
def command() -> None:
    """Train the embedded models."""


@command.command("mini")
@click.option("--stage", type=click.Choice([*STAGES, "all"]), default="all", show_default=True, help="What to run.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with photos/train and photos/val, and rated/*.csv if human scores are to be learned.",
)
@click.option(
    "--run", "run", type=click.Path(path_type=Path), required=True, help="Folder of the run: log, checkpoints, export."
)
@click.option("--vision-steps", type=click.IntRange(1), default=_DEFAULT.vision_steps, show_default=True)
@click.option("--warmstart-steps", type=click.IntRange(1), default=_DEFAULT.warmstart_steps, show_default=True)
@options.seeded
@click.option(
    "--fold",
    type=click.IntRange(-1, 4),
    default=_DEFAULT.fold,
    show_default=True,
    help="Every fifth rated photograph, starting at this one, is kept for measuring; -1 trains on all.",
)
@click.option("--workers", type=click.IntRange(0), default=_DEFAULT.workers, show_default=True, help="Data processes.")
@click.option("--threads", type=click.IntRange(1), default=_DEFAULT.threads, show_default=True, help="CPU threads.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def mini(
    ctx: click.Context,
    stage: str,
    data: Path,
    run: Path,
    vision_steps: int,
    warmstart_steps: int,
    seed: int,
    fold: int,
    workers: int,
    threads: int,
    verbose: bool,
) -> int:
    """Train qinsight-mini, the embedded critic, from nothing. Started again, it resumes from the run's folder."""
    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    settings = MiniRun(
        data,
        run,
        vision_steps=vision_steps,
        warmstart_steps=warmstart_steps,
        seed=seed,
        fold=None if fold < 0 else fold,
        workers=workers,
        threads=threads,
    )
    stages: tuple[Stage, ...] = STAGES if stage == "all" else tuple(name for name in STAGES if name == stage)
    for name in stages:
        run_stage(name, settings, console.line)
    return failures.DONE
