"""From what was asked about entrants to the places of all images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from iqloop.agents.ranking.entrants import Entrants
from iqloop.agents.ranking.matches import Matches
from iqloop.agents.ranking.places import By, Match, Ranked, Ranking, fault_of, rank_ratings
from iqloop.agents.ranking.tournament import Table
from iqloop.critic.verdicts import Rating, Unparsed

EQUAL = 1e-6
"""Strengths that differ by less differ by rounding only."""


def by_score(entrants: Entrants, ratings: Sequence[Rating | Unparsed], lower_better: bool) -> Ranking:
    """The order of the entrants' ratings."""
    found: dict[int, Rating | Unparsed] = {index: Unparsed("", why) for index, why in entrants.faults.items()}
    for places, rating in zip(entrants.places, ratings, strict=True):
        found |= dict.fromkeys(places, rating)
    return Ranking(tuple(rank_ratings([found[index] for index in range(len(found))], lower_better)), "score")


def by_strength(
    entrants: Entrants,
    ratings: Sequence[Rating | Unparsed],
    table: Table,
    reached: Sequence[int],
    matches: Matches,
    by: By,
) -> Ranking:
    """The order of strengths, below that of the rounds that each reached in a knockout.

    Args:
        entrants: whom the others number.
        ratings: of each, or none at all.
        table: the comparisons.
        reached: of each; all 0 where there was no knockout.
        matches: what the critic said.
        by: how they came about.
    """
    fit = table.fit()
    compared = {one for pair in table.pairs for one in pair}
    faults = dict(entrants.faults)
    able: list[int] = []
    for one, places in enumerate(entrants.places):
        fault = "" if one in compared else _why_unknown(one, ratings, table)
        faults |= dict.fromkeys(places, fault) if fault else {}
        able += [] if fault else [one]
    mean = np.average(fit.strengths[able], weights=[len(entrants.places[one]) for one in able]) if able else 0.0
    groups = _groups([(reached[one], float(fit.strengths[one] - mean), one) for one in able])
    ranked: list[Ranked] = []
    for group in groups:
        rank = len(ranked) + 1
        members = [(index, number) for number in group for index in entrants.places[number]]
        for index, number in sorted(members):
            rating = ratings[number] if ratings else None
            score = rating.mean if isinstance(rating, Rating) and not fault_of(rating) else None
            strength, error = float(fit.strengths[number] - mean), float(fit.standard_errors[number])
            ranked.append(Ranked(index, rank, strength, None, error, score))
    ranked += [Ranked(index, None, None, faults[index]) for index in sorted(faults)]
    order = [one for group in groups for one in sorted(group, key=lambda one: entrants.places[one])]
    return Ranking(
        tuple(ranked),
        by,
        _matches(entrants, matches, order, final=_final(reached)),
        len(matches.unread),
        matches.position_bias,
        matches.disagreements,
    )


def _matches(entrants: Entrants, matches: Matches, order: Sequence[int], final: int | None) -> tuple[Match, ...]:
    neighbours = {frozenset(pair) for pair in pairwise(order)}
    found = []
    for held in matches.held:
        a, b = (entrants.places[one][0] for one in held.pair)
        decisive = frozenset(held.pair) in neighbours or held.round == final
        found.append(Match(a, b, held.preference, held.round, decisive))
    return tuple(found)


def _final(reached: Sequence[int]) -> int | None:
    """The round that decided a knockout; None when there was none, or it was not played to its end."""
    last = max(reached)
    return last if last and list(reached).count(last) == 1 else None


def _groups(keys: Sequence[tuple[int, float, int]]) -> list[list[int]]:
    """Of rounds reached, strength and number: the numbers, best first, equals together."""
    groups: list[list[int]] = []
    before: tuple[int, float] | None = None
    for reached, strength, one in sorted(keys, key=lambda key: (-key[0], -key[1])):
        if before is not None and before[0] == reached and before[1] - strength < EQUAL:
            groups[-1].append(one)
        else:
            groups.append([one])
        before = (reached, strength)
    return groups


def _why_unknown(one: int, ratings: Sequence[Rating | Unparsed], table: Table) -> str:
    """Why nothing is known of an entrant of whom no comparison could be read; empty when something is."""
    if ratings:
        return fault_of(ratings[one])
    asked = int(table.met[one].sum())
    return f"none of its {asked} comparisons could be read" if asked else ""
