"""Which cases ``iqloop bench restore`` measures: photographs with mixtures of degradations, or real pairs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from iqloop.agents.budget import Budget
from iqloop.agents.settings import RestoreSettings
from iqloop.distort.image import Bytes
from iqloop.errors import UsageError
from iqloop.recipes.bench.restore import mixtures as bench_mixtures
from iqloop.recipes.bench.restore.mixtures import Mixture, Mixtures
from iqloop.recipes.bench.tools import DAMAGED, OWN, check_sizes, find_pairs, middle, photographs, read
from iqloop.restorers.degradation import label

PAIRS = "pairs"
"""Mixture and group of real pairs."""
Inputs = tuple[Bytes, Bytes, tuple[str, ...]]
"""Input and truth, ``(H, W, 3)`` uint8 RGB, and what the damage is."""


@dataclass(frozen=True)
class Wanted:
    """What a command line asks for."""

    photos: Path | None = None
    """Folder of clean photographs; None for scikit-image's."""
    pairs: Path | None = None
    """Folder of pairs instead."""
    mixtures: Path | None = None
    """File of mixtures; None for the package's."""
    only: tuple[str, ...] | None = None
    """Names or groups of mixtures; None for all."""
    count: int | None = None
    """How many photographs or pairs at most, the first by name."""
    side: int | None = 512
    """Middle pixels taken; None for whole photographs."""
    judge: bool = False
    """Ask the judge about each net's output too."""
    seed: int = 0
    settings: RestoreSettings = field(default_factory=RestoreSettings)
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.pairs is not None and (self.photos or self.mixtures or self.only):
            raise UsageError("--pairs brings photographs and damage along: leave out FOLDER, --mixtures and --only")

    @property
    def data(self) -> str:
        """The photographs' name: that of their folder."""
        folder = self.pairs or self.photos
        return "scikit-image" if folder is None else folder.resolve().name


@dataclass(frozen=True)
class Case:
    """One photograph with one damage, not read yet."""

    photo: str
    mixture: Mixture
    seed: int
    """Of the damage, and of all that is drawn on it."""
    read: Callable[[], Inputs]

    @property
    def key(self) -> str:
        """Its name among the answers of a run."""
        return f"{self.mixture.name}/{self.photo}"


def cases(wanted: Wanted, mixtures: Mixtures) -> list[Case]:
    """What is to be measured, photograph by photograph. Raises `UsageError`, `iqloop.errors.ImageReadError`."""
    if wanted.pairs is not None:
        found = find_pairs(wanted.pairs, wanted.count)
        check_sizes(found)
        real = Mixture(PAIRS, PAIRS, ())
        names = [path.relative_to(wanted.pairs / DAMAGED).as_posix() for path, _ in found]
        return [
            Case(name, real, _seed(name, real, wanted), partial(_pair, *paths, wanted.side))
            for name, paths in zip(names, found, strict=True)
        ]
    readers = photographs(wanted.photos, wanted.count)
    made = []
    for name, reader in zip(_names(wanted.photos), readers, strict=False):
        for mixture in mixtures.choose(wanted.only):
            seed = _seed(name, mixture, wanted)
            made.append(Case(name, mixture, seed, partial(_damaged, reader, mixture, seed, wanted.side)))
    return made


def command_line(wanted: Wanted, critic: str, threads: int | None, workers: int = 1) -> str:
    """The command that measures this, for the page; folders by their last name."""
    words = ["iqloop", "bench", "restore"]
    words += [wanted.photos.resolve().name] if wanted.photos else []
    flags: list[tuple[str, object]] = [
        ("--pairs", wanted.pairs and wanted.pairs.resolve().name),
        ("--mixtures", wanted.mixtures and wanted.mixtures.name),
        ("--only", wanted.only and ",".join(wanted.only)),
        ("--count", wanted.count),
        ("--side", "whole" if wanted.side is None else wanted.side),
        ("--critic", critic),
        ("--search", wanted.settings.search),
        ("--seed", wanted.seed),
        ("--threads", threads),
        ("--workers", workers if workers > 1 else None),
    ]
    words += [str(word) for name, value in flags if value is not None for word in (name, value)]
    return shlex.join([*words, "--judge"] if wanted.judge else words)


def _names(folder: Path | None) -> Sequence[str]:
    """What `photographs` gives is called, in its order."""
    if folder is None:
        return OWN
    from iqloop.io import find_images

    return [found.relative.as_posix() for found in find_images([folder])]


def _seed(photo: str, mixture: Mixture, wanted: Wanted) -> int:
    return bench_mixtures.draw_seed(photo, mixture.name, wanted.seed)


def _damaged(reader: Callable[[], Bytes], mixture: Mixture, seed: int, side: int | None) -> Inputs:
    truth = middle(reader(), side)
    drawn = bench_mixtures.draw(mixture, seed)
    return bench_mixtures.damage(truth, drawn, seed), truth, tuple(map(label, drawn))


def _pair(damaged: Path, clean: Path, side: int | None) -> Inputs:
    return middle(read(damaged), side), middle(read(clean), side), ()
