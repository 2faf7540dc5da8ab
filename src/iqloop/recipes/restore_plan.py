"""``restore --dry-run``: what is wrong with a file, and what would be tried first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iqloop.recipes.restore_file import Job, Manner, Restored, check, restore_fields, told

if TYPE_CHECKING:
    from iqloop.agents import Event, Toolbox
    from iqloop.critic.protocol import Critic


@dataclass(frozen=True)
class PlannedStep:
    """One degradation that would be treated."""

    treatment: str
    severity: float
    """Expected severity in [0, 5]."""
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
    job: Job, manner: Manner, critic: Critic | None, tools: Toolbox, on_event: Callable[[Event], None] | None = None
) -> Planned:
    """Perceive one file and plan; ``manner.settings.search`` must be ``"none"``. Writes nothing.

    Raises what `iqloop.recipes.restore_file.restore_file` would raise before its work.
    """
    from iqloop.agents import restore
    from iqloop.agents.diagnosis import describe
    from iqloop.agents.search import plan_for
    from iqloop.agents.toolbox import choose_tools
    from iqloop.critic.verdicts import Unparsed
    from iqloop.recipes.inputs import refuse_animation

    check(job, manner)
    photo = job.source.read()
    refuse_animation(photo, job.source)
    assert critic is not None, "a file that can be read needs work"
    outcome = restore(
        photo.pixels,
        critic,
        tools,
        settings=manner.settings,
        seed=manner.seed,
        budget=manner.budget,
        on_event=on_event,
    )
    found = outcome.trace.diagnosis
    count = manner.settings.tools_per_step
    steps = [
        PlannedStep(
            suspect.treatment,
            suspect.severity,
            tuple(entry.info.name for entry in choose_tools(tools, suspect.treatment, suspect.severity, count)),
        )
        for suspect in (() if isinstance(found, Unparsed) else plan_for(found, manner.settings))
    ]
    if manner.scale > 1 and "low-resolution" not in manner.settings.exclude:
        from iqloop.agents.diagnosis import UNKNOWN_SEVERITY

        entries = choose_tools(tools, "low-resolution", UNKNOWN_SEVERITY, count, manner.scale)
        names = tuple(entry.info.name for entry in entries)
        steps.append(PlannedStep("low-resolution", UNKNOWN_SEVERITY, names))
    return Planned(told(job, outcome, critic.lower_better), describe(found), tuple(steps))


def plan_fields(planned: Planned) -> dict[str, Any]:
    """The line of ``--json``: that of a run, with ``diagnosis`` and ``plan``."""
    steps = [
        {"treatment": step.treatment, "severity": step.severity, "tools": list(step.tools)} for step in planned.plan
    ]
    return restore_fields(planned.looked) | {"diagnosis": planned.diagnosis, "plan": steps}
