"""A restoration in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iqloop.agents.records import StepRecord
    from iqloop.recipes.restore.file import Restored
    from iqloop.recipes.restore.plan import Planned


def gain(before: float | None, after: float | None) -> str:
    """``2.31 -> 3.40 (+1.09)``, as far as it is known."""
    if before is None or after is None:
        return "no score"
    return f"{before:.2f}" if before == after else f"{before:.2f} -> {after:.2f} ({after - before:+.2f})"


def summary(done: Restored) -> str:
    """One line for one file among many."""
    if done.output is None:
        return f"{done.input}: not begun"
    steps = ", ".join(done.steps) or "unchanged"
    again = " (done before)" if done.earlier else ""
    scores = gain(done.score_before, done.score_after)
    return f"{done.input} -> {done.output}  {steps}  {scores}  {done.stop_reason}{again}"


def lines(done: Restored) -> Iterator[str]:
    """Diagnosis, every try, why it ended, and what came of it."""
    if done.trace is None:
        yield summary(done)
        return
    from iqloop.agents import STOP_REASONS
    from iqloop.agents.diagnosis import describe

    yield f"{done.input}: {describe(done.trace.diagnosis)}"
    for step in done.trace.steps:
        yield from _step(step)
    yield f"{done.stop_reason}: {STOP_REASONS[done.trace.stop_reason]}"
    calls = f"{done.calls} tool calls, {done.critic_calls} critic calls, {done.seconds:.1f} s"
    yield f"score {gain(done.score_before, done.score_after)}; {calls}"
    yield f"{done.output}: {' + '.join(done.steps) or 'unchanged'}"


def _step(step: StepRecord) -> Iterator[str]:
    if not step.tries:
        yield f"  {step.treatment}: {step.decision}"
    for attempt in step.tries:
        yield f"  {step.treatment}: {attempt.tool} {attempt.decision}: {attempt.reason}"


def plan_lines(planned: Planned) -> Iterator[str]:
    """Diagnosis and what would be tried."""
    score = planned.looked.score_before
    yield f"{planned.looked.input}: {planned.diagnosis}" + ("" if score is None else f", score {score:.2f}")
    for step in planned.plan:
        chance = "" if step.promise is None else f", helped with probability {step.promise:.2f}"
        tools = ", ".join(step.tools) or "no tool"
        yield f"  would treat {step.treatment} (severity {step.severity:.1f}{chance}) with {tools}"
    if not planned.plan:
        yield "  would leave it alone"
