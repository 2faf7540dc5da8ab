"""Which weights of a run are kept: the best by a held-out judge, as near to the originals as at the start, or nearly.

What a net was rewarded for says little of it: it may have learned to deceive. So another judge chooses, and only among
weights whose PSNR is not much lower than that of the weights that the run began with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from torch import Tensor, nn

from iqloop.errors import UsageError

LEAST = 1e-4
"""What a figure's mean must differ by to count as better."""


@dataclass(frozen=True)
class Guard:
    """By what weights are chosen, and when a run ends early. Raises `UsageError` when a number is out of range."""

    figure: str
    """``psnr``, ``ssim`` or the name of a judge; not that of the reward."""
    lower_better: bool = False
    psnr_loss: float = 0.3
    """dB that the mean PSNR may be lower than at the start."""
    patience: int = 5
    """Training ends after so many measurements without better weights."""

    def __post_init__(self) -> None:
        if not 0 <= self.psnr_loss < math.inf:
            raise UsageError(f"psnr_loss must be at least 0 dB, got {self.psnr_loss}")
        if self.patience < 1:
            raise UsageError(f"patience must be at least 1, got {self.patience}")


class Kept(NamedTuple):
    """Weights, and what they did to the held-out photographs."""

    step: int
    """After which they were measured; 0 is the start."""
    figures: dict[str, float]
    weights: dict[str, Tensor]


class Keeper:
    """Keeps the best weights of a run."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.first: dict[str, float] = {}
        """Figures of the weights that the run began with."""
        self.best = Kept(0, {}, {})
        self.stale = 0
        """Measurements since the best."""

    @property
    def stopped(self) -> bool:
        """Whether the run has come to its end early."""
        return self.stale >= self.guard.patience

    def look(self, step: int, figures: dict[str, float], net: nn.Module) -> None:
        """Compare the weights of a step, of which these are the figures (`validation.figures`), with the best."""
        begins = not self.first
        if begins:
            self.first = figures
        self.stale = 0 if begins else self.stale + 1
        if begins or preferable(figures, self.best.figures, self.first, self.guard):
            weights = {name: value.detach().to("cpu", copy=True) for name, value in net.state_dict().items()}
            self.best, self.stale = Kept(step, figures, weights), 0

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, for a file."""
        return {"first": self.first, "best": self.best._asdict(), "stale": self.stale}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.first, self.best, self.stale = state["first"], Kept(**state["best"]), state["stale"]


def preferable(found: Mapping[str, float], best: Mapping[str, float], first: Mapping[str, float], guard: Guard) -> bool:
    """Whether weights with these figures take the place of the best so far; ``first`` are those of the start."""
    better = mean_of(found, guard.figure), mean_of(best, guard.figure)
    return is_better(*better, guard) and is_near(mean_of(found, "psnr"), mean_of(first, "psnr"), guard)


def is_better(found: float, best: float, guard: Guard) -> bool:
    """Whether the guard's figure has become better."""
    return (found - best) * (-1 if guard.lower_better else 1) > LEAST


def is_near(found: float, first: float, guard: Guard) -> bool:
    """Whether the PSNR in dB is not much lower than at the start."""
    return found >= first - guard.psnr_loss


def mean_of(figures: Mapping[str, float], name: str) -> float:
    """Mean over the checks of a figure of the outputs: of ``NAME/CHECK/output``."""
    return fmean(value for key, value in figures.items() if key.rsplit("/", 2)[::2] == [name, "output"])
