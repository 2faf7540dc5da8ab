"""Which candidate came from which, and the tries in the order of the tree they form, for any kind of search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from iqloop.errors import UsageError
from iqloop.recipes.report.json import Part


@dataclass(frozen=True)
class Try:
    """One output, or the failure to make one."""

    tool: str
    candidate: str
    """Empty when there is none."""
    verdict: Part | None
    """The trace's record; None for a candidate that was made without being judged, as bicubic interpolation is."""


@dataclass(frozen=True)
class Group:
    """The tries of one step that started from one candidate."""

    step: Part | None
    """None for candidates that no step tells of."""
    start: str
    tries: tuple[Try, ...]
    depth: int = 0
    """Groups between it and the input."""


def parents(trace: Part) -> dict[str, str]:
    """Each candidate's parent in order of making; empty for the input. Raises `UsageError` for what is not a tree."""
    found: dict[str, str] = {}
    for made in trace["candidates"]:
        name, parent = made["id"].text(), made["parent"].text()
        if not name or name in found or (parent and parent not in found):
            raise UsageError(f"not a trace: {made.place} needs an id of its own and a parent made before it")
        found[name] = parent
    if not found:
        raise UsageError("not a trace: it has no candidates")
    return found


def lineage(tree: dict[str, str], candidate: str) -> list[str]:
    """The candidates that lead from the input to ``candidate``, both included."""
    found = []
    while candidate in tree:
        found.append(candidate)
        candidate = tree[candidate]
    return found[::-1]


def scores(trace: Part) -> dict[str, float]:
    """The rating of every candidate that has one, each at its own size.

    Of a run that enlarges, what the trace calls the score before is that of the input enlarged by interpolation.
    """
    original, before = trace["input"]["candidate"].text(), trace["score_before"].number()
    enlarged = {
        made["parent"].text(): made["id"].text() for made in trace["candidates"] if made["tool"].text() == "bicubic"
    }
    known = {enlarged.get(original, original): before}
    for step in trace["steps"]:
        for attempt in step["tries"]:
            start = attempt["started_from"].text() or step["started_from"].text()
            if step["kind"].text() == "upscale":
                start = enlarged.get(start, "")
            known.setdefault(start, attempt["score_before"].number())
            known[attempt["candidate"].text()] = attempt["score_after"].number()
    known.setdefault(trace["output"]["candidate"].text(), trace["score_after"].number())
    return {name: value for name, value in known.items() if name and value is not None}


def grow(trace: Part) -> list[Group]:
    """The tries as a tree, flattened: each group is followed by those that go on from its candidates."""
    tree = parents(trace)
    waiting: dict[str, list[Group]] = {}
    for group in (*_steps(trace), *_unjudged(trace, tree)):
        waiting.setdefault(group.start, []).append(group)
    found: list[Group] = []
    stack = _take(waiting, next(iter(tree)), 0)
    while stack or waiting:
        # What nothing leads to is shown all the same.
        stack = stack or _take(waiting, next(iter(waiting)), 0)
        group = stack.pop()
        found.append(group)
        for made in reversed(group.tries):
            stack += _take(waiting, made.candidate, group.depth + 1)
    return found


def _take(waiting: dict[str, list[Group]], start: str, depth: int) -> list[Group]:
    """The groups that start from a candidate, the first one last."""
    return [replace(group, depth=depth) for group in reversed(waiting.pop(start, []))]


def _steps(trace: Part) -> Iterator[Group]:
    for step in trace["steps"]:
        starts: dict[str, list[Try]] = {}
        for attempt in step["tries"]:
            start = attempt["started_from"].text() or step["started_from"].text()
            made = Try(attempt["tool"].text(), attempt["candidate"].text(), attempt)
            starts.setdefault(start, []).append(made)
        for start, tries in (starts or {step["started_from"].text(): []}).items():
            yield Group(step, start, tuple(tries))


def _unjudged(trace: Part, tree: dict[str, str]) -> Iterator[Group]:
    judged = {attempt["candidate"].text() for step in trace["steps"] for attempt in step["tries"]}
    starts: dict[str, list[Try]] = {}
    for made in trace["candidates"]:
        name = made["id"].text()
        if tree[name] and name not in judged:
            starts.setdefault(tree[name], []).append(Try(made["tool"].text(), name, None))
    for start, tries in starts.items():
        yield Group(None, start, tuple(tries))
