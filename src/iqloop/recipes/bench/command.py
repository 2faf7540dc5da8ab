"""``iqloop bench``: what the tools and the loop gain and how fast things are, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.bench import engines as bench_engines
from iqloop.recipes.bench import reinforcement as bench_reinforcement
from iqloop.recipes.bench import rerank as bench_rerank
from iqloop.recipes.bench.critic_loss import command as bench_critic_loss
from iqloop.recipes.bench.rank import command as bench_rank
from iqloop.recipes.bench.serve import command as bench_serve
from iqloop.recipes.bench.speed import command as bench_all
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import run as evaluate_run

TREATMENTS = ("noise", "blur", "compression", "darken", "low-resolution")
"""`iqloop.restorers.tool.TREATMENTS`; importing that here would load torch for ``--help``."""
SMALLEST = 64
"""Least side in pixels that tools are measured on."""


def _side(ctx: click.Context, option: click.Parameter, value: str) -> int | None:
    """Pixels, or None for whole photographs."""
    if value in ("whole", "0"):
        return None
    if not value.isdecimal() or int(value) < SMALLEST:
        raise click.BadParameter(f"expected a number of pixels from {SMALLEST} on, or whole, got {value!r}.")
    return int(value)


@click.group("bench")
def command() -> None:
    """Measure speed and gain on this machine."""


_FOLDER = click.option(
    "--photos", type=click.Path(path_type=Path), help="Folder.  [default: scikit-image's photographs]"
)


@command.command("tools")
@_FOLDER
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Real pairs instead: FOLDER/noisy and FOLDER/clean, images of equal names and sizes. Needs --treatment.",
)
@click.option(
    "--side",
    default="256",
    show_default=True,
    metavar="PIXELS|whole",
    callback=_side,
    help="Side of the middle that is taken of each.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N photographs only.")
@click.option(
    "--only", multiple=True, metavar="TOOL", help="Measure these tools; commas, or repeat it.  [default: all]"
)
@click.option(
    "--treatment", type=click.Choice(TREATMENTS), help="Measure the tools for this, also on damage of another kind."
)
@click.option(
    "--damage",
    multiple=True,
    metavar="NAME:VALUE",
    help="Such as gaussian-noise:25, jpeg:10, gaussian-blur:2, gamma:2.2, bicubic:4, clean, or a function of `iqloop "
    "distort --list` and its severity, noise_poisson:3. Commas, or repeat it.",
)
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the table here.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw quality against time here.")
@options.seeded
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: as many as cores]")
@options.on_device
@options.tiles
@options.model_files
@options.talk
def tools(
    side: int | None,
    only: tuple[str, ...],
    damage: tuple[str, ...],
    out: Path | None,
    plot: Path | None,
    threads: int | None,
    device: str | None,
    tile: int | str | None,
    files: tuple[str, ...],
    console: Console,
    **asked: Any,
) -> int:
    """PSNR, SSIM and seconds per megapixel of the restoration tools.

    Clean photographs are degraded here, seeded, each once for all tools, and restored by every tool that is for the
    damage: one of its scale that treats it. Without --damage these are gaussian-noise 25 and 50, jpeg 10 and 40,
    gaussian-blur 2, gamma 2.2, bicubic at the tools' scales, and clean. A tool's first run is not timed.
    """
    from dataclasses import asdict

    from iqloop.recipes.bench import tools as bench_tools
    from iqloop.recipes.bench.critic import machine
    from iqloop.recipes.loading import load_registry

    wanted = bench_tools.Wanted(side=side, only=options.words(only), damage=options.words(damage), **asked)
    bench_tools.check_outputs(out, plot)
    if threads is not None:
        bench_tools.use_threads(threads)
    rows = bench_tools.run(wanted, load_registry(files, device, tile=tile), console)
    for row in rows:
        console.fields(asdict(row))
    page = bench_tools.report(rows, wanted, machine(("torch",)))
    for line in page.splitlines():
        console.line(line)
    bench_tools.write(rows, page, out, plot)
    return failures.DONE


@command.command("restore")
@click.argument("photos", required=False, type=click.Path(path_type=Path), metavar="[FOLDER]")
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Real pairs instead: FOLDER/noisy and FOLDER/clean, images of equal names and sizes.",
)
@click.option(
    "--mixtures", type=click.Path(path_type=Path), metavar="FILE.json", help="Mixtures.  [default: the package's]"
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only these mixtures or groups of them; commas, or repeat it."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="The first N photographs only.")
@click.option(
    "--side",
    default="512",
    show_default=True,
    metavar="PIXELS|whole",
    callback=_side,
    help="Side of the middle that is taken of each.",
)
@click.option("--search", default="greedy", show_default=True, metavar="NAME", help="As of `iqloop restore`.")
@click.option("--judge", is_flag=True, help="Ask the judge about every net's output too; costs questions.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; the rows are the same."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="CPU threads of each.  [default: as many as cores; 1 of many]",
)
@evaluate_run.kept
@options.tiles
@options.model_files
@options.budgeted
@options.ask_critic(batched=False)
@options.talk
def restore(
    only: tuple[str, ...],
    search: str,
    workers: int,
    threads: int | None,
    out: Path | None,
    resume: bool,
    tile: int | str | None,
    files: tuple[str, ...],
    choice: options.CriticChoice,
    console: Console,
    **asked: Any,
) -> int:
    """What the loop gains on mixed damage, beside doing nothing, fixed orders and the best in hindsight.

    FOLDER holds clean photographs (default: scikit-image's). Each is damaged by every mixture, from a seed that follows
    from its name, the mixture's and --seed, and restored by the loop, by all nets of the package in a fixed and in a
    random order, by the best one of them and by their best sequence. The mixtures are those of AgenticIR that can be
    made here, every degradation alone, two and three at once, and none.

    With -o: a line of JSON for each photograph and mixture as it is done, summary.json, restore.md and two plots.
    """
    from iqloop.recipes.bench.restore import run as bench_restore_run

    return bench_restore_run.command(
        {**asked, "only": options.words(only), "seed": choice.seed},
        search=search,
        workers=workers,
        threads=threads,
        out=out,
        resume=resume,
        tile=tile,
        files=files,
        choice=choice,
        console=console,
    )


@command.command("critic")
@click.option("--side", type=click.IntRange(56), default=448, show_default=True, help="Side of the square images.")
@click.option("--images", "count", type=click.IntRange(1), default=8, show_default=True, help="Images per round.")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Rounds; medians are reported.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Peak memory too: a process per mode.")
@options.ask_critic()
@options.talk
def critic(side: int, count: int, repeats: int, memory: bool, choice: options.CriticChoice, console: Console) -> int:
    """Speed and memory of a critic's modes, beside a plain loop of one generate per image.

    Images are scikit-image's photographs, resized. Rounds are interleaved and ratios taken within a round.
    """
    from dataclasses import asdict

    from iqloop.recipes.bench import critic as bench_critic

    loaded = bench_critic.load(choice)
    images = bench_critic.test_images(side, count)
    rows = bench_critic.measure(loaded, images, repeats, console.detail)
    if memory:
        rows = bench_critic.with_memory(rows, choice, side, count, console.detail)
    about = {"critic": loaded.name, "side": side, "images": count, "machine": bench_critic.machine()}
    for row in rows:
        console.fields({**asdict(row), **about})
    precision = str(loaded.checkpoint.model.dtype).removeprefix("torch.")
    console.line(
        f"{loaded.name}, {precision}, {side} px, {count} images, {repeats} rounds, batches of {choice.batch_size}"
    )
    console.line(bench_critic.machine())
    for line in bench_critic.markdown(rows).splitlines():
        console.line(line)
    return failures.DONE


@command.command("grpo")
@click.option("--critic", default="qinsight-mini", show_default=True, help="Name or folder of the critic that trains.")
@_FOLDER
@click.option("--side", type=click.IntRange(56), default=224, show_default=True, help="Of the crops, in pixels.")
@click.option("--questions", type=click.IntRange(1), default=4, show_default=True, help="Per step.")
@click.option("--generations", type=click.IntRange(2), default=8, show_default=True, help="Answers to each question.")
@click.option(
    "--steps", type=click.IntRange(2), default=3, show_default=True, help="Per run; the first is not counted."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each trainer, in turn.")
@click.option("--max-new-tokens", type=click.IntRange(8), default=80, show_default=True, help="Longest answer.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def grpo(
    ctx: click.Context,
    /,
    critic: str,
    photos: Path | None,
    side: int,
    questions: int,
    generations: int,
    steps: int,
    rounds: int,
    max_new_tokens: int,
    threads: int,
    verbose: bool,
) -> int:
    """Seconds a step of GRPO beside stock trl's, and whether the losses are the same."""
    import warnings

    import torch

    from iqloop.recipes.bench.grpo import markdown, measure
    from iqloop.recipes.bench.tools import middle, photographs
    from iqloop.recipes.train.critic import folder_of, hush

    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    hush(verbose)
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = measure(
            folder_of(critic),
            [middle(read(), 2 * side) for read in photographs(photos)],
            side=side,
            questions=questions,
            generations=generations,
            steps=steps,
            rounds=rounds,
            max_new_tokens=max_new_tokens,
            say=console.line,
        )
    for line in markdown(runs).splitlines():
        console.line(line)
    return failures.DONE


@command.command("ablations")
@options.training_study
@click.option("--only", multiple=True, help="Names of variants; repeat it. Default: all.")
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Of each variant.")
@click.option("--questions", type=click.IntRange(2), default=8, show_default=True, help="Per step.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1e-4, show_default=True, help="Of GRPO.")
@click.option(
    "--cases", type=click.IntRange(20), default=500, show_default=True, help="Distorted photographs measured."
)
@options.seeded
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def ablations(
    ctx: click.Context,
    /,
    critic: str,
    data: Path,
    out: Path,
    only: tuple[str, ...],
    steps: int,
    questions: int,
    rate: float,
    cases: int,
    seed: int,
    threads: int,
    verbose: bool,
) -> int:
    """The ablations of both papers, at the scale of the embedded critic.

    Every variant starts from the same weights and trains for as many steps of as many questions; all are measured on
    photographs that none has seen. Writes a JSON file for each, tables.md and spread.png.
    """
    import warnings

    import torch

    from iqloop.errors import UsageError
    from iqloop.recipes.bench.ablations import VARIANTS, Scale, run, spread_plot, tables
    from iqloop.recipes.train.critic import folder_of, hush

    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    hush(verbose)
    torch.set_num_threads(threads)
    known = [variant.name for variant in VARIANTS]
    for name in only:
        if name not in known:
            raise UsageError(f"--only {name}: expected one of {', '.join(known)}")
    scale = Scale(data, folder_of(critic), steps, questions, rate, seed=seed, cases=cases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, spreads = run(only or known, scale, out, console.line)
    text = tables(results)
    (out / "tables.md").write_text(text)
    spread_plot(spreads).savefig(out / "spread.png", dpi=120)
    for line in text.splitlines():
        console.line(line)
    return failures.DONE


command.add_command(bench_all.command)
command.add_command(bench_critic_loss.command)
command.add_command(bench_engines.command)
command.add_command(bench_rank.command)
command.add_command(bench_reinforcement.command)
command.add_command(bench_rerank.command)
command.add_command(bench_serve.command)
