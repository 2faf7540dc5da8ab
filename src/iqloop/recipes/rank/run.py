"""Ranking the images of one group with a loaded critic."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iqloop.errors import ImageError
from iqloop.recipes.console import Console, reason_for
from iqloop.recipes.inputs import Input, ask_in_batches, first_frame
from iqloop.recipes.rank.groups import Group
from iqloop.recipes.rank.result import Duel, Place, Result

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents.ranking import By, Match, Ranked, Ranking
    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Rating, Unparsed

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much at most."""


@dataclass(frozen=True)
class Manner:
    """How to rank; part of what decides the result."""

    by: By
    top: int | None = None
    max_comparisons: int | None = None
    seed: int = 0


def rank_group(
    group: Group, critic: Critic, manner: Manner, batch_size: int, console: Console, progress: Progress
) -> Result:
    """Rank a group; what cannot be read or judged has a place with its error.

    Raises what the critic raises, and `iqloop.errors.ImageError` for a reference that cannot be read.
    """
    if manner.by == "score":
        return _by_score(group, critic, batch_size, console, progress)
    return _by_comparison(group, critic, manner, console, progress)


@dataclass
class Once:
    """Scores each image once, however many files hold it, and gives each file the hash of its pixels as well."""

    critic: Critic
    known: dict[str, Rating | Unparsed] = field(default_factory=dict)

    def score(self, images: Sequence[Tensor]) -> list[tuple[str, Rating | Unparsed]]:
        """Of each image the hash of its pixels, and its rating."""
        from iqloop.agents import pixel_hash

        hashes = [pixel_hash(image) for image in images]
        new = {name: image for name, image in zip(hashes, images, strict=True) if name not in self.known}
        if new:
            self.known.update(zip(new, self.critic.score(list(new.values())), strict=True))
        return [(name, self.known[name]) for name in hashes]


def _by_score(group: Group, critic: Critic, batch_size: int, console: Console, progress: Progress) -> Result:
    """Only a batch's images are in memory."""
    from iqloop.agents import rank_ratings
    from iqloop.critic.verdicts import Unparsed

    ratings: list[Rating | Unparsed] = []
    errors: dict[int, str] = {}
    hashes: dict[int, str] = {}
    complete = True
    answers = ask_in_batches(group.sources, Once(critic).score, batch_size, console)
    for index, (source, found) in enumerate(answers):
        if isinstance(found, Exception):
            complete &= isinstance(found, ImageError)
            errors[index] = _reason(source, found, console)
            ratings.append(Unparsed("", errors[index]))
        else:
            hashes[index], rating = found
            ratings.append(rating)
            if isinstance(rating, Unparsed):
                complete = False
                errors[index] = f"the critic's answer could not be read: {rating.reason}"
        progress(index + 1, len(group.sources))
    copies = _copies(group, hashes)
    places = []
    for place in rank_ratings(ratings, critic.lower_better):
        rating, path = ratings[place.index], group.sources[place.index].shown
        if place.rank is None or isinstance(rating, Unparsed):
            places.append(Place(path, None, None, error=errors.get(place.index, place.error)))
        else:
            copy = copies.get(place.index)
            places.append(Place(path, place.rank, rating.mean, rating.std or None, rating.mean, copy_of=copy))
    return _result(group, critic, "score", places, complete)


def _by_comparison(group: Group, critic: Critic, manner: Manner, console: Console, progress: Progress) -> Result:
    """All images of the group are in memory: any of them may meet any other."""
    from iqloop.agents import pixel_hash, rank

    reference = None if group.reference is None else _pixels(group.reference, console)
    images: dict[int, Tensor] = {}
    errors: list[Place] = []
    for index, source in enumerate(group.sources):
        try:
            images[index] = _pixels(source, console)
        except ImageError as error:
            errors.append(Place(source.shown, None, None, error=_reason(source, error, console)))
    copies = _copies(group, {index: pixel_hash(image) for index, image in images.items()})
    ranking = rank(
        list(images.values()),
        critic,
        by=manner.by,
        reference=reference,
        top=manner.top,
        max_comparisons=manner.max_comparisons,
        seed=manner.seed,
        on_progress=progress,
    )
    positions = list(images)
    paths = [group.sources[position].shown for position in positions]
    places = [
        _place(place, paths[place.index], copies.get(positions[place.index]), ranking.matches)
        for place in ranking.places
    ]
    complete = all(place.rank is not None for place in places)
    return _result(group, critic, ranking.by, [*places, *errors], complete, ranking, paths)


def _place(place: Ranked, path: str, copy: str | None, matches: Sequence[Match]) -> Place:
    count = sum(place.index in (match.a, match.b) for match in matches)
    return Place(path, place.rank, place.strength, place.standard_error, place.score, count, copy, place.error)


def _result(
    group: Group,
    critic: Critic,
    by: By,
    places: Sequence[Place],
    complete: bool,
    ranking: Ranking | None = None,
    paths: Sequence[str] = (),
) -> Result:
    reference = None if group.reference is None else group.reference.shown
    first = (group.name, by, critic.name, critic.lower_better, reference, tuple(places))
    if ranking is None:
        return Result(*first, complete=complete)
    duels = tuple(_duel(match, paths) for match in ranking.matches if match.decisive)
    return Result(
        *first,
        duels,
        comparisons=ranking.comparisons,
        unparsed=ranking.unparsed,
        position_bias=ranking.position_bias,
        disagreements=ranking.disagreements,
        note=ranking.note,
        complete=complete,
    )


def _duel(match: Match, paths: Sequence[str]) -> Duel:
    said = match.preference
    return Duel(
        paths[match.a],
        paths[match.b],
        said.choice,
        said.probability,
        said.reasoning,
        said.position_bias,
        match.round,
    )


def _copies(group: Group, hashes: dict[int, str]) -> dict[int, str]:
    """Of each image whose pixels an earlier one has, that one's name."""
    first: dict[str, int] = {}
    for index, name in hashes.items():
        first.setdefault(name, index)
    return {index: group.sources[first[name]].shown for index, name in hashes.items() if first[name] != index}


def _pixels(source: Input, console: Console) -> Tensor:
    return first_frame(source.read(), source, console)


def _reason(source: Input, error: Exception, console: Console) -> str:
    if console.verbose:
        traceback.print_exception(error)
    return reason_for(source.shown, error)
