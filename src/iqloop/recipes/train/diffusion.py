"""Train a diffusion pipeline with the critic: `iqloop train diffusion` (`iqloop.restorers.diffusion.tune`).

    iqloop train diffusion PIPELINE --method dpo --data DATA --run runs/dpo
    iqloop train diffusion PIPELINE --method draft --data DATA --run runs/draft --gradient-steps 2
    iqloop rerank photo.jpg --pipeline runs/dpo/pipeline -n 8 -o out

``PIPELINE`` is ``ldm-mini-x2``, the package's own, or a folder of `LDMSuperResolutionPipeline` (with ``--data``) or of
Stable Diffusion or its XL (with ``--prompts``). ``DATA`` holds ``photos/train`` and ``photos/val``. Started again, a
run goes on from ``RUN``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])
HELD_OUT = "nss-mini"
ONLY: dict[str, tuple[str, ...]] = {
    "dpo": ("inputs", "candidates", "by", "margin", "beta"),
    "draft": ("gradient_steps", "cap", "views", "kl", "fidelity", "anchor", "checkpointing"),
}
"""Options that one method alone has."""
BY, MARGIN, BETA, VIEWS = "hybrid", 0.05, 2000.0, 2
_PATH = click.Path(path_type=Path)
_POSITIVE = click.FloatRange(0, min_open=True)


def _own(method: str) -> Callable[..., Callable[[Command], Command]]:
    """An option of one method, None unless it is given."""

    def option(flag: str, text: str, default: object = None, **more: Any) -> Callable[[Command], Command]:
        shown = "" if default is None else f"  [default: {default}]"
        return click.option(flag, help=f"{method}: {text}{shown}", **more)

    return option


_dpo, _draft = _own("dpo"), _own("draft")


@click.command("diffusion")
@click.argument("pipeline")
@click.option("--method", type=click.Choice(["dpo", "draft"]), required=True, help="From pairs, or by the gradient.")
@click.option("--run", "run", type=_PATH, required=True, help="Folder of the run: log, checkpoint, adapter, pipeline.")
@click.option("--data", type=_PATH, help="Folder with photos/train and photos/val, for super-resolution.")
@click.option("--photos", type=_PATH, multiple=True, help="Another folder of photographs to train on. Repeatable.")
@click.option("--prompts", type=_PATH, help="Text file with a prompt a line, for text to image.")
@click.option(
    "--held-out-prompts", type=_PATH, help="The same, never trained on.  [default: the last tenth of --prompts]"
)
@click.option(
    "--held-out-critic",
    "held_out_critics",
    default=(HELD_OUT,),
    show_default=True,
    multiple=True,
    metavar="NAME|FOLDER",
    help="Another critic, by which the adapter is chosen. Repeatable: those after the first only look on.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps of the optimiser.  [default: 200]")
@click.option("--batch", type=click.IntRange(1), help="Inputs or pairs of a step.  [default: 4]")
@click.option("--at-once", type=click.IntRange(1), help="Of them in memory together.  [default: all of the batch]")
@click.option("--rate", type=_POSITIVE, help="Learning rate.  [default: 0.0004]")
@click.option("--rank", type=click.IntRange(1), help="Of the adapter.  [default: 8]")
@click.option("--alpha", type=click.IntRange(1), help="Scale of the adapter, over its rank.  [default: the rank]")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Layers that get an adapter, by the end of their names. Repeatable.  [default: attention's projections, else "
    "all in the blocks]",
)
@click.option("--sample-steps", type=click.IntRange(1), help="Of DDIM.  [default: 10]")
@click.option("--guidance", type=click.FloatRange(0), default=1.0, show_default=True, help="Of the prompt; 1: none.")
@click.option(
    "--keep-colours/--own-colours",
    default=None,
    help="Show enlarged images with the colours of the small ones, as iqloop rerank does.  [default: own, but for the "
    "package's generator]",
)
@click.option("--patch", type=click.IntRange(8), help="Side of small patches in pixels.  [default: the pipeline's]")
@click.option("--size", type=click.IntRange(8), help="Side of images from text in pixels.  [default: the pipeline's]")
@_dpo("--inputs", "inputs that pairs are drawn for.", 256, type=click.IntRange(1))
@_dpo("--candidates", "images for each.", 4, type=click.IntRange(2))
@_dpo("--by", "how they are ranked, as in iqloop rank.", BY, type=click.Choice(["score", "comparison", "hybrid"]))
@_dpo("--margin", "least difference of strength between best and worst.", MARGIN, type=click.FloatRange(0))
@_dpo("--beta", "the lower, the further from the pipeline as it was.", BETA, type=_POSITIVE)
@_draft("--gradient-steps", "sampling steps with a gradient, the last ones.", 1, type=click.IntRange(1))
@_draft("--cap", "score beyond which nothing is gained.  [default: seven eighths of the range]", type=float)
@_draft("--views", "random views of each image; 0 is the image itself.", VIEWS, type=click.IntRange(0))
@_draft("--kl", "weight of staying near the pipeline as it was.", 1.0, type=click.FloatRange(0))
@_draft("--fidelity", "weight of shrinking to the input, for super-resolution.", 4.0, type=click.FloatRange(0))
@_draft("--anchor", "weight of being like the original, for super-resolution.", 4.0, type=click.FloatRange(0))
@_draft("--checkpointing", "less memory, more time.", is_flag=True)
@click.option("--measure-every", type=click.IntRange(1), help="Steps between measurements.  [default: 25]")
@click.option(
    "--measure-on",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Held-out images that choose the adapter; up to 24 others are reported on.",
)
@click.option(
    "--measure-side",
    type=click.IntRange(32),
    default=192,
    show_default=True,
    help="Side of held-out photographs' middles, in pixels of the clean image.",
)
@click.option(
    "--patience", type=click.IntRange(1), default=5, show_default=True, help="Measurements without a better one."
)
@click.option(
    "--psnr-loss", type=click.FloatRange(0), default=0.3, show_default=True, help="dB that may be lost at most."
)
@click.option("--save-every", type=click.IntRange(1), help="Steps between checkpoints.  [default: 50]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the network in RUN/pipeline.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--bf16/--no-bf16", default=None, help="Autocast to bfloat16. Default: on a GPU.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop.")
@options.ask_critic(batched=False)
@options.talk
def command(
    pipeline: str,
    method: str,
    run: Path,
    data: Path | None,
    photos: tuple[Path, ...],
    prompts: Path | None,
    held_out_prompts: Path | None,
    held_out_critics: tuple[str, ...],
    targets: tuple[str, ...],
    guidance: float,
    keep_colours: bool | None,
    patch: int | None,
    size: int | None,
    measure_on: int,
    measure_side: int,
    patience: int,
    psnr_loss: float,
    precision: Any,
    threads: int,
    bf16: bool | None,
    dry_run: bool,
    choice: options.CriticChoice,
    console: Console,
    **changed: Any,
) -> int:
    """Train an adapter on a diffusion pipeline, so that the critic likes what it draws, and another critic agrees.

    dpo draws several images for each input and learns from the critic's order of them; draft follows the critic's
    gradient through the last sampling steps. Started again with the same options, a run goes on, exactly.
    """
    # Not "in (None, False)", which 0 is.
    given = {name: value for name, value in changed.items() if value is not None and value is not False}
    _refuse_other(method, given)
    import torch

    from iqloop.recipes.train.diffusion_run import Wanted
    from iqloop.recipes.train.diffusion_run import run as train
    from iqloop.restorers.diffusion.draft import DraftSettings
    from iqloop.restorers.diffusion.lora import LoraSettings
    from iqloop.restorers.diffusion.opening import EMBEDDED
    from iqloop.restorers.diffusion.pairs import PairSettings
    from iqloop.restorers.diffusion.tune import TuneSettings

    torch.set_num_threads(threads)

    def some(*names: str) -> dict[str, Any]:
        return {name: given[name] for name in names if name in given}

    if "batch" in given:
        given.setdefault("at_once", given["batch"])
    wanted = Wanted(
        folder=EMBEDDED.get(pipeline, Path(pipeline)),
        run=run,
        method=method,  # type: ignore[arg-type]  # click has seen to it
        choice=choice,
        held_out_critics=held_out_critics,
        data=data,
        photos=photos,
        prompts=prompts,
        held_out_prompts=held_out_prompts,
        patch=patch,
        size=size,
        guidance=guidance,
        keep_colours=pipeline in EMBEDDED if keep_colours is None else keep_colours,
        lora=LoraSettings(targets=targets, **some("rank", "alpha")),
        tune=TuneSettings(seed=choice.seed, **some("steps", "batch", "at_once", "rate", "measure_every", "save_every")),
        patience=patience,
        psnr_loss=psnr_loss,
        chosen_by=measure_on,
        side=measure_side,
        pairs=PairSettings(seed=choice.seed, **some("inputs", "candidates", "sample_steps", "at_once")),
        by=given.get("by", BY),
        margin=given.get("margin", MARGIN),
        beta=given.get("beta", BETA),
        draft=DraftSettings(**some("sample_steps", "gradient_steps", "kl", "fidelity", "anchor", "checkpointing")),
        cap=given.get("cap"),
        views=given.get("views", VIEWS),
        precision=precision,
        bf16=bf16,
        dry_run=dry_run,
    )
    train(wanted, console)
    return failures.DONE


def _refuse_other(method: str, given: dict[str, Any]) -> None:
    """Raise `UsageError` for an option of another method: it would have no effect."""
    for other, names in ONLY.items():
        wrong = [f"--{name.replace('_', '-')}" for name in names if name in given and other != method]
        if wrong:
            raise UsageError(f"{', '.join(wrong)} belongs to --method {other}, not to {method}: leave it out")
