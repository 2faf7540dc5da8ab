"""Train the diffusion generator for super-resolution: `iqloop train generator` (`iqloop.restorers.diffusion.train`).

    iqloop train generator --data DATA --run runs/generator --threads 2
    iqloop rerank photo.jpg --pipeline runs/generator/pipeline -n 8 -o out

``DATA`` holds ``photos/train`` and ``photos/val``, clean photographs. Started again, a run goes on from ``RUN``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

_PATH = click.Path(path_type=Path)


@click.command("generator")
@click.option("--data", type=_PATH, required=True, help="Folder with photos/train and photos/val: clean photographs.")
@click.option("--run", "run", type=_PATH, required=True, help="Folder of the run: logs, checkpoints, pipeline.")
@click.option(
    "--photos", type=_PATH, multiple=True, help="Another folder of clean photographs to train on. Repeatable."
)
@click.option("--scale", type=click.Choice(["2", "4"]), default="2", show_default=True, help="Output over input size.")
@click.option("--autoencoder-steps", type=click.IntRange(1), help="[default: 3000]")
@click.option("--denoiser-steps", type=click.IntRange(1), help="[default: 10000]")
@click.option("--autoencoder-batch", type=click.IntRange(1), help="Patches of a step.  [default: 8]")
@click.option("--denoiser-batch", type=click.IntRange(1), help="Patches of a step.  [default: 16]")
@click.option("--latent-noise", type=click.FloatRange(0), help="On latents while they are learned.  [default: 0.05]")
@click.option("--autoencoder", "source", type=_PATH, help="Folder of an autoencoder to go on from.")
@click.option("--denoiser", "denoiser_source", type=_PATH, help="Folder of a denoiser to go on from.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Peak learning rate.  [default: 0.001]")
@click.option("--save-every", type=click.IntRange(1), help="Steps between checkpoints.  [default: 250]")
@click.option("--validate-every", type=click.IntRange(1), help="Steps between measurements.  [default: 500]")
@options.seeded
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Data processes.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@options.on_device
@click.option("--bf16/--no-bf16", default=None, help="Autocast to bfloat16. Default: on a GPU.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: Path,
    run: Path,
    photos: tuple[Path, ...],
    scale: str,
    source: Path | None,
    denoiser_source: Path | None,
    workers: int,
    threads: int,
    device: str | None,
    bf16: bool | None,
    verbose: bool,
    **changed: Any,
) -> int:
    """Train a small latent diffusion pipeline that enlarges photographs: many plausible answers for one input.

    Started again with the same options, a run goes on, exactly.
    """
    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    import torch

    from iqloop.recipes.loading import tool_device
    from iqloop.restorers.diffusion.parts import SIZES, build_autoencoder, build_denoiser, parameters
    from iqloop.restorers.diffusion.train import GeneratorSettings, train_generator
    from iqloop.restorers.training.stream import load_photographs, side_of
    from iqloop.restorers.training.tasks import task_named

    torch.set_num_threads(threads)
    place = tool_device(device)
    given = {name: value for name, value in changed.items() if value is not None}
    settings = GeneratorSettings(scale=int(scale), bf16=place.startswith("cuda") if bf16 is None else bf16, **given)
    sizes, task = SIZES[settings.scale], task_named(f"upscale-x{scale}")
    photographs, small = load_photographs([data / "photos/train", *photos], side_of(task, sizes.sample))
    held_out, small_too = load_photographs([data / "photos/val"], side_of(task, sizes.sample))
    for file in (*small, *small_too):
        console.notice(f"{file}: too small for patches of {sizes.sample}, left out")
    count = parameters(build_autoencoder(sizes), build_denoiser(sizes))
    console.line(f"{count / 1e6:.2f} million parameters; {len(photographs)} photographs, {len(held_out)} held out")
    train_generator(
        photographs,
        held_out,
        settings,
        run,
        console.line,
        sizes=sizes,
        source=source,
        denoiser_source=denoiser_source,
        workers=workers,
        device=place,
    )
    console.line(f"{run / 'pipeline'}: for  iqloop rerank FILE --pipeline {run / 'pipeline'}")
    return failures.DONE
