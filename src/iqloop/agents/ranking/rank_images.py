"""Images from best to worst: by a critic's scores, by its comparisons, or by scores and comparisons of near ties.

    >>> import numpy as np, iqloop
    >>> ramp = np.tile(np.linspace(0, 1, 64), (64, 1))
    >>> sorted(iqloop.rank([ramp, 1 - ramp, ramp], by="score").order)
    [0, 1, 2]

How many comparisons are held, and who meets whom: `iqloop.agents.ranking.tournament`. How they become strengths and
standard errors: `iqloop.agents.ranking.bradley_terry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from iqloop.agents.ranking.bradley_terry import WEAK
from iqloop.agents.ranking.entrants import gather
from iqloop.agents.ranking.matches import Matches, OnlyScores
from iqloop.agents.ranking.places import By, Ranked, Ranking, rank_ratings
from iqloop.agents.ranking.score_prior import score_prior
from iqloop.agents.ranking.standing import by_score, by_strength
from iqloop.agents.ranking.tournament import Table, everyone, hybrid, knockout, swiss, swiss_rounds
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Rating, Unparsed
from iqloop.errors import UsageError
from iqloop.io.reading import Source, read

if TYPE_CHECKING:
    from iqloop.critic.metric import Metric

SCORES_AT_ONCE = 8
"""Images in one question: as many as a critic reads in one forward unless told otherwise."""


def rank(
    images: Sequence[Source],
    critic: str | Path | Critic | Metric | None = None,
    *,
    by: By = "hybrid",
    reference: Source | None = None,
    top: int | None = None,
    max_comparisons: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Ranking:
    """Order images from best to worst.

    The result follows from the pixels and ``seed``, as far as the critic's answers do; the order of the input decides
    between equals alone. Images of equal pixels share a place and are asked about once. All are held in memory.

    Args:
        images: whatever `iqloop.read` takes, of any and mixed sizes; one that cannot be read comes last and says why.
            Scores are of the images as they are. For a comparison the smaller of two is enlarged (bicubic, in its own
            proportions) to as many pixels as the other has, as a viewer sees them who shows both equally large.
        critic: a name or a folder that `iqloop.create_critic` takes, a `Critic` or a `Metric`; None for the embedded
            critic.
        by: what the order stands on.

            - ``"score"``: one score each.
            - ``"comparison"``: comparisons alone, in both presentation orders. For ``top=1`` a knockout of N - 1
              matches, else ``ceil(log2 N) + 1`` Swiss rounds, or all pairs where these are no more than
              ``max_comparisons``.
            - ``"hybrid"``: scores, then comparisons of those that they leave open, the most informative first, until
              the order is sure or ``max_comparisons`` are spent. By score where the critic's comparisons would tell
              nothing new (`Ranking.note` says so).
        reference: the degraded input of which all are restorations; shown with each pair, at its size.
        top: how many best ones matter; the others get a place too, at less expense.
        max_comparisons: None for ``ceil(N log2 N)``.
        seed: of the draw.
        on_progress: told after each question how many were asked of how many at most, and at the end of how many.

    Raises:
        UsageError: an argument is none of these.
        ImageReadError: the reference cannot be read.
        CriticError: the critic cannot compare, and ``by="comparison"``; or it failed.
    """
    _check(images, by, top, max_comparisons)
    shown = None if reference is None else read(reference).pixels
    entrants = gather(images, seed)
    count = len(entrants.images)
    if not count:
        return replace(by_score(entrants, [], lower_better=False), by=by)
    judge = _find_critic(critic)
    budget = 0 if by == "score" else _budget(by, count, top, max_comparisons)
    progress = _Progress(on_progress, budget + (0 if by == "comparison" else count))
    ratings = [] if by == "comparison" else _rate(judge, entrants.images, progress)
    if by == "score":
        return by_score(entrants, ratings, judge.lower_better)
    try:
        matches = Matches(judge, entrants.images, shown, progress.advance)
        prior = score_prior(ratings, judge.lower_better) if by == "hybrid" else (0.0, WEAK)
        table = Table(count, matches.ask, budget, *prior)
        reached = _hold(table, by, top)
    except OnlyScores as error:
        if by == "comparison":
            raise
        ranking = replace(by_score(entrants, ratings, judge.lower_better), note=f"{error.why}: ranked by score")
    else:
        ranking = by_strength(entrants, ratings, table, reached, matches, by)
    progress.finish()
    return ranking


def rank_by_score(images: Sequence[Tensor], critic: Critic) -> list[Ranked]:
    """Rank images ``(3, H, W)`` in [0, 1] of any sizes by the critic's score, in one call."""
    return rank_ratings(critic.score(images), critic.lower_better) if images else []


class _Progress:
    """Counts questions for a listener."""

    def __init__(self, listener: Callable[[int, int], None] | None, total: int) -> None:
        self.done, self.total, self._listener = 0, total, listener

    def advance(self, count: int) -> None:
        self.done += count
        if self._listener is not None:
            self._listener(self.done, self.total)

    def finish(self) -> None:
        if self._listener is not None and self.done < self.total:
            self._listener(self.done, self.done)


def _check(images: object, by: str, top: int | None, max_comparisons: int | None) -> None:
    if isinstance(images, str | bytes | Path):
        raise UsageError(f"expected a sequence of images, got one {type(images).__name__}: put it into a list")
    if by not in get_args(By):
        raise UsageError(f"by must be {', '.join(get_args(By)[:-1])} or {get_args(By)[-1]}, got {by!r}")
    if top is not None and top < 1:
        raise UsageError(f"top must be at least 1, or None for all, got {top}")
    if max_comparisons is not None and max_comparisons < 0:
        raise UsageError(f"max_comparisons must be at least 0, or None for N log2 N, got {max_comparisons}")


def _find_critic(critic: str | Path | Critic | Metric | None) -> Critic:
    from iqloop.critic.known import DEFAULT, create_critic
    from iqloop.critic.metric import Metric

    if critic is None or isinstance(critic, str | Path):
        return create_critic(critic or DEFAULT)
    if isinstance(critic, Metric):
        return critic.critic
    if not isinstance(critic, Critic):
        raise UsageError(f"expected a critic's name, a folder, a Critic or a Metric, got {type(critic).__name__}")
    return critic


def _budget(by: By, count: int, top: int | None, limit: int | None) -> int:
    """The most comparisons that this way of ranking holds."""
    pairs = count * (count - 1) // 2
    most = math.ceil(count * math.log2(count)) if limit is None else limit
    if by == "comparison" and top == 1:
        return min(most, count - 1)
    if by == "comparison" and most < pairs:
        return min(most, swiss_rounds(count) * (count // 2))
    return min(most, pairs)


def _hold(table: Table, by: By, top: int | None) -> Sequence[int]:
    """The comparisons; in how many rounds of a knockout each was let through, and 0 without one."""
    if by == "hybrid":
        hybrid(table, top)
    elif top == 1:
        return knockout(table, range(table.count))
    elif table.budget == table.count * (table.count - 1) // 2:
        everyone(table)
    else:
        swiss(table, range(table.count), top)
    return [0] * table.count


def _rate(critic: Critic, images: Sequence[Tensor], progress: _Progress) -> list[Rating | Unparsed]:
    ratings: list[Rating | Unparsed] = []
    for start in range(0, len(images), SCORES_AT_ONCE):
        piece = images[start : start + SCORES_AT_ONCE]
        with torch.no_grad():
            ratings += critic.score(piece)
        progress.advance(len(piece))
    return ratings
