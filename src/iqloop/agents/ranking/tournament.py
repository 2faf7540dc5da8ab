"""Ways to hold comparisons: knockout for the best, Swiss or round robin for an order, near ties where scores are known.

A table is asked for outcomes and keeps them; what each way leaves in it is fitted by
`iqloop.agents.ranking.bradley_terry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from iqloop.agents.ranking.bradley_terry import WEAK, Fit, fit
from iqloop.agents.ranking.pairing import Pair, contenders, knockout_round, near_ties, round_robin, swiss_round

Ask = Callable[[Sequence[Pair], int], Sequence[float | None]]
"""Outcomes for the first of each pair, in [0, 1], None where no answer could be read; told the round too, from 1."""


class Table:
    """Who met whom with what outcome, within a budget of comparisons."""

    def __init__(
        self,
        count: int,
        ask: Ask,
        budget: int,
        prior_means: ArrayLike = 0.0,
        prior_deviations: ArrayLike = WEAK,
    ) -> None:
        self.count = count
        self.budget = min(budget, count * (count - 1) // 2)
        self.round = 0
        self.asked = 0
        self.met = np.zeros((count, count), bool)
        """Who was compared with whom, whether or not the answer could be read."""
        self.pairs: list[Pair] = []
        """Those whose answer could be read."""
        self.outcomes: list[float] = []
        self._ask = ask
        self._prior = (prior_means, prior_deviations)

    def play(self, pairs: Sequence[Pair]) -> list[float | None]:
        """One round of them, or of as many as the budget allows; the outcomes of those."""
        pairs = pairs[: self.budget - self.asked]
        if not pairs:
            return []
        self.round += 1
        self.asked += len(pairs)
        outcomes = list(self._ask(pairs, self.round))
        for (a, b), outcome in zip(pairs, outcomes, strict=True):
            self.met[a, b] = self.met[b, a] = True
            if outcome is not None:
                self.pairs.append((a, b))
                self.outcomes.append(outcome)
        return outcomes

    def fit(self) -> Fit:
        """The strengths as far as they are known."""
        return fit(self.count, self.pairs, self.outcomes, *self._prior)


def knockout(table: Table, draw: Sequence[int]) -> list[int]:
    """N - 1 matches for the best of N.

    Args:
        table: with a budget of N - 1; a smaller one ends the knockout early.
        draw: the bracket. Its lot decides ties and answers that could not be read: the one who stands first goes on.

    Returns of each in how many rounds it was let through; the winner has most.
    """
    reached = [0] * table.count
    standing = list(draw)
    while len(standing) > 1:
        pairs, through = knockout_round(standing)
        outcomes = table.play(pairs)
        if len(outcomes) < len(pairs):
            break
        won = [b if y is not None and y < 0.5 else a for (a, b), y in zip(pairs, outcomes, strict=True)]
        standing = through + won
        for one in standing:
            reached[one] += 1
    return reached


def swiss(table: Table, draw: Sequence[int], top: int | None = None) -> None:
    """``ceil(log2 N) + 1`` rounds between neighbours of the order so far; the first as drawn.

    With ``top``, whoever is surely not among so many best is no longer paired.
    """
    for _ in range(swiss_rounds(table.count)):
        known = table.fit()
        able = contenders(known, top)
        order = [one for one in sorted(draw, key=lambda one: -round(float(known.strengths[one]), 6)) if able[one]]
        table.play(swiss_round(order, table.met))


def swiss_rounds(count: int) -> int:
    """Of a Swiss tournament of so many."""
    return math.ceil(math.log2(count)) + 1 if count > 1 else 0


def everyone(table: Table) -> None:
    """Round robin: everyone meets everyone once."""
    for pairs in round_robin(table.count):
        table.play(pairs)


def hybrid(table: Table, top: int | None = None) -> None:
    """Near ties, until none is left or the budget is spent; what is known beforehand is the table's prior."""
    while table.play(near_ties(table.fit(), table.met, top)):
        pass
