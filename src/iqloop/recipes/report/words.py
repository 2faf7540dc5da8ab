"""A restoration in plain words, for a photographer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iqloop.recipes.report.json import Part
from iqloop.recipes.report.tree import lineage, parents

DASH, MINUS, TIMES, TICK = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{CHECK MARK}"
NAMES = {"darken": "darkness", "low-resolution": "low resolution", "null": "nothing wrong"}
"""Degradations whose name is no English word for them."""
GAINS = {
    "noise": "less noise",
    "blur": "less blur",
    "compression": "fewer traces of compression",
    "darken": "more light",
}
DECISIONS = {
    "taken": (TICK, "became the new best"),
    "accepted": (TICK, "better too, but not the best of its step"),
    "refused": (DASH, "not found better"),
    "failed": (TIMES, "no usable picture"),
}
"""Mark and meaning of each decision about a try."""


def name_of(degradation: str) -> str:
    """A degradation as people call it."""
    return NAMES.get(degradation, degradation)


def join(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join((*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]))


def number(value: float | None, digits: int = 2) -> str:
    """A figure with a true minus sign, or a dash for none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def amount(value: float | None) -> str:
    """A whole number if it is one."""
    return DASH if value is None else f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def seen(diagnosis: Part) -> str:
    """``obvious noise``, or why nothing is known."""
    if not diagnosis:
        return "not asked"
    if diagnosis["unparsed"].flag():
        return "answer not readable"
    named = diagnosis["distortion_class"].text()
    return name_of(named) if named == "null" else f"{diagnosis['severity'].text()} {name_of(named)}"


def title_of(step: Part | None) -> str:
    """What a step was for."""
    if step is None:
        return "Made for comparison"
    kind, treatment = step["kind"].text(), name_of(step["treatment"].text())
    known = {"treat": treatment, "redo": f"{treatment}, once more from the original", "upscale": "larger size"}
    title = known.get(kind, f"{kind} {treatment}".strip())
    return title[:1].upper() + title[1:]


def treated(trace: Part) -> list[str]:
    """What was mended on the way from the input to the output, in order, each once."""
    path = lineage(parents(trace), trace["output"]["candidate"].text())
    goals = {made["candidate"].text(): step["treatment"].text() for step in trace["steps"] for made in step["tries"]}
    return list(dict.fromkeys(goals[name] for name in path if goals.get(name)))


def tries_of(trace: Part) -> Iterable[Part]:
    """All tries of all steps."""
    return (attempt for step in trace["steps"] for attempt in step["tries"])


def came_of_it(trace: Part) -> str:
    """The result in one or two sentences."""
    scale = trace["scale"].number() or 1
    explanation = trace["stop_explanation"].text() or trace["stop_reason"].text()
    if trace["improved"].flag():
        return _improved(treated(trace), scale, trace)
    if scale > 1:
        return (
            f"The photograph was enlarged {scale:g} times by interpolation and otherwise left as it was: {explanation}."
        )
    tried, finding = sum(1 for _ in tries_of(trace)), seen(trace["diagnosis"])
    if trace["stop_reason"].text() == "clean":
        return "Nothing seemed wrong with this photograph, so it was left exactly as it was."
    if trace["stop_reason"].text() == "perceive-only":
        return f"The photograph was only looked at, and left exactly as it was. Seen: {finding}."
    if trace["stop_reason"].text() == "no-improvement" and tried:
        none = "the one thing tried was not" if tried == 1 else f"none of {tried} tries was"
        return (
            f"Something seemed wrong, but {none} better than the photograph itself, so it was left exactly as it was."
        )
    return f"The photograph was left exactly as it was: {explanation}."


def enlarges(trace: Part) -> bool:
    """Whether the run was asked for a larger picture."""
    return (trace["scale"].number() or 1) > 1


def _improved(goals: Sequence[str], scale: float, trace: Part) -> str:
    gains = [GAINS.get(goal, f"less {goal}") for goal in goals if goal != "low-resolution"]
    enlarged = f"was enlarged {scale:g} times" if scale > 1 else ""
    mended = f"now has {join(gains)}" if gains else ""
    what = join([part for part in (enlarged, mended) if part]) or "was improved"
    before, after = trace["score_before"].number(), trace["score_after"].number()
    if before is None or after is None:
        return f"The photograph {what}."
    moved = "rose" if after > before else "fell"
    if scale > 1:
        moved = f"is {number(after)}; by interpolation alone it would be {number(before)}"
        return f"The photograph {what}. Its score {moved}."
    return f"The photograph {what}. Its score {moved} from {number(before)} to {number(after)}."
