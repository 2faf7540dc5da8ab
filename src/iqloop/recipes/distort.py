"""``iqloop distort``: known damage on clean photographs, for tests and for training pairs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, inputs, options, outputs
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Input
from iqloop.recipes.outputs import Target

if TYPE_CHECKING:
    from iqloop.distort import Distortion
    from iqloop.io import Photo

_AFTER_SAMPLING = ("noise", "compression")
"""Sensor and file come after the lens: down-sampling happens before the first of these."""


@dataclass(frozen=True)
class Wanted:
    """One distortion as it was asked for."""

    name: str
    """A category, of which a function is drawn by the seed, or a function."""
    severity: float


@dataclass(frozen=True)
class Distorted:
    """What was done to one image."""

    input: str
    output: str
    distortions: tuple[Distortion, ...]
    down: int
    seed: int


def parse_types(types: Sequence[str], severity: str) -> tuple[Wanted, ...]:
    """``noise:moderate``, ``blur_gaussian:2.5`` or ``compression`` (at ``severity``). Raises `UsageError`."""
    from iqloop.distort import CATEGORIES, NAMES

    wanted = []
    for text in types:
        name, colon, own = text.partition(":")
        known = name.replace("_shift_", "_shfit_")
        if known not in CATEGORIES and known not in NAMES:
            raise UsageError(f"--type {text}: unknown distortion {name!r}, see  iqloop distort --list")
        wanted.append(Wanted(known, parse_severity(own if colon else severity)))
    return tuple(wanted)


def parse_severity(text: str) -> float:
    """A word or a number as a number in [1, 5]. Raises `UsageError`."""
    from iqloop.distort import SEVERITY_WORDS

    if text in SEVERITY_WORDS:
        return float(SEVERITY_WORDS.index(text) + 1)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 1 <= value <= 5:
        raise UsageError(f"severity must be a number from 1 to 5 or one of {', '.join(SEVERITY_WORDS)}, got {text!r}")
    return value


def seed_of(source: Input, seed: int) -> int:
    """A file that was named itself is distorted with ``seed``; those of a folder each with their own, by name."""
    if source.root is None:
        return seed
    return (seed + zlib.crc32(source.relative.as_posix().encode("utf-8", "surrogateescape"))) % 2**31


def settle(wanted: Sequence[Wanted], seed: int) -> tuple[Distortion, ...]:
    """Functions instead of categories, drawn by the seed."""
    import numpy as np

    from iqloop.distort import CATEGORIES, Distortion, draw

    rng = np.random.default_rng(seed)
    return tuple(
        draw(one.name, rng, one.severity) if one.name in CATEGORIES else Distortion(one.name, one.severity)
        for one in wanted
    )


def distort_photo(photo: Photo, distortions: Sequence[Distortion], down: int = 1, seed: int = 0) -> Photo:
    """The photo after every distortion in order, computed in 8 bits; down-sampled before noise and compression."""
    import torch

    from iqloop.distort import apply_all, downsample

    image = photo.pixels.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    late = [number for number, one in enumerate(distortions) if one.name.startswith(_AFTER_SAMPLING)]
    split = late[0] if late else len(distortions)
    image = apply_all(image, distortions[:split], seed=seed)
    if down > 1:
        image = downsample(image, down)
    image = apply_all(image, distortions[split:], seed=seed)
    return photo.with_pixels(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255)


def distort_file(
    source: Input,
    target: Target,
    wanted: Sequence[Wanted],
    *,
    down: int = 1,
    seed: int = 0,
    overwrite: bool = False,
) -> Distorted:
    """Distort one image and write it. Raises `iqloop.errors.ImageError`."""
    target.check(overwrite)
    photo = source.read()
    inputs.refuse_animation(photo, source.shown)
    own = seed_of(source, seed)
    distortions = settle(wanted, own)
    result = distort_photo(photo, distortions, down, own)
    outputs.send(outputs.encoded(result, target), target, overwrite)
    return Distorted(source.shown, target.shown, distortions, down, own)


def distort_fields(done: Distorted) -> dict[str, Any]:
    """The line of ``--json``."""
    made = [{"name": one.name, "severity": one.severity} for one in done.distortions]
    return {"input": done.input, "output": done.output, "distortions": made, "down": done.down, "seed": done.seed}


def list_distortions() -> list[dict[str, Any]]:
    """Every function with its category and its parameters at severity 1 to 5."""
    from iqloop.distort import CATEGORIES, PARAMETERS

    category = {name: kind for kind, names in CATEGORIES.items() for name in names}
    return [
        {"name": name, "category": category.get(name), "parameters": [list(row) for row in rows]}
        for name, rows in PARAMETERS.items()
    ]


@click.command("distort")
@options.inputs(required=False)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE[:SEVERITY]",
    help="A category (noise, blur, compression, ...) or a function (blur_gaussian). Repeat for mixtures, in order.",
)
@click.option(
    "--severity",
    default="moderate",
    show_default=True,
    help="For types without their own: slight, moderate, obvious, serious, catastrophic, or a number from 1 to 5.",
)
@click.option("--down", type=click.IntRange(1, 16), default=1, show_default=True, help="Divide the sides by this.")
@click.option("--list", "listing", is_flag=True, help="List categories and functions with their parameters.")
@options.seeded
@options.writes("distorted")
@options.talk
def command(
    inputs: tuple[str, ...],
    types: tuple[str, ...],
    severity: str,
    down: int,
    listing: bool,
    seed: int,
    out: Path | None,
    overwrite: bool,
    console: Console,
) -> int:
    """Degrade clean images with the published distortions of Q-Insight's training data.

    A category draws one of its functions by the seed. A file that is named itself is distorted with --seed, the files
    of a folder each with a seed of their own, made from --seed and the name.
    """
    if listing:
        return _list(console)
    if not inputs:
        raise click.UsageError("Missing argument 'FILE_OR_FOLDER...'")
    if not types and down == 1:
        raise click.UsageError("nothing to do: give --type (see --list) or --down")
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.outputs import place

    wanted = parse_types(types, severity)
    sources = gather(inputs, stream=True)
    targets = place(sources, out, "distorted")
    if console.json and targets[0].path is None:
        raise click.UsageError("--json and -o - both want standard output: write the image to a file")
    console.stdout_taken = targets[0].path is None
    with console.progress(len(sources), "distorting") as progress:
        for source, target in zip(sources, targets, strict=True):
            try:
                done = distort_file(source, target, wanted, down=down, seed=seed, overwrite=overwrite)
            except BrokenPipeError:
                raise
            except Exception as error:
                console.fail(source.shown, error)
            else:
                console.fields(distort_fields(done))
                made = [f"{one.name}:{one.severity:g}" for one in done.distortions] + [f"down {down}"] * (down > 1)
                if not console.quiet:
                    console.line(f"{done.input} -> {done.output}  {', '.join(made)}")
            progress.advance()
    return failures.SOME_FAILED if console.failed else failures.DONE


def _list(console: Console) -> int:
    with console.table("category", "function", "parameters at severity 1 to 5"):
        for row in list_distortions():
            values = "; ".join(" ".join(f"{value:g}" for value in numbers) for numbers in row["parameters"])
            console.row(row, row["category"] or "none", row["name"], values)
    return failures.DONE
