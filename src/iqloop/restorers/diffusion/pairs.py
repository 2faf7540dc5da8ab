"""Preference pairs of a diffusion pipeline: several images for each input, the best and the worst of them kept on disk.

A folder of pairs holds ``NNNN.safetensors`` for every few inputs: latents of the better and the worse image, what was
known of them, and in its metadata how they were chosen. What is there is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from iqloop.errors import UsageError
from iqloop.io import write_bytes_atomic
from iqloop.restorers.diffusion.models import DiffusionModel, Given, repeated, rows_of
from iqloop.restorers.diffusion.sampling import eight_bits, noise_of, sample
from iqloop.restorers.training.record import Say

TOGETHER = 8
"""Inputs whose pairs are one file."""


class Preferred(NamedTuple):
    """Which two of some images make a pair."""

    winner: int
    loser: int
    margin: float
    """How much better, on the scale of whoever chose."""


Prefer = Callable[[Sequence[Tensor], int], Preferred | None]
"""Chooses among images ``(3, H, W)`` in [0, 1] of one input, the number of which it is told; None where they tie."""
Inputs = Callable[[int], Given]
"""What is known of the input of a number, each tensor beginning with 1; the same whenever it is asked."""


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made. Raises `UsageError` when a number is out of range."""

    inputs: int = 256
    """How many are drawn for."""
    candidates: int = 4
    """Images for each."""
    sample_steps: int = 10
    """Of DDIM."""
    at_once: int = 8
    """Images that are drawn together; changes memory and speed alone."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise UsageError(f"a pair needs at least 2 candidates, got {self.candidates}")
        for name in ("inputs", "sample_steps", "at_once"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Pairs:
    """P pairs."""

    winner: Tensor
    """``(P, C, h, w)``: latents of the better images."""
    loser: Tensor
    """The same of the worse."""
    given: Given
    """What was known of both."""
    margins: tuple[float, ...]
    """How much better; P of them."""
    inputs: int
    """How many were drawn for; the others tied."""

    def __len__(self) -> int:
        return len(self.winner)


def make_pairs(
    model: DiffusionModel,
    inputs: Inputs,
    prefer: Prefer,
    settings: PairSettings,
    folder: Path,
    device: torch.device,
    say: Say = lambda line: None,
) -> Pairs:
    """Draw, choose and keep; what ``folder`` holds of it already is taken from there.

    The folder is the caller's to keep apart from that of other settings. Raises `UsageError` when all inputs tie, or a
    file there is damaged.
    """
    total = settings.inputs
    files = [folder / f"{start // TOGETHER:04}.safetensors" for start in range(0, total, TOGETHER)]
    kept = 0
    for number, file in enumerate(files):
        if not file.is_file():
            chosen = range(number * TOGETHER, min(total, (number + 1) * TOGETHER))
            _write(file, [_pair(model, inputs, prefer, settings, index, device) for index in chosen])
        kept += len(_records(file))
        say(f"pairs {min(total, (number + 1) * TOGETHER)}/{total} kept={kept}")
    if not kept:
        raise UsageError(f"the candidates of all {total} inputs tie: lower the margin, or take more candidates")
    return read_pairs(files, total)


def _pair(
    model: DiffusionModel, inputs: Inputs, prefer: Prefer, settings: PairSettings, index: int, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, each beginning with 1 or with 0 where there is no pair, and a record."""
    given = {name: value.to(device) for name, value in inputs(index).items()}
    seeds = seeds_of(settings.candidates, settings.seed, index)
    noise = noise_of(model.shape(given), seeds, device)
    images, latents = [], []
    for start in range(0, len(seeds), settings.at_once):
        part = noise[start : start + settings.at_once]
        drawn = sample(model, repeated(given, len(part)), part, settings.sample_steps)
        images += list(eight_bits(drawn.images))
        latents += list(drawn.latents)
    found = prefer(images, index)
    rows = slice(0, 1 if found else 0)
    two = (found.winner, found.loser) if found else (0, 0)
    tensors = {name: latents[i][None][rows] for name, i in zip(("winner", "loser"), two, strict=True)}
    tensors |= {f"given.{name}": value for name, value in rows_of(given, rows).items()}
    return tensors, {"input": index, **(found._asdict() if found else {"margin": None})}


def _write(file: Path, pairs: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Any]]]) -> None:
    joined = {name: torch.cat([tensors[name] for tensors, _ in pairs]) for name in pairs[0][0]}
    stored = {name: value.cpu().contiguous() for name, value in joined.items()}
    records = [record for _, record in pairs if record["margin"] is not None]
    write_bytes_atomic(file, save(stored, {"format": "pt", "pairs": json.dumps(records)}))


def _records(file: Path) -> list[dict[str, Any]]:
    try:
        with safe_open(file, "pt") as opened:
            records: list[dict[str, Any]] = json.loads(opened.metadata()["pairs"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: damaged or of another kind; remove it to make its pairs again") from error
    return records


def read_pairs(files: Sequence[Path], inputs: int) -> Pairs:
    """The pairs of some files, in their order."""
    from safetensors.torch import load_file

    margins = tuple(float(record["margin"]) for file in files for record in _records(file))
    parts = [load_file(file) for file in files]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    given = {name.removeprefix("given."): value for name, value in whole.items() if name.startswith("given.")}
    return Pairs(whole["winner"], whole["loser"], given, margins, inputs)


def seeds_of(count: int, *key: int) -> list[int]:
    """Seeds that follow from some numbers, none of them negative."""
    return [int(seed) >> 1 for seed in np.random.SeedSequence(key).generate_state(count, np.uint64)]
