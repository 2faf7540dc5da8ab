"""Ranking the uploads of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqloop.recipes.console import plain
from iqloop.recipes.serve.schemas import By, Order, Place
from iqloop.recipes.serve.uploads import Upload

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic


@dataclass(frozen=True)
class Manner:
    """What a client may choose; `iqloop.rank` explains it."""

    by: By | None
    """None is hybrid for a critic that compares, else score."""
    top: int | None
    max_comparisons: int | None
    seed: int


def rank_uploads(files: Sequence[Upload], reference: Upload | None, manner: Manner, critic: Critic) -> Order:
    """Files from best to worst; one that cannot be read comes last and says why.

    Raises `iqloop.errors.ImageReadError` for the reference, and what the critic raises.
    """
    from iqloop.agents import rank

    ranking = rank(
        [file.data for file in files],
        critic,
        by=manner.by or ("hybrid" if "compare" in critic.capabilities else "score"),
        reference=None if reference is None else reference.data,
        top=manner.top,
        max_comparisons=manner.max_comparisons,
        seed=manner.seed,
    )
    places = []
    for place in ranking.places:
        held = sum(place.index in (match.a, match.b) for match in ranking.matches)
        told = {"strength": place.strength, "standard_error": place.standard_error, "score": place.score}
        name = files[place.index].name
        places.append(Place(filename=name, rank=place.rank, error=place.error, comparisons=held, **plain(told)))
    return Order(by=ranking.by, note=ranking.note, comparisons=ranking.comparisons, places=places)
