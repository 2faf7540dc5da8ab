"""The figures of ``iqloop bench restore``: means and shares with intervals of 95 %, from the rows alone.

Every interval is a bootstrap over photographs: what was measured on one stays together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from iqloop.critic.evaluation.bootstrap import ratio
from iqloop.critic.evaluation.correlation import RESAMPLES, Estimate
from iqloop.recipes.bench.restore.judge import Judged
from iqloop.recipes.bench.restore.measure import METHODS, Row

MEANS = ("psnr", "ssim", "gmsd", "gain", "worse", "score", "tool_calls", "critic_calls", "seconds")
"""Fields of a row whose means are told; ``worse`` becomes a rate."""
ALL, DARK, LIT = "all mixtures", "with darkening", "without darkening"


@dataclass(frozen=True)
class Figures:
    """One method on some cases."""

    cases: int
    means: Mapping[str, Estimate]
    """For each of `MEANS`."""
    share: Estimate
    """Of the oracle's gain in dB over all the cases."""
    calls: Estimate
    """Tool calls over the oracle's."""


def figures(rows: Sequence[Row], method: str, seed: int = 0, resamples: int = RESAMPLES) -> Figures:
    """Those of one method; ``rows`` holds all methods on the same cases."""
    own = [row for row in rows if row.method == method]
    best = [row for row in rows if row.method == "oracle"]

    def over(some: Iterable[Row], field: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for row in some:
            values = found.setdefault(row.photo, [])
            value = getattr(row, field)
            if value is not None:
                values.append(float(value))
        return found

    def estimate(above: dict[str, list[float]], below: Callable[[str], float]) -> Estimate:
        return ratio([sum(values) for values in above.values()], [below(photo) for photo in above], resamples, seed)

    def mean(field: str) -> Estimate:
        values = over(own, field)
        return estimate(values, lambda photo: len(values[photo]))

    def share(field: str) -> Estimate:
        most = over(best, field)
        return estimate(over(own, field), lambda photo: sum(most[photo]))

    return Figures(len(own), {name: mean(name) for name in MEANS}, share("gain"), share("tool_calls"))


def subsets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by what is told together: all mixtures, with and without darkening, and what is no mixture of ours."""
    damaged = [row for row in rows if row.treatments]
    found = {
        ALL: damaged,
        DARK: [row for row in damaged if "darken" in row.treatments],
        LIT: [row for row in damaged if "darken" not in row.treatments],
    }
    for group in dict.fromkeys(row.group for row in rows):
        found[group] = [row for row in rows if row.group == group]
    return {name: own for name, own in found.items() if own}


def by_mixture(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each mixture, in the order in which they were measured."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.mixture, []).append(row)
    return found


def agreement(judged: Mapping[str, Sequence[Judged]], seed: int = 0) -> dict[str, Estimate]:
    """How often the judge is right: of all outputs, of those that it was asked about, of the better, of the worse ones.

    Args:
        judged: by photograph.
        seed: of the bootstrap.
    """
    kinds: dict[str, Callable[[Judged], bool]] = {
        "all": lambda one: True,
        "asked": lambda one: one.asked,
        "better": lambda one: one.gain > 0,
        "worse": lambda one: one.gain < 0,
    }
    found = {}
    for name, counts in kinds.items():
        kept = [[one for one in some if counts(one)] for some in judged.values()]
        found[name] = ratio([sum(one.right for one in some) for some in kept], [len(some) for some in kept], seed=seed)
    return found


def worst(rows: Sequence[Row], count: int = 5) -> list[tuple[Row, Row]]:
    """The agent's rows that fall farthest behind the oracle's in dB, each with the oracle's."""
    best = {(row.photo, row.mixture): row for row in rows if row.method == "oracle"}
    own = [(row, best[row.photo, row.mixture]) for row in rows if row.method == "agent"]
    return sorted(own, key=lambda pair: pair[0].psnr - pair[1].psnr)[:count]


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """How often the agent stopped for which reason, the most frequent first."""
    return dict(Counter(row.stop_reason for row in rows if row.stop_reason is not None).most_common())


def summary(rows: Sequence[Row], judged: Mapping[str, Sequence[Judged]] | None, seed: int) -> dict[str, Any]:
    """All figures as JSON types; ``judged`` None when the judge was not asked."""

    def fields(some: Sequence[Row]) -> dict[str, Any]:
        return {method: asdict(figures(some, method, seed)) for method in METHODS}

    return {
        "photographs": len({row.photo for row in rows}),
        "cases": len(rows) // len(METHODS),
        "bootstrap": {"over": "photographs", "resamples": RESAMPLES, "seed": seed, "level": 0.95},
        "subsets": {name: fields(own) for name, own in subsets(rows).items()},
        "mixtures": {name: fields(own) for name, own in by_mixture(rows).items()},
        "stop_reasons": reasons(rows),
        "judge": None
        if judged is None
        else {
            "outputs": sum(map(len, judged.values())),
            **{name: asdict(one) for name, one in agreement(judged, seed).items()},
        },
    }
