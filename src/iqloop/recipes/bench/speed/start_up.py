"""The part of ``iqloop bench all`` about starting: fresh processes from their start to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.errors import CriticError
from iqloop.recipes.bench.speed.figures import Part, row
from iqloop.recipes.bench.speed.rounds import interleave

if TYPE_CHECKING:
    from iqloop.recipes.options import CriticChoice

BARE, IMPORT, HELP, SCORE = "python -c pass", "python -c 'import iqloop'", "iqloop --help", "iqloop score PHOTO"


def measure(choice: CriticChoice, photo: Path, side: int, rounds: int, threads: int) -> Part:
    """Start Python, import the package, print the help, score a file of ``side`` x ``side`` pixels."""
    iqloop = ("-m", "iqloop")
    words = {
        BARE: ("-c", "pass"),
        IMPORT: ("-c", "import iqloop"),
        HELP: (*iqloop, "--help"),
        SCORE: scoring(choice, photo),
    }
    seconds = interleave({name: partial(run, own, threads) for name, own in words.items()}, rounds, warm=False)
    return Part(
        "Start-up",
        "A fresh process each time, from its start to its end; program and weights were read before, so they are in "
        f"the system's file cache. The score is that of {Path(choice.name).name} for one PNG of {side} x {side}: "
        "interpreter, imports, weights, answer.",
        "s/process",
        1,
        tuple(row(name, seconds, {"bare Python": BARE}) for name in seconds),
    )


def run(words: Sequence[str], threads: int, given: str = "") -> str:
    """Standard output of our interpreter with these arguments, given a text; raises `CriticError` when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # Our own interpreter, without a shell.
    done = subprocess.run(  # noqa: S603
        [sys.executable, *words], input=given, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise CriticError(f"python {' '.join(words[:3])} ended with {done.returncode}, expected 0; it said: {said}")
    return done.stdout


def scoring(choice: CriticChoice, what: Path) -> list[str]:
    """Our interpreter's arguments that score a file or a folder."""
    words = ["-m", "iqloop", "score", str(what), "--quiet", "--critic", choice.name]
    for flag, value in (("--device", choice.device), ("--dtype", choice.dtype)):
        words += [] if value is None else [flag, value]
    return words + [word for text in choice.more for word in ("--critic-option", text)]
