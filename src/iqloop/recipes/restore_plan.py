"""``restore --dry-run``: what is wrong with a file, and what would be tried first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iqloop.recipes.restore_file import Job, Manner, Restored, check, restore_fields

if TYPE_CHECKING:
    from iqloop.agents import Event, Suspect, Toolbox
    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Degradation, Unparsed


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
    from iqloop.agents.toolbox import choose_tools
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
    looked = Restored(
        input=job.source.shown,
        output=job.target.shown,
        steps=(),
        stop_reason=outcome.stop_reason,
        score_before=outcome.score_before,
        score_after=outcome.score_after,
        calls=outcome.tool_calls,
        critic_calls=outcome.critic_calls,
        seconds=outcome.seconds,
        improved=False,
        lower_better=critic.lower_better,
    )
    found = outcome.trace.diagnosis
    count = manner.settings.tools_per_step
    steps = [
        PlannedStep(
            suspect.treatment,
            suspect.severity,
            tuple(entry.info.name for entry in choose_tools(tools, suspect.treatment, suspect.severity, count)),
        )
        for suspect in _plan(found, manner)
    ]
    if manner.scale > 1 and "low-resolution" not in manner.settings.exclude:
        from iqloop.agents.diagnosis import UNKNOWN_SEVERITY

        entries = choose_tools(tools, "low-resolution", UNKNOWN_SEVERITY, count, manner.scale)
        names = tuple(entry.info.name for entry in entries)
        steps.append(PlannedStep("low-resolution", UNKNOWN_SEVERITY, names))
    return Planned(looked, describe(found), tuple(steps))


def _plan(found: Degradation | Unparsed | None, manner: Manner) -> tuple[Suspect, ...]:
    """As the search plans its first step (`iqloop.agents.search`)."""
    from iqloop.agents import diagnose, make_plan
    from iqloop.agents.diagnosis import looks_clean, suspect_all
    from iqloop.critic.verdicts import Unparsed

    settings = manner.settings
    if isinstance(found, Unparsed):
        return ()
    if settings.plan is not None:
        suspects = suspect_all(found, settings.plan)
    elif found is not None and looks_clean(
        found, settings.judge.clean_probability, settings.judge.clean_said_probability
    ):
        suspects = ()
    else:
        suspects = diagnose(found, settings.judge.min_severity)
    return make_plan(suspects, order=settings.plan, only=settings.only, exclude=settings.exclude)


def plan_fields(planned: Planned) -> dict[str, Any]:
    """The line of ``--json``: that of a run, with ``diagnosis`` and ``plan``."""
    steps = [
        {"treatment": step.treatment, "severity": step.severity, "tools": list(step.tools)} for step in planned.plan
    ]
    return restore_fields(planned.looked) | {"diagnosis": planned.diagnosis, "plan": steps}
