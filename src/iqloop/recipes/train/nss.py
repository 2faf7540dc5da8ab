"""Train `nss-mini`, the embedded critic by natural scene statistics: `iqloop train nss --data DATA -o FOLDER`.

    iqloop train nss --data DATA -o nss
    iqloop score photo.jpg --critic ./nss

``DATA`` holds ``photos/train`` and ``photos/val``, clean photographs, and ``rated/*.csv`` with the columns ``file`` and
``mos_1_5``. Minutes on one core, most of them spent on the statistics of scenes; a run that is stopped begins anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.distort.image import Bytes

FIGURES = "figures.json"
"""What is measured of the weights, beside them."""


@click.command("nss")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with photos/train and photos/val, clean photographs, and rated/*.csv with human scores.",
)
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of weights."
)
@click.option("--overwrite", is_flag=True, help="Replace weights that are there.")
@click.option("--scenes", type=click.IntRange(1), default=1600, show_default=True, help="Photographs to damage.")
@click.option("--steps", type=click.IntRange(1), help="Steps of the optimiser.  [default: 1500]")
@options.seeded
@options.talk
def command(data: Path, out: Path, overwrite: bool, scenes: int, steps: int | None, seed: int, console: Console) -> int:
    """Train nss-mini, the embedded critic that scores by natural scene statistics.

    The same data and options give the same file, on the same kind of machine. The weights learn from every rated
    photograph; how far they agree with people is measured by five more, each without a fifth of the photographs.
    """
    from dataclasses import asdict

    import torch

    from iqloop.critic.natural_scene_net import save
    from iqloop.critic.nss_critic import NaturalSceneCritic
    from iqloop.critic.training.natural_scene_data import rated_examples, scene_examples
    from iqloop.critic.training.natural_scene_fit import FitSettings, fit, held_out_scores
    from iqloop.io import write_bytes_atomic
    from iqloop.io.files import refuse_existing
    from iqloop.recipes.train.nss_figures import agreement_of, enlarging_of, ladders_of
    from iqloop.restorers.full_reference import gmsd

    for name in ("model.safetensors", "config.json", FIGURES):
        refuse_existing(out / name, overwrite)
    torch.set_num_threads(1)  # sums of several threads are rounded as they come
    clean, held_out, rated = _data(data)
    settings = FitSettings(seed=seed) if steps is None else FitSettings(seed=seed, steps=steps)
    console.line(f"{len(rated)} rated photographs, {len(clean)} for {scenes} scenes, {len(held_out)} held out")
    opinions = rated_examples(rated, seed)
    with console.progress(scenes, "scenes") as progress:
        examples = scene_examples(clean, scenes, gmsd, seed, lambda done: progress.advance())
    net = fit(opinions, examples, settings)
    origin: dict[str, Any] = {"source": "iqloop train nss", **asdict(settings), "scenes_a_step": settings.scenes}
    origin["scenes"] = scenes
    save(net, out, origin | {"rated": len(rated), "clean": len(clean)})
    critic = NaturalSceneCritic(out.resolve().name, out, device="cpu")
    figures: dict[str, Any] = {"version": critic.version, **origin}
    unseen = held_out_scores(opinions, examples, settings)
    figures["rated"] = agreement_of([score for _, score in rated], unseen.tolist())
    figures |= ladders_of(critic, held_out)
    figures["enlarging"] = enlarging_of(critic, held_out)
    write_bytes_atomic(out / FIGURES, (json.dumps(figures, indent=1) + "\n").encode(), overwrite=True)
    _tell(figures, console)
    console.fields(figures)
    console.line(f"{out}: weights {critic.version}, for  --critic {out}")
    return failures.DONE


def _data(data: Path) -> tuple[list[Bytes], list[Bytes], list[tuple[Bytes, float]]]:
    """Clean photographs, held-out ones, and rated ones with their scores."""
    from iqloop.critic.training.crops import load_photographs, load_rated

    for part in ("photos/train", "photos/val"):
        if not (data / part).is_dir():
            raise UsageError(f"{data / part} is missing: expected clean photographs there")
    rated = [row for table in sorted((data / "rated").glob("*.csv")) for row in load_rated(table)]
    if len(rated) < 10:
        raise UsageError(f"{data / 'rated'}: expected *.csv with at least 10 rated photographs, found {len(rated)}")
    return load_photographs(data / "photos/train"), load_photographs(data / "photos/val"), rated


def _tell(figures: dict[str, Any], console: Console) -> None:
    rated = figures["rated"]
    folds = ", ".join(_shown(fold) for fold in rated["folds"])
    console.line(f"SRCC with people, held out: {_shown(rated['mean'])} ± {_shown(rated['spread'])} ({folds})")
    for kind, row in figures["ladders"].items():
        console.line(f"score of {kind} at severity 0 to 5: " + " ".join(f"{value:.2f}" for value in row))
    for name, row in figures["enlarging"]["outputs"].items():
        console.line(f"{name}: score {row['score']:.2f}, {row['psnr']:.2f} dB, GMSD {row['gmsd']:.4f}")
    ranks = figures["enlarging"]["rank_correlation"]
    console.line(f"rank correlation over upscalers: PSNR {_shown(ranks['psnr'])}, GMSD {_shown(ranks['gmsd'])}")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
