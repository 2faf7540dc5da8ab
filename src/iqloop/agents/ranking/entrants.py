"""The images that enter a ranking: read, told apart by their pixels, in the order of a draw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from iqloop.agents.candidate import pixel_hash
from iqloop.errors import ImageReadError
from iqloop.io.reading import Source, read


@dataclass(frozen=True, eq=False)
class Entrants:
    """Different images, each once."""

    images: tuple[Tensor, ...]
    """``(3, H, W)`` float32 in [0, 1] on the CPU; their order follows from the pixels and the seed alone."""
    places: tuple[tuple[int, ...], ...]
    """Of each image: where it stands in the input, from 0, ascending."""
    faults: dict[int, str]
    """Places in the input of what could not be read, and why."""


def gather(sources: Iterable[Source], seed: int) -> Entrants:
    """Read all; images of equal pixels become one entrant."""
    images: dict[str, Tensor] = {}
    places: dict[str, list[int]] = {}
    faults: dict[int, str] = {}
    for index, source in enumerate(sources):
        try:
            pixels = read(source).pixels
        except ImageReadError as error:
            faults[index] = str(error)
            continue
        name = pixel_hash(pixels)
        images.setdefault(name, pixels)
        places.setdefault(name, []).append(index)
    names = sorted(images)
    draw = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return Entrants(tuple(images[name] for name in draw), tuple(tuple(places[name]) for name in draw), faults)
