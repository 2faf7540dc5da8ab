"""Keeping the record of a run: candidates and steps for the trace, events for those who listen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from iqloop.agents.candidate import Candidate, pixel_hash
from iqloop.agents.diagnosis import Suspect
from iqloop.agents.events import Event, EventKind, Listener
from iqloop.agents.records import CandidateRecord, StepKind, StepRecord, TryRecord
from iqloop.critic.verdicts import Degradation, Unparsed
from iqloop.restorers.tool import Treatment


class Journal:
    """Records of one run; it holds no pixels."""

    def __init__(self, original: Candidate, on_event: Listener | None = None) -> None:
        self.on_event = on_event
        self.steps: list[StepRecord] = []
        self.candidates: list[CandidateRecord] = [_record(original, None, None)]
        self._told = 0

    def add(self, image: Tensor, parent: Candidate, tool: str, treatment: Treatment | None) -> Candidate:
        """Name an image ``(3, H, W)`` made from ``parent``; ``treatment`` None for bicubic interpolation."""
        candidate = Candidate(
            id=f"c{len(self.candidates)}",
            image=image,
            sha256=pixel_hash(image),
            # Bicubic interpolation is the way to the size asked for, not a restoration that was accepted.
            tools=parent.tools if treatment is None else (*parent.tools, tool),
            treated=parent.treated if treatment is None else (*parent.treated, treatment),
        )
        self.candidates.append(_record(candidate, parent.id, tool))
        return candidate

    def close_step(
        self,
        kind: StepKind,
        suspect: Suspect,
        start: Candidate,
        perceived: Degradation | Unparsed | None,
        tries: Sequence[TryRecord],
        taken: Candidate | None,
    ) -> None:
        """Record a step with its outcome; ``taken`` is the new current best, if there is one."""
        treatment = suspect.treatment
        # Nobody perceives how much a size lacks.
        severity = None if kind == "upscale" else suspect.severity
        marked = tuple(_mark_taken(attempt, taken) for attempt in tries)
        decision = _decide(kind, treatment, marked, taken)
        number = len(self.steps) + 1
        name = None if taken is None else taken.id
        self.steps.append(
            StepRecord(number, kind, treatment, severity, suspect.promise, start.id, perceived, marked, name, decision)
        )
        self.tell("decided", decision, number, treatment, candidate=taken)

    def untold(self) -> Iterator[StepRecord]:
        """The records of steps that were closed since this was last asked for."""
        while self._told < len(self.steps):
            self._told += 1
            yield self.steps[self._told - 1]

    def tell(
        self,
        kind: EventKind,
        message: str,
        step: int = 0,
        treatment: Treatment | None = None,
        tool: str | None = None,
        candidate: Candidate | None = None,
    ) -> None:
        """Send an event to the listener, if there is one."""
        if self.on_event is not None:
            self.on_event(Event(kind, message, step, treatment, tool, candidate))


def _record(candidate: Candidate, parent: str | None, tool: str | None) -> CandidateRecord:
    height, width = candidate.size
    return CandidateRecord(candidate.id, parent, tool, candidate.sha256, width, height)


def _mark_taken(attempt: TryRecord, taken: Candidate | None) -> TryRecord:
    return attempt if taken is None or attempt.candidate != taken.id else replace(attempt, decision="taken")


def _decide(kind: StepKind, treatment: Treatment, tries: Sequence[TryRecord], taken: Candidate | None) -> str:
    if taken is not None:
        return f"{taken.id} by {taken.tools[-1]} is the new best"
    fallback = ": bicubic interpolation is used" if kind == "upscale" else ": nothing changes"
    if not tries:
        return f"no tool was tried for {treatment}{fallback}"
    return f"none of {len(tries)} tries was accepted{fallback}"
