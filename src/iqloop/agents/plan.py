"""In which order to mend what is suspected: by the order prior, or as the user says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from iqloop.agents.diagnosis import Suspect, suspect
from iqloop.agents.order import Stages, default_stages
from iqloop.agents.toolbox import Toolbox, allows, find_tool, tool_names
from iqloop.critic.verdicts import Degradation
from iqloop.errors import UsageError
from iqloop.restorers.tool import TREATMENTS, Treatment


def as_names(given: Sequence[str], option: str) -> tuple[str, ...]:
    """``given`` as a tuple; raises `UsageError` naming ``option`` for a repeated or empty name."""
    names = tuple(given)
    if isinstance(given, str) or any(not isinstance(name, str) or not name for name in names):
        raise UsageError(f"{option}: expected names of treatments or tools, got {given!r}")
    if len(set(names)) != len(names):
        raise UsageError(f"{option}: each name may be given once, got {', '.join(names)}")
    return names


def check_names(names: Iterable[str], option: str, toolbox: Toolbox, scale: int = 1) -> None:
    """Raise `UsageError`, naming ``option``, unless every name is a treatment or a tool of the toolbox."""
    known = tool_names(toolbox, scale)
    unknown = [name for name in names if name not in TREATMENTS and name not in known]
    if unknown:
        choices = f"{', '.join(TREATMENTS)} or a tool ({', '.join(known) or 'there is none'})"
        raise UsageError(f"{option}: expected some of {choices}, got {', '.join(unknown)}")


def make_plan(
    suspects: Sequence[Suspect],
    *,
    only: Collection[str] | None = None,
    exclude: Collection[str] = (),
    stages: Stages | None = None,
) -> tuple[Suspect, ...]:
    """Suspects in the order in which to treat them: stage by stage, the worst first inside a stage.

    ``only`` and ``exclude`` may name treatments and tools; here only treatments count: a suspect whose every tool is
    excluded is found untreatable when its tools are looked for. ``low-resolution`` is never part of a plan: scale is
    asked for, not perceived.
    """
    rank = {treatment: place for place, stage in enumerate(stages or default_stages()) for treatment in stage}
    kept = [
        one
        for one in suspects
        if one.treatment in rank and one.treatment != "low-resolution" and _wanted(one.treatment, only, exclude)
    ]
    return tuple(sorted(kept, key=lambda one: (rank[one.treatment], -one.severity)))


def ordered_plan(
    perceived: Degradation | None,
    names: Sequence[str],
    toolbox: Toolbox,
    *,
    only: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> tuple[Suspect, ...]:
    """A user's plan: exactly ``names`` (treatments, or tools) in their order, whatever is suspected.

    A tool stands for the first degradation that it treats. ``low-resolution`` and tools for it alone are left out.
    Raises `UsageError` for a name that is neither.
    """
    check_names(names, "plan", toolbox)
    planned: list[Suspect] = []
    for name in names:
        if name in TREATMENTS:
            if _wanted(name, only, exclude):
                planned.append(suspect(perceived, name))
            continue
        entry = find_tool(toolbox, name)
        assert entry is not None, "checked above"
        treated = next((one for one in entry.info.treats if one != "low-resolution"), None)
        if treated is not None and allows(entry.info, treated, only, exclude):
            planned.append(suspect(perceived, treated, name))
    return tuple(one for one in planned if one.treatment != "low-resolution")


def _wanted(treatment: Treatment, only: Collection[str] | None, exclude: Collection[str]) -> bool:
    if treatment in exclude:
        return False
    # A tool among ``only`` may treat it: which one does is known when tools are chosen.
    return only is None or treatment in only or any(name not in TREATMENTS for name in only)
