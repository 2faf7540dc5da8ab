"""Train a small restoration net: `iqloop train restorer TASK --data DATA --run RUN` (`iqloop.restorers.training`).

    iqloop train restorer denoise --data DATA --run runs/denoise --steps 20000 --threads 2
    iqloop apply runs/denoise/final.safetensors noisy.png -o clean.png
    iqloop train restorer upscale-x2 --from X2.safetensors --data DATA --run runs/x2 --critic-loss 0.02

``DATA`` holds ``photos/train`` and ``photos/val``, clean photographs. Started again, a run goes on from ``RUN``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.train.restorer_guidance import StopOn, Wanted, guidance_by

if TYPE_CHECKING:
    from iqloop.restorers.training.guidance import Guidance

TASKS = ("denoise", "dejpeg", "deblur", "lowlight", "upscale-x2", "upscale-x4")
"""`iqloop.restorers.training.tasks.TASKS` by name; importing that here would load torch for ``--help``."""
NETS = ("nafnet", "nafnet-local", "compact", "span", "dncnn")
"""`iqloop.restorers.training.nets.NETS`, for the same reason."""
GUIDED = ("critic", "dtype", "more", "cap", "views", "fidelity", "held_out_critic", "stop_on", "patience", "psnr_loss")
"""Parameters that have an effect with ``--critic-loss`` only."""
_PATH = click.Path(path_type=Path)
_OWN = Wanted(weight=1.0)


@click.command("restorer")
@click.argument("task", type=click.Choice(TASKS), metavar="TASK")
@click.option("--data", type=_PATH, required=True, help="Folder with photos/train and photos/val: clean photographs.")
@click.option("--run", "run", type=_PATH, required=True, help="Folder of the run: log, checkpoint, final.safetensors.")
@click.option(
    "--photos", type=_PATH, multiple=True, help="Another folder of clean photographs to train on. Repeatable."
)
@click.option("--net", type=click.Choice(NETS), help="Architecture.  [default: the task's]")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="KEY=VALUE",
    help="A size of the net, such as width=24 or encoders=1-1-2. Repeatable.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps of the optimiser.  [default: 20000]")
@click.option("--batch", type=click.IntRange(1), help="Patches of a step.  [default: 16]")
@click.option("--patch", type=click.IntRange(16), help="Side of the input patches in pixels.  [default: the task's]")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Peak learning rate.  [default: the net's]")
@click.option("--loss", type=click.Choice(["charbonnier", "l1"]), help="[default: charbonnier]")
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), help="Decay of the average.  [default: 0.999]")
@click.option("--save-every", type=click.IntRange(1), help="Steps between checkpoints.  [default: 500]")
@click.option("--validate-every", type=click.IntRange(1), help="Steps between measurements.  [default: 500]")
@click.option("--from", "source", type=_PATH, help="Model file of the same net to go on from. Default: random weights.")
@click.option(
    "--precision",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Of final.safetensors.",
)
@click.option("--licence", default="unknown", show_default=True, help="Of the weights, for final.safetensors: SPDX.")
@click.option(
    "--critic-loss",
    "weight",
    type=click.FloatRange(0, min_open=True),
    help="Weight of --critic's loss, from 1 at its worst to 0 at its best score.  [default: no critic]",
)
@click.option(
    "--fidelity", type=click.FloatRange(0), default=1.0, show_default=True, help="Weight of --loss beside it."
)
@click.option(
    "--critic-cap",
    "cap",
    type=float,
    help="Score beyond which nothing is gained.  [default: seven eighths of the critic's range]",
)
@click.option(
    "--critic-views",
    "views",
    type=click.IntRange(0),
    default=_OWN.views,
    show_default=True,
    help="Random views of each patch that the critic rates; 0 is the patch itself.",
)
@click.option(
    "--held-out-critic",
    default="nss-mini",
    show_default=True,
    metavar="NAME|FOLDER",
    help="Another critic, which rates the held-out photographs.",
)
@click.option(
    "--stop-on",
    type=click.Choice(["critic", "psnr", "ssim", "none"]),
    default=_OWN.stop_on,
    show_default=True,
    help="By which figure of the held-out photographs weights are kept; critic is the held-out one, none keeps the "
    "last weights.",
)
@click.option(
    "--patience", type=click.IntRange(1), default=_OWN.patience, show_default=True, help="Measurements without better."
)
@click.option(
    "--psnr-loss",
    type=click.FloatRange(0),
    default=_OWN.psnr_loss,
    show_default=True,
    help="dB below the start that kept weights may be at most.",
)
@options.ask_critic(batched=False)
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Data processes.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--bf16/--no-bf16", default=None, help="Autocast to bfloat16. Default: on a GPU.")
@click.option("--channels-last/--no-channels-last", default=True, show_default=True, help="Memory layout of the net.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    task: str,
    data: Path,
    run: Path,
    photos: tuple[Path, ...],
    net: str | None,
    sizes: tuple[str, ...],
    source: Path | None,
    precision: Literal["float16", "float32"],
    licence: str,
    workers: int,
    threads: int,
    weight: float | None,
    fidelity: float,
    cap: float | None,
    views: int,
    held_out_critic: str,
    stop_on: StopOn,
    patience: int,
    psnr_loss: float,
    choice: options.CriticChoice,
    bf16: bool | None,
    verbose: bool,
    **changed: Any,
) -> int:
    """Train a small net that restores photographs. Started again with the same options, a run goes on, exactly.

    TASK is denoise, dejpeg, deblur, lowlight, upscale-x2 or upscale-x4. With --critic-loss the net also learns to
    please a critic; the weights that another critic likes best are kept.
    """
    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    import torch

    from iqloop.recipes.loading import tool_device
    from iqloop.restorers.training.nets import NETS, build_net
    from iqloop.restorers.training.stream import load_photographs, side_of
    from iqloop.restorers.training.tasks import task_named
    from iqloop.restorers.training.train import MIDDLE, RestorerSettings, check_patch, train_restorer

    if weight is None:
        _refuse_guided(ctx)
    torch.set_num_threads(threads)
    place, known = tool_device(choice.device), task_named(task)
    kind, chosen = net or known.net, sizes_in(sizes)
    given = {name: value for name, value in changed.items() if value is not None}
    settings = RestorerSettings(bf16=place.startswith("cuda") if bf16 is None else bf16, seed=choice.seed, **given)
    patch = settings.patch or known.patch
    # What can be refused without reading a photograph is refused first.
    check_patch(kind, chosen, patch)
    guidance = None
    if weight is not None:
        wanted = Wanted(weight, cap, views, fidelity, stop_on, patience, psnr_loss)
        guidance = _guidance(choice, held_out_critic, wanted, patch * known.scale)
    parameters = sum(value.numel() for value in build_net(kind, known.scale, chosen).parameters())
    photographs, small = load_photographs([data / "photos/train", *photos], side_of(known, patch))
    held_out, small_too = load_photographs([data / "photos/val"], side_of(known, MIDDLE))
    for file in (*small, *small_too):
        console.notice(f"{file}: too small for patches of {patch}, left out")
    alone = NETS[kind].pools and known.view is None
    tiled = "; it pools over what it is given, tiles change its result" if alone else ""
    console.line(f"{task}: {kind}, {parameters / 1e6:.2f} million parameters{tiled}")
    console.line(f"{len(photographs)} photographs, {len(held_out)} held out; on {place}")
    if guidance is not None:
        judged = "the last weights are kept" if guidance.guard is None else f"kept by {guidance.guard.figure}"
        console.line(f"critic {choice.name}, weight {weight:g}; held-out critic {held_out_critic}; {judged}")
    train_restorer(
        known,
        kind,
        photographs,
        held_out,
        settings,
        run,
        console.line,
        sizes=chosen,
        source=source,
        data=data.resolve().name,
        licence=licence,
        precision=precision,
        workers=workers,
        device=place,
        guidance=guidance,
    )
    final = run / "final.safetensors"
    if guidance is not None and guidance.guard is not None:
        console.line(_kept(final, settings.steps, guidance.guard.figure))
    console.line(
        f"{final}: a model file, for  iqloop apply {final} FILE  or  --tool NAME:{'+'.join(known.treats)}={final}"
    )
    return failures.DONE


def _refuse_guided(ctx: click.Context) -> None:
    """Raise `UsageError` for an option of the critic where there is none: it would have no effect."""
    given = {
        str(one.name): one.opts[0]
        for one in ctx.command.params
        if ctx.get_parameter_source(str(one.name)) is ParameterSource.COMMANDLINE
    }
    wrong = [given[name] for name in GUIDED if name in given]
    if wrong:
        raise UsageError(f"{', '.join(wrong)} has no effect without  --critic-loss WEIGHT")


def _guidance(choice: options.CriticChoice, held_out: str, wanted: Wanted, side: int) -> Guidance:
    from iqloop.recipes.loading import load_critic

    critic, other = load_critic(choice), load_critic(replace(choice, name=held_out, more=()))
    return guidance_by(critic, other, wanted, side, choice.seed)


def _kept(final: Path, steps: int, figure: str) -> str:
    """Which weights a run ended with, as their file says."""
    from iqloop.restorers.spandrel_tool import read_metadata

    step = json.loads(read_metadata(final)["guidance"])["kept_step"]
    why = f"the best by {figure}" if step else f"those of the start: none was better by {figure} and near enough"
    return f"kept: the weights of step {step} of {steps}, {why}"


def sizes_in(texts: Sequence[str]) -> dict[str, int | tuple[int, ...]]:
    """``KEY=VALUE`` as sizes of a net: a number, or numbers joined by ``-``. Raises `UsageError`."""
    sizes: dict[str, int | tuple[int, ...]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            numbers = tuple(int(word) for word in value.split("-"))
        except ValueError:
            numbers = ()
        if not key or not equals or not numbers:
            raise UsageError(f"--size takes KEY=VALUE, such as width=24 or encoders=1-1-2, got {text!r}")
        sizes[key] = numbers[0] if len(numbers) == 1 else numbers
    return sizes
