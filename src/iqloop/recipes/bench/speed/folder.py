"""The part of ``iqloop bench all`` about a folder: the command on many files, from its start to its end."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.recipes.bench.files import make_files
from iqloop.recipes.bench.speed.figures import Part, row
from iqloop.recipes.bench.speed.rounds import interleave
from iqloop.recipes.bench.speed.start_up import run, scoring

if TYPE_CHECKING:
    from iqloop.recipes.options import CriticChoice

ALL, STARTED = "iqloop score FOLDER", "without its start"


def measure(choice: CriticChoice, side: int, count: int, rounds: int, threads: int) -> Part:
    """Score ``count`` JPEGs of ``side`` x ``side`` pixels, two at least, by a fresh process, and one of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shown, data in make_files(count, side, seed=0):
            folder.joinpath(shown).write_bytes(data)
        one = min(folder.iterdir())
        words = {ALL: scoring(choice, folder), "one file": scoring(choice, one)}
        seconds = interleave({name: partial(run, own, threads) for name, own in words.items()}, rounds, warm=False)
    whole = seconds[ALL]
    # What one file more costs, scaled to all of them.
    seconds[STARTED] = [
        (all_ - one) / (count - 1) * count for all_, one in zip(whole, seconds["one file"], strict=True)
    ]
    return Part(
        "A folder",
        f"{count} different JPEGs of {side} x {side}, scored by a fresh process that prints a line for each: "
        "interpreter, imports, weights, reading, answers. Its start is what the same process takes for one file.",
        "ms/image",
        1e3,
        tuple(row(name, seconds, per=count) for name in (ALL, STARTED)),
    )
