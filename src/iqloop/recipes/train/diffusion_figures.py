"""What an adapter changed on images that it was not trained on, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from iqloop.critic.evaluation.bootstrap import ratio

if TYPE_CHECKING:
    from iqloop.restorers.diffusion.held_out import Measured


class Change(NamedTuple):
    """A figure on the same images before and after."""

    before: float
    after: float
    change: float
    """Mean difference, after less before."""
    low: float | None
    """That difference's interval of 95 %, by a bootstrap over the images; None for a single one, or where one of them
    could not be judged."""
    high: float | None

    def __str__(self) -> str:
        shown = f"{self.change:+.3g}"
        return shown if self.low is None or self.high is None else f"{shown} [{self.low:+.3g}, {self.high:+.3g}]"


def changes(before: Measured, after: Measured, seed: int = 0) -> dict[str, Change]:
    """Each figure that both have, of the same images in the same order; ``seed`` is of the bootstrap."""
    found = {}
    for name, first in before.items():
        last = after[name]
        differences = [late - early for early, late in zip(first, last, strict=True)]
        estimate = ratio(differences, [1.0] * len(differences), seed=seed)
        known = math.isfinite(estimate.value or 0.0)
        low, high = (estimate.low, estimate.high) if known else (None, None)
        found[name] = Change(fmean(first), fmean(last), fmean(differences), low, high)
    return found


def document(said: Mapping[str, Any], found: Mapping[str, Change]) -> bytes:
    """``result.json``."""
    table = {name: {key: value and plain(value) for key, value in row._asdict().items()} for name, row in found.items()}
    return (json.dumps({**said, "table": table}, indent=2) + "\n").encode()


def plain(value: float) -> float | None:
    """A number as JSON knows it: what is none is null."""
    return value if math.isfinite(value) else None
