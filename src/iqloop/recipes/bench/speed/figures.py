"""What ``iqloop bench all`` finds, as data: tables of rows, curves of growth, and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from iqloop.recipes.bench.speed.rounds import Spread, exponent, spread, within_rounds

Fact = str | int | float | None
By = Literal["side", "count"]
"""What grows: the side of square images in pixels, or the number of images."""
Of = Literal["seconds", "peak MB"]


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    name: str
    seconds: Spread | None = None
    """Per image, megapixel or run, as its part says; None where something else than time was measured."""
    ratios: Mapping[str, Spread] = field(default_factory=dict)
    """Its time as a multiple of another's, taken within rounds, by the name of the other."""
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One table."""

    title: str
    about: str
    """The conditions: images, sizes, what stands beside what."""
    unit: str
    """Of the column of times, such as ``ms/image``; empty where there is none."""
    factor: float
    """That unit in a second."""
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Curve:
    """How something grows."""

    name: str
    by: By
    of: Of
    sizes: tuple[int, ...]
    values: tuple[Spread, ...]
    """At each size."""
    exponent: float
    """The k of ``value ~ size ** k``."""


@dataclass(frozen=True)
class Target:
    """Something promised, and what was measured."""

    name: str
    measured: float | None
    """None where it was not measured."""
    limit: float
    unit: str
    at_most: bool = True
    """Whether less is better."""

    @property
    def met(self) -> bool | None:
        """None when nothing was measured."""
        if self.measured is None:
            return None
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


@dataclass(frozen=True)
class Report:
    """All of it."""

    about: str
    """Critic, threads, rounds."""
    machine: str
    targets: tuple[Target, ...]
    parts: tuple[Part, ...]
    curves: tuple[Curve, ...]


def row(
    name: str,
    seconds: Mapping[str, Sequence[float]],
    bases: Mapping[str, str] | None = None,
    per: float = 1,
    facts: Mapping[str, Fact] | None = None,
) -> Row:
    """The row of one task.

    Args:
        name: of the task.
        seconds: of all tasks, round by round.
        bases: what it is held against: a task, by what its column is called.
        per: images or megapixels of a round, by which its seconds are divided.
        facts: what else there is to tell.
    """
    own = seconds[name]
    ratios = {shown: within_rounds(own, seconds[base]) for shown, base in (bases or {}).items()}
    return Row(name, spread([one / per for one in own]), ratios, facts or {})


def curve(name: str, by: By, of: Of, values: Mapping[int, Sequence[float]]) -> Curve:
    """The curve of the rounds' values at each size, two sizes at least."""
    spreads = tuple(spread(own) for own in values.values())
    return Curve(name, by, of, tuple(values), spreads, exponent(list(values), [one.median for one in spreads]))
