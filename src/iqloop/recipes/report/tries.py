"""The tree of tries as markup: one group of cards for each step and start, indented by its depth."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from iqloop.recipes.report.html import image, quote, readable, safe
from iqloop.recipes.report.images import Picture
from iqloop.recipes.report.json import Part
from iqloop.recipes.report.tree import Group, Try, grow, lineage, parents
from iqloop.recipes.report.words import DECISIONS, number, seen, title_of, tries_of

DEEPEST = 6
"""Levels that are indented; deeper ones stay there."""
NO_PICTURE = Picture(reason="no picture")


def draw_tries(trace: Part, thumbnails: Mapping[str, Picture]) -> str:
    """An ordered list; empty when nothing was tried."""
    tree = parents(trace)
    root = next(iter(tree))
    path = set(lineage(tree, trace["output"]["candidate"].text())[1:])
    names = {made["id"].text(): f"{made['tool'].text()} ({made['id'].text()})" for made in trace["candidates"]}
    names[root] = "the original"
    told = [trace["diagnosis"].value]
    groups = []
    for group in grow(trace):
        news = Part(None) if group.step is None else group.step["diagnosis"]
        # A diagnosis holds for every step from that picture: it is told once.
        if news.value in told:
            news = Part(None)
        told.append(news.value)
        groups.append(_group(group, news, names, path, thumbnails))
    return f'<ol class="tree">{"".join(groups)}</ol>' if groups else ""


def legend(trace: Part) -> str:
    """What the decisions that occur mean."""
    found = {attempt["decision"].text() for attempt in tries_of(trace)}
    return "; ".join(f"{word}: {meaning}" for word, (_, meaning) in DECISIONS.items() if word in found)


def _group(
    group: Group, news: Part, names: Mapping[str, str], path: Collection[str], thumbnails: Mapping[str, Picture]
) -> str:
    step = group.step
    index = "" if step is None else f"{step['index'].number() or 0:.0f} · "
    facts = [f"from {names.get(group.start, group.start)}"]
    if step is not None and (severity := step["severity"].number()) is not None:
        facts.append(f"expected severity {number(severity, 1)} of 5")
    if step is not None and (promise := step["promise"].number()) is not None:
        facts.append(f"a tool helps with probability {number(promise)}")
    if step is not None and not group.tries:
        facts.append(step["decision"].text())
    told = f"<p>Seen now: {safe(seen(news))}.</p>{readable(news)}" if news else ""
    cards = "".join(_card(made, made.candidate in path, thumbnails) for made in group.tries)
    return (
        f'<li class="d{min(group.depth, DEEPEST)}"><div><h3>{safe(index + title_of(step))}</h3>'
        f'<p class="soft">{safe(" · ".join(facts))}</p>{told}<ul class="tries">{cards}</ul></div></li>'
    )


def _card(made: Try, kept: bool, thumbnails: Mapping[str, Picture]) -> str:
    picture = thumbnails.get(made.candidate, NO_PICTURE)
    result = '<span class="chip result">in the result</span>' if kept else ""
    body = "" if made.verdict is None else "".join(_verdict(made.verdict))
    name = f"{safe(made.tool)} <small>{safe(made.candidate)}</small>"
    shown = image(picture, f"After {made.tool}, {made.candidate}")
    return f'<li class="try{" kept" if kept else ""}">{shown}<div><h4>{name}</h4>{_chip(made)}{result}{body}</div></li>'


def _chip(made: Try) -> str:
    if made.verdict is None:
        # Interpolation is what enlargements are judged against.
        return f'<span class="chip">{"to compare with" if made.tool == "bicubic" else "not judged"}</span>'
    decision = made.verdict["decision"].text()
    mark, known = (DECISIONS[decision][0], decision) if decision in DECISIONS else ("", "")
    return f'<span class="chip {known}">{safe(f"{mark} {decision}".strip())}</span>'


def _verdict(verdict: Part) -> Iterator[str]:
    """Why, the figures, and the critic's words."""
    reason = verdict["reason"].text()
    if reason:
        yield f"<p>{safe(reason[:1].upper() + reason[1:])}.</p>"
    facts = []
    before, after = verdict["severity_before"].number(), verdict["severity_after"].number()
    if before is not None and after is not None:
        facts.append(f"severity {number(before, 1)} → {number(after, 1)}")
    kept = verdict["fidelity"]
    if kept:
        facts.append(f"structure kept {number(kept['mean'].number())}, worst {number(kept['worst'].number())}")
    facts.append("from the cache" if verdict["cached"].flag() else f"{number(verdict['seconds'].number(), 1)} s")
    yield f'<p class="soft">{safe(" · ".join(facts))}</p>'
    yield quote(verdict["comparison"]["reasoning"].text())
