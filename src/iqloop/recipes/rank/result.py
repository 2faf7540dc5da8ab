"""What came of ranking one group, in a form that can be kept, printed and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqloop.agents.ranking import By


@dataclass(frozen=True)
class Place:
    """One image."""

    path: str
    rank: int | None
    """1 is best; images that are as good share the better rank; None for one that could not be ranked."""
    strength: float | None
    """The mean rating by score, else the log-strength."""
    standard_error: float | None = None
    """Of the strength; by score the rating's own deviation."""
    score: float | None = None
    """The critic's mean rating, where it was asked."""
    comparisons: int = 0
    """In how many it stood."""
    copy_of: str | None = None
    """The image before it whose pixels it has."""
    error: str | None = None
    """Why there is no rank."""


@dataclass(frozen=True)
class Duel:
    """A comparison that decided something."""

    a: str
    b: str
    choice: str
    """A, B or similar."""
    probability: float
    """That A is better."""
    reasoning: str
    position_bias: float | None
    round: int


@dataclass(frozen=True)
class Result:
    """One group."""

    group: str | None
    """None when all images were one."""
    by: By
    critic: str
    lower_better: bool
    """Of the scores."""
    reference: str | None
    places: tuple[Place, ...]
    """Best first, then what could not be ranked."""
    duels: tuple[Duel, ...] = ()
    """The decisive ones."""
    comparisons: int = 0
    unparsed: int = 0
    """Comparisons whose answer could not be read."""
    position_bias: float | None = None
    """Mean over the comparisons; None when nothing was shown side by side."""
    disagreements: float | None = None
    """Share of the comparisons whose two orders disagreed."""
    note: str | None = None
    """What was done otherwise than asked, and why."""
    complete: bool = True
    """Every image that could be read has a rank."""

    @property
    def ranked(self) -> tuple[Place, ...]:
        """The images that have a rank, best first."""
        return tuple(place for place in self.places if place.rank is not None)

    @property
    def failed(self) -> tuple[Place, ...]:
        """The others."""
        return tuple(place for place in self.places if place.rank is None)


def as_document(result: Result) -> dict[str, Any]:
    """As JSON has it."""
    return asdict(result)


def from_document(document: Mapping[str, Any]) -> Result:
    """What `as_document` made. Raises KeyError or TypeError for anything else."""
    places = tuple(Place(**place) for place in document["places"])
    duels = tuple(Duel(**duel) for duel in document["duels"])
    return Result(**{**document, "places": places, "duels": duels})


def totals(results: Sequence[Result]) -> str:
    """One line on what it stands on: comparisons asked, position bias, disagreements, answers that were not read."""
    asked = sum(result.comparisons for result in results)
    ways = " and ".join(sorted({result.by for result in results}))
    if not asked:
        return f"by {ways}, no comparisons"
    said = [f"by {ways}, {asked} comparison{'' if asked == 1 else 's'} in both orders"]
    for name, shown in (("position_bias", "position bias {:+.3f}"), ("disagreements", "{:.0%} disagreements")):
        told = [(getattr(one, name), one.comparisons) for one in results if getattr(one, name) is not None]
        if told:
            mean = sum(value * count for value, count in told) / sum(count for _, count in told)
            said.append(shown.format(mean))
    return ", ".join([*said, f"{sum(result.unparsed for result in results)} unparsed"])
