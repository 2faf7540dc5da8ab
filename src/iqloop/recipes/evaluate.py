"""``iqloop evaluate``: how well a critic sees, as figures."""

from __future__ import annotations

import json
from pathlib import Path

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console


@click.command("evaluate")
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of clean photographs, to be distorted.")
@click.option("--rated", type=click.Path(path_type=Path), help="CSV with columns file and mos_1_5.")
@click.option("--count", type=click.IntRange(20), default=1000, show_default=True, help="Distorted images a protocol.")
@click.option("--native", type=click.IntRange(0), default=512, show_default=True, help="Side of native crops; 0: none.")
@click.option(
    "--fold",
    type=click.IntRange(-1, 4),
    default=-1,
    show_default=True,
    help="Every fifth rated row from this; -1: all.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write all figures to this JSON file as well.")
@options.ask_critic(decoding=True)
@options.talk
def command(
    photos: Path | None,
    rated: Path | None,
    count: int,
    native: int,
    fold: int,
    out: Path | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure a critic on clean photographs that are distorted here, and on photographs that people rated.

    Perception follows Q-Insight's protocol as published: class and level accuracy as macro means, on images of short
    side 224; beside it the same on native crops. Correlations are raw, without a fitted curve.
    """
    from iqloop.errors import UsageError
    from iqloop.io import write_bytes_atomic
    from iqloop.recipes.evaluate_critic import evaluate
    from iqloop.recipes.loading import load_critic

    if photos is None and rated is None:
        raise UsageError("nothing to measure on: give --photos FOLDER, --rated TABLE.csv, or both")
    critic = load_critic(choice, needs=("score",) if photos is None else ("score", "perceive"))
    figures = evaluate(
        critic,
        photos,
        rated,
        count=count,
        native=native or None,
        seed=choice.seed,
        fold=None if fold < 0 else fold,
        progress=lambda what, done, total: console.detail(f"{what} {done}/{total}"),
    )
    if out is not None:
        write_bytes_atomic(out, json.dumps(figures, indent=2).encode(), overwrite=True)
    console.fields(figures)
    for name, part in figures.items():
        if isinstance(part, dict) and "class_accuracy" in part:
            text = f"{name}: class {part['class_accuracy']:.3f}, level {part['level_accuracy']:.3f}"
            rows = " ".join(f"{kind} {value:.3f}" for kind, value in part["by_class"].items())
            console.line(f"{text} ({rows}), unparsed {part['unparsed']:.3f}")
    for kind, row in figures.get("ladders", {}).items():
        console.line(f"score of {kind} at severity 0 to 5: " + " ".join(f"{value:.2f}" for value in row))
    if "rated" in figures:
        part = figures["rated"]
        console.line(f"rated: SRCC {part['srcc']:.3f}, PLCC {part['plcc']:.3f} on {part['scored']} photographs")
    return failures.DONE
