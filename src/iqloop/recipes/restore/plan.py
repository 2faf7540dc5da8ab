"""``restore --dry-run``: what is wrong with a file, and what would be tried first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iqloop.recipes.restore.file import Restored, restore_fields, told
from iqloop.recipes.restore.jobs import Job, Manner, check

if TYPE_CHECKING:
    from iqloop.agents import Event, Toolbox
    from iqloop.critic.protocol import Critic


@dataclass(frozen=True)
class PlannedStep:
    """One degradation that would be treated."""

    treatment: str
    severity: float
    """Expected severity in [0, 5]."""
    promise: float | None
    """Probability that the first tool would help, where that was measured."""
    tools: tuple[str, ...]
    """In the order in which they would be tried."""


@dataclass(frozen=True)
class Planned:
    """What a run on one file would begin with."""

    looked: Restored
    diagnosis: str
    """In a few words."""
    plan: tuple[PlannedStep, ...]


def plan_file(
    job: Job, manner: Manner, critic: Critic, tools: Toolbox, on_event: Callable[[Event], None] | None = None
) -> Planned:
    """Perceive one file and plan; ``manner.settings.search`` must be ``"none"``. Writes nothing.

    Raises what `iqloop.recipes.restore.file.restore_file` would raise before its work.
    """
    from iqloop.agents import restore
    from iqloop.agents.diagnosis import UNKNOWN_SEVERITY, Suspect, describe
    from iqloop.agents.search import entries_for
    from iqloop.recipes.inputs import refuse_animation

    check(job, manner)
    photo = job.source.read()
    refuse_animation(photo, job.source.shown)
    outcome = restore(
        photo.pixels,
        critic,
        tools,
        settings=manner.settings,
        seed=manner.seed,
        budget=manner.budget,
        on_event=on_event,
        evidence=manner.evidence,
    )
    found, settings = outcome.trace.diagnosis, manner.settings
    steps = [(suspect, entries_for(tools, suspect, settings)) for suspect in outcome.plan]
    if manner.scale > 1 and "low-resolution" not in settings.exclude:
        upscaling = Suspect("low-resolution", UNKNOWN_SEVERITY)
        steps.append((upscaling, entries_for(tools, upscaling, settings, manner.scale)))
    plan = tuple(
        PlannedStep(suspect.treatment, suspect.severity, suspect.promise, tuple(entry.info.name for entry in entries))
        for suspect, entries in steps
    )
    return Planned(told(job, outcome.trace, critic.lower_better), describe(found), plan)


def plan_fields(planned: Planned) -> dict[str, Any]:
    """The line of ``--json``: that of a run, with ``diagnosis`` and ``plan``."""
    steps = [
        {"treatment": step.treatment, "severity": step.severity, "promise": step.promise, "tools": list(step.tools)}
        for step in planned.plan
    ]
    return restore_fields(planned.looked) | {"diagnosis": planned.diagnosis, "plan": steps}
