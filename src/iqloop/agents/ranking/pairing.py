"""Who meets whom next: the rounds of a knockout, of a Swiss tournament, of a round robin, and the nearest ties.

Every function gives the pairs of one round, in which nobody stands twice, so that a round can be asked at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iqloop.agents.ranking.bradley_terry import Fit

Pair = tuple[int, int]
"""Two different contestants, from 0."""
Flags = NDArray[np.bool_]

SURE = 0.975
"""Probability from which one strength counts as greater than another: their difference's interval of 95 % lies on one
side of 0."""


def knockout_round(standing: Sequence[int]) -> tuple[list[Pair], list[int]]:
    """Neighbours meet; of an odd number the last one is let through, and is first in the list of those."""
    paired = len(standing) // 2 * 2
    return [(standing[i], standing[i + 1]) for i in range(0, paired, 2)], list(standing[paired:])


def swiss_round(order: Sequence[int], met: Flags) -> list[Pair]:
    """Each, from the best on, meets the nearest below whom it has not met; nobody meets anyone twice.

    Two who are left over because they have met change partners with a pair above them, the nearest first; where no
    pair allows it they sit the round out, and so does the last of an odd number.
    """
    pairs: list[Pair] = []
    waiting: list[int] = []
    for one in order:
        other = next((other for other in waiting if not met[other, one]), None)
        if other is None:
            waiting.append(one)
        else:
            waiting.remove(other)
            pairs.append((other, one))
    while len(waiting) > 1:
        a, b = waiting[-2:]
        del waiting[-2:]
        for at in reversed(range(len(pairs))):
            c, d = pairs[at]
            for first, second in (((c, a), (d, b)), ((c, b), (d, a))):
                if not met[first] and not met[second]:
                    pairs[at : at + 1] = [first, second]
                    break
            else:
                continue
            break
    return pairs


def round_robin(count: int) -> list[list[Pair]]:
    """Rounds in which everyone meets everyone once, by the circle method: one stays, the others move on by a place."""
    circle: list[int | None] = [*range(count), *([None] if count % 2 else [])]
    rounds: list[list[Pair]] = []
    for _ in range(len(circle) - 1):
        facing = zip(circle[: len(circle) // 2], reversed(circle[len(circle) // 2 :]), strict=True)
        rounds.append([(a, b) for a, b in facing if a is not None and b is not None])
        circle.insert(1, circle.pop())
    return [pairs for pairs in rounds if pairs]


def contenders(fit: Fit, top: int | None) -> Flags:
    """``(N,)``: who may yet be among the ``top`` best, that is, has fewer than so many who are surely better."""
    if top is None:
        return np.ones(len(fit.strengths), bool)
    return np.asarray((fit.certainties >= SURE).sum(0) < top)


def near_ties(fit: Fit, met: Flags, top: int | None = None) -> list[Pair]:
    """The pairs that are worth asking about, the most informative first.

    Of all who have not met, whose order is not sure, and who both may be among the ``top`` best. To first order, a
    comparison of i and j is expected to tell ``log(1 + p (1 - p) var(s_i - s_j)) / 2`` nats about the strengths, where
    p is the chance that i wins: nothing of pairs that are decided, most of those that are open and little known.
    """
    certain, chances = fit.certainties, fit.chances
    able = contenders(fit, top)
    open_ = (certain < SURE) & (certain > 1 - SURE) & ~met & able & able[:, None]
    first, second = np.nonzero(np.triu(open_, 1))
    worth = (chances * (1 - chances) * fit.variances)[first, second]
    pairs: list[Pair] = []
    free = np.ones(len(able), bool)
    for at in np.argsort(-worth, kind="stable"):
        a, b = int(first[at]), int(second[at])
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
    return pairs
