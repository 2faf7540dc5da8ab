"""Exhaustive search: every order of the planned tools and of every part of them.

The plan is that of the input: of each suspect the tool first in line, or the tools that the user named. An output is
gone on from whether or not it was accepted, since a step that looks bad alone may pay later; each is judged against
the current best and the input. n tools mean n + n (n - 1) + ... + n! outputs (3: 15, 4: 64): budgets hold.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from iqloop.agents.candidate import Candidate
from iqloop.agents.diagnosis import Suspect
from iqloop.agents.records import StepRecord
from iqloop.agents.search import Search, Steps
from iqloop.agents.toolbox import Entry
from iqloop.critic.verdicts import Unparsed

Planned = tuple[Suspect, Entry]


def exhaustive(search: Search) -> Steps:
    """Depth first, in the plan's order; the best of all outputs is the result."""
    perceived = search.begin()
    if isinstance(perceived, Unparsed):
        return "unparsed"
    plan = search.plan(perceived, search.original)
    planned: list[Planned] = []
    for suspect in plan:
        entries = search.entries(suspect)
        if entries:
            planned.append((suspect, entries[0]))
        else:
            search.skip(suspect, search.original, perceived)
            yield from search.journal.untold()
    yield from _below(search, search.original, planned, {search.original.sha256})
    suspected = bool(plan)
    if search.best is not search.original:
        last = search.perceive(search.best)
        suspected = not isinstance(last, Unparsed) and search.suspected(last)
    return search.conclude(suspected, bool(planned))


def _below(
    search: Search, start: Candidate, planned: Sequence[Planned], seen: set[str]
) -> Generator[StepRecord, None, None]:
    for place, (suspect, entry) in enumerate(planned):
        outputs = search.step("treat", suspect, start, None, [entry], search.best)
        yield from search.journal.untold()
        for output in outputs:
            # Two ways to one picture go on alike.
            if output.candidate.sha256 not in seen:
                seen.add(output.candidate.sha256)
                yield from _below(search, output.candidate, [*planned[:place], *planned[place + 1 :]], seen)
