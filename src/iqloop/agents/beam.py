"""Beam search: of all accepted outputs of a round the best few are each gone on from.

A round tries every suspect of every candidate in the beam, in plan order, so that two orders of the same treatments
meet.
An output must beat the candidate that it was made from, and the input, to enter the next round; the best of all rounds
by score is the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqloop.agents.candidate import Candidate
from iqloop.agents.search import Output, Search, Steps
from iqloop.critic.verdicts import Degradation, Unparsed


@dataclass(frozen=True)
class _Node:
    candidate: Candidate
    perceived: Degradation | None


def beam(search: Search, width: int) -> Steps:
    """Rounds of the ``width`` best accepted outputs, until a round has none."""
    perceived = search.begin()
    if isinstance(perceived, Unparsed):
        return "unparsed"
    front = [_Node(search.original, perceived)]
    suspected = treatable = False
    seen = {search.original.sha256}
    while front:
        found: list[Output] = []
        for node in front:
            for suspect in search.plan(node.perceived, node.candidate):
                suspected = True
                entries = search.entries(suspect)
                if not entries:
                    search.skip(suspect, node.candidate, node.perceived)
                else:
                    treatable = True
                    found += search.step("treat", suspect, node.candidate, node.perceived, entries, node.candidate)
                yield from search.journal.untold()
        front = []
        for output in sorted(found, key=lambda output: -output.goodness):
            candidate = output.candidate
            if not output.accepted or candidate.sha256 in seen or len(front) == width:
                continue
            seen.add(candidate.sha256)
            looked = search.perceive(candidate)
            if not isinstance(looked, Unparsed):
                front.append(_Node(candidate, looked))
    if search.best is not search.original:
        last = search.perceive(search.best)
        suspected = not isinstance(last, Unparsed) and search.suspected(last)
    return search.conclude(suspected, treatable)
