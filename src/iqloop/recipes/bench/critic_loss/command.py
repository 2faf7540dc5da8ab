"""``iqloop bench critic-loss``: what a critic as a loss does to a net, with its guards and without each of them.

One of the package's nets is trained further, always from the same weights on the same patches: without a critic, with
one behind all guards, without each guard in turn, and without any. Measured on photographs that trained nothing and
chose nothing: by the critic that was followed, by another, and by PSNR and SSIM.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.train.restorer_guidance import Wanted

if TYPE_CHECKING:
    from iqloop.recipes.bench.critic_loss.study import Study

TASKS = ("denoise", "dejpeg", "deblur", "upscale-x2", "upscale-x4")
"""Whose nets look at patches; that for dark photographs needs large ones."""
_PATH = click.Path(path_type=Path)


@click.command("critic-loss")
@click.option("--data", type=_PATH, required=True, help="Folder with photos/train and photos/val: clean photographs.")
@click.option("--run", "folder", type=_PATH, required=True, help="Folder of the runs; resumed from.")
@click.option(
    "--task", type=click.Choice(TASKS), default="upscale-x2", show_default=True, help="Whose net is trained further."
)
@click.option("--steps", type=click.IntRange(2), default=120, show_default=True, help="Of each variant.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Patches of a step.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=2e-4, show_default=True, help="Peak.")
@click.option(
    "--weight", type=click.FloatRange(0, min_open=True), default=0.02, show_default=True, help="Of the critic's loss."
)
@click.option("--cap", type=float, help="Score beyond which nothing is gained.  [default: that of clean patches]")
@click.option("--views", type=click.IntRange(1), default=1, show_default=True, help="Random views of a patch.")
@click.option("--every", type=click.IntRange(1), default=20, show_default=True, help="Steps between measurements.")
@click.option("--choose-on", type=click.IntRange(1), default=6, show_default=True, help="Held-out photographs for it.")
@click.option("--side", type=click.IntRange(64), default=192, show_default=True, help="Of their middles, in pixels.")
@click.option("--held-out-critic", default="nss-mini", show_default=True, metavar="NAME|FOLDER", help="Looks on.")
@click.option("-o", "--output", "out", type=_PATH, metavar="FILE.md", help="Write the page, and FILE.json.")
@click.option("--plot", type=_PATH, metavar="FILE.png", help="Draw the figures over the steps here.")
@click.option("--strip", type=_PATH, metavar="FILE.png", help="Show what the nets draw here.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@options.ask_critic(batched=False)
@options.talk
def command(
    data: Path,
    folder: Path,
    task: str,
    steps: int,
    batch: int,
    rate: float,
    weight: float,
    cap: float | None,
    views: int,
    every: int,
    choose_on: int,
    side: int,
    held_out_critic: str,
    out: Path | None,
    plot: Path | None,
    strip: Path | None,
    threads: int,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """What a critic as a loss does to a net, with its guards and without each of them.

    The net of the package is trained further by the photographs of DATA/photos/train, and measured on those of
    DATA/photos/val: by the critic that it followed, by one that it did not, by PSNR and SSIM.
    """
    from dataclasses import replace

    from iqloop.errors import UsageError
    from iqloop.recipes.bench.critic import machine
    from iqloop.recipes.bench.critic_loss import page as paper
    from iqloop.recipes.bench.critic_loss.study import VARIANTS, Study, photographs_cap, run
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.tools import check_outputs, use_threads
    from iqloop.recipes.loading import load_critic
    from iqloop.restorers.training.stream import load_photographs, side_of
    from iqloop.restorers.training.tasks import task_named
    from iqloop.restorers.training.train import MIDDLE, RestorerSettings

    for picture in (plot, strip):
        check_outputs(out, picture)
    use_threads(threads)
    known = task_named(task)
    critic, judge = load_critic(choice), load_critic(replace(choice, name=held_out_critic, more=()))
    photographs, _ = load_photographs([data / "photos/train"], side_of(known, known.patch))
    held_out, _ = load_photographs([data / "photos/val"], side_of(known, MIDDLE))
    if len(held_out) < choose_on + 2:
        raise UsageError(
            f"{data / 'photos/val'} has {len(held_out)} photographs: expected {choose_on} to choose by (--choose-on) "
            "and two to report on"
        )
    settings = RestorerSettings(
        steps=steps,
        batch=batch,
        rate=rate,
        seed=choice.seed,
        log_every=every,
        save_every=every,
        validate_every=every,
        validate_on=choose_on,
        validate_side=side,
    )
    study = Study(known, photographs, held_out, settings, critic, judge, Wanted(weight, cap, views), folder)
    if cap is None:
        study = study._replace(wanted=replace(study.wanted, cap=round(photographs_cap(study), 2)))
    found = run(study, VARIANTS, console)
    for row in found.rows:
        console.fields(asdict(row))
    summary = paper.summary(found, study)
    text = paper.page(found, study, summary, _command_line(study, data, every), machine(("torch",)))
    for line in text.splitlines():
        console.line(line)
    if out is not None:
        document = {"critic": critic.name, "held_out_critic": judge.name, "task": task, **asdict(study.wanted)}
        document |= {"settings": asdict(settings), "kept": found.kept, "figures": summary}
        write_page(out, text, document | {"rows": [asdict(row) for row in found.rows], "logs": found.logs})
    for place, draw in ((plot, paper.curves), (strip, paper.strip)):
        if place is not None:
            draw(found, study).savefig(place, dpi=120)
    return failures.DONE


def _command_line(study: Study, data: Path, every: int) -> str:
    """The command that measures this; folders by their last name."""
    import shlex

    settings, wanted = study.settings, study.wanted
    flags = {
        "--data": data.resolve().name,
        "--run": study.folder.name,
        "--task": study.task.name,
        "--steps": settings.steps,
        "--batch": settings.batch,
        "--rate": settings.rate,
        "--weight": wanted.weight,
        "--cap": wanted.cap,
        "--views": wanted.views,
        "--every": every,
        "--choose-on": settings.validate_on,
        "--side": settings.validate_side,
        "--critic": study.critic.name,
        "--held-out-critic": study.judge.name,
        "--seed": settings.seed,
    }
    return shlex.join(["iqloop", "bench", "critic-loss", *(str(word) for pair in flags.items() for word in pair)])
