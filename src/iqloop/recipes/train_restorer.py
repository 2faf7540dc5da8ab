"""Train a small restoration net: `iqloop train restorer TASK --data DATA --run RUN` (`iqloop.restorers.training`).

    iqloop train restorer denoise --data DATA --run runs/denoise --steps 20000 --threads 2
    iqloop apply runs/denoise/final.safetensors noisy.png -o clean.png

``DATA`` holds ``photos/train`` and ``photos/val``, clean photographs. Started again, a run goes on from ``RUN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

TASKS = ("denoise", "dejpeg", "deblur", "lowlight", "upscale-x2", "upscale-x4")
"""`iqloop.restorers.training.tasks.TASKS` by name; importing that here would load torch for ``--help``."""
NETS = ("nafnet", "nafnet-local", "compact", "span", "dncnn")
"""`iqloop.restorers.training.nets.NETS`, for the same reason."""
_PATH = click.Path(path_type=Path)


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
@options.seeded
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Data processes.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@options.on_device
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
    device: str | None,
    bf16: bool | None,
    verbose: bool,
    **changed: Any,
) -> int:
    """Train a small net that restores photographs. Started again with the same options, a run goes on, exactly.

    TASK is denoise, dejpeg, deblur, lowlight, upscale-x2 or upscale-x4.
    """
    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    import torch

    from iqloop.recipes.loading import tool_device
    from iqloop.restorers.training.nets import NETS, build_net
    from iqloop.restorers.training.stream import load_photographs, side_of
    from iqloop.restorers.training.tasks import task_named
    from iqloop.restorers.training.train import MIDDLE, RestorerSettings, check_patch, train_restorer

    torch.set_num_threads(threads)
    place, known = tool_device(device), task_named(task)
    kind, chosen = net or known.net, sizes_in(sizes)
    given = {name: value for name, value in changed.items() if value is not None}
    settings = RestorerSettings(bf16=place.startswith("cuda") if bf16 is None else bf16, **given)
    patch = settings.patch or known.patch
    # What can be refused without reading a photograph is refused first.
    check_patch(kind, chosen, patch)
    parameters = sum(value.numel() for value in build_net(kind, known.scale, chosen).parameters())
    photographs, small = load_photographs([data / "photos/train", *photos], side_of(known, patch))
    held_out, small_too = load_photographs([data / "photos/val"], side_of(known, MIDDLE))
    for file in (*small, *small_too):
        console.notice(f"{file}: too small for patches of {patch}, left out")
    alone = NETS[kind].pools and known.view is None
    tiled = "; it pools over what it is given, tiles change its result" if alone else ""
    console.line(f"{task}: {kind}, {parameters / 1e6:.2f} million parameters{tiled}")
    console.line(f"{len(photographs)} photographs, {len(held_out)} held out; on {place}")
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
    )
    final = run / "final.safetensors"
    console.line(
        f"{final}: a model file, for  iqloop apply {final} FILE  or  --tool NAME:{'+'.join(known.treats)}={final}"
    )
    return failures.DONE


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
