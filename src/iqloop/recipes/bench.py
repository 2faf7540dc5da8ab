"""``iqloop bench``: what the tools gain and how fast things are, on this machine."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs that ship with scikit-image, when no folder is given."""


def photographs(folder: Path | None, side: int) -> list[Any]:
    """The middle ``side`` pixels of each photograph of a folder, or of scikit-image's; ``(H, W, 3)`` uint8."""
    import numpy as np
    from skimage import data

    if folder is None:
        images = [np.asarray(getattr(data, name)()) for name in _PHOTOS]
    else:
        from iqloop.critic.training.crops import load_photographs

        images = list(load_photographs(folder))
    middles = []
    for image in images:
        top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
        middles.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return middles


def bench_critic(critic: Any, images: list[Any], repeats: int) -> list[dict[str, Any]]:
    """Median seconds per image of each question, one image at a time and all in one call."""
    import torch

    tensors = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
    questions = {"score": critic.score, "perceive": critic.perceive}
    rows = []
    for name, ask in questions.items():
        ask(tensors[:1])  # the first call pays for lazy set-up
        single, together = [], []
        for _ in range(repeats):
            start = time.perf_counter()
            for tensor in tensors:
                ask([tensor])
            single.append((time.perf_counter() - start) / len(tensors))
            start = time.perf_counter()
            ask(tensors)
            together.append((time.perf_counter() - start) / len(tensors))
        rows.append(
            {"question": name, "seconds_alone": statistics.median(single), "seconds_batched": statistics.median(together)}
        )
    return rows


@click.group("bench")
def command() -> None:
    """Measure speed and gain on this machine."""


_FOLDER = click.option("--photos", type=click.Path(path_type=Path), help="Folder.  [default: scikit-image's photographs]")
_SIDE = click.option("--side", type=click.IntRange(64), default=256, show_default=True, help="Middle pixels taken.")


@command.command("tools")
@_FOLDER
@_SIDE
@options.model_files
@options.talk
def tools(photos: Path | None, side: int, files: tuple[str, ...], console: Console) -> int:
    """PSNR, SSIM and seconds per megapixel of every tool on what it treats, severities 1, 3 and 5."""
    from dataclasses import asdict

    from iqloop import distort
    from iqloop.recipes.loading import load_registry
    from iqloop.restorers.measure import markdown, measure

    registry = load_registry(files)
    images = photographs(photos, side)
    rows = []
    for name in registry.names():
        info = registry.info(name)
        damage: list[tuple[str, float]] = [("low-resolution", info.scale)] if info.scale > 1 else [("clean", 0)]
        functions = [f for t in info.treats if t != "low-resolution" for f in distort.CATEGORIES[t]]
        damage += [(f, s) for f in functions for s in (1, 3, 5)]
        rows += measure([registry.get(name)], images, damage)
        console.detail(name)
    for row in rows:
        console.fields(asdict(row))
    console.line(markdown(rows))
    return failures.DONE


@command.command("critic")
@_FOLDER
@_SIDE
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="The median is reported.")
@options.ask_critic(decoding=True)
@options.talk
def critic(
    photos: Path | None, side: int, repeats: int, choice: options.CriticChoice, console: Console
) -> int:
    """Seconds per image of score and perceive, one image at a time and batched."""
    from iqloop.recipes.loading import load_critic

    asked = load_critic(choice, needs=("score", "perceive"))
    with console.table("question", "s alone", "s batched"):
        for row in bench_critic(asked, photographs(photos, side), repeats):
            console.row(row, row["question"], f"{row['seconds_alone']:.3f}", f"{row['seconds_batched']:.3f}")
    return failures.DONE
