"""Rankings as one page of HTML that needs nothing else and runs nothing: contact sheets in rank order, what decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import iqloop
from iqloop.errors import ImageError
from iqloop.recipes.inputs import Input
from iqloop.recipes.rank.chart import Scale, whisker
from iqloop.recipes.rank.groups import Group
from iqloop.recipes.rank.result import Duel, Place, Result
from iqloop.recipes.report.html import document, image, safe
from iqloop.recipes.report.images import Picture, as_image, picture
from iqloop.recipes.report.style import STYLE
from iqloop.recipes.report.words import number

SIDE = 560
"""Longest side of a picture in pixels; it is drawn at half of it or less, for dense screens."""
LONGEST = 20_000
"""Characters of a critic's reasons that are shown."""

WAYS = {
    "score": ("by score", ""),
    "comparison": ("by comparison", "of two at a time"),
    "hybrid": ("by score and comparison", "of those whose scores are near ties"),
}
"""How an order was found."""
BARS = {
    "score": "Dots: scores on one scale, better to the right. Bars: the critic's own deviation, where it tells one.",
    "comparison": "Dots: strengths on one log-odds scale, better to the right, the line is the mean. "
    "Bars: one standard error either way.",
}
"""How to read the drawings: by score, and otherwise."""

SHEET = """
.sheet { list-style: none; display: grid; gap: 1rem; margin-top: 1.25rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.place { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.75rem; }
.place.best { border-color: var(--good); box-shadow: inset 0 0 0 1px var(--good); }
.place:target { outline: 3px solid var(--good); outline-offset: 2px; }
.place img { display: block; width: 100%; height: auto; border-radius: 3px; }
.place .missing { aspect-ratio: 4 / 3; }
.place h3 { display: flex; gap: 0.6rem; align-items: baseline; margin-top: 0.6rem; font-size: 0.9375rem; }
.place h3 b { font-size: 1.35rem; line-height: 1; font-variant-numeric: tabular-nums; }
.place.best h3 b { color: var(--good); }
.place p { font-size: 0.875rem; line-height: 1.45; font-variant-numeric: tabular-nums; }
.whisker { display: block; width: 100%; height: 1.5rem; margin-top: 0.35rem; overflow: visible; }
.whisker .axis { stroke: var(--line); stroke-width: 1; }
.whisker .zero { stroke: var(--bar); stroke-width: 1; }
.whisker .spread { stroke: var(--bar); stroke-width: 2; }
.whisker circle { fill: var(--ink); }
.best .whisker circle { fill: var(--good); }
.duels, .plain { list-style: none; max-width: 46rem; }
.duels li { margin-top: 1.25rem; }
.plain li { margin-top: 0.35rem; font-size: 0.9375rem; }
.section > .soft { margin-top: 1.25rem; }
.section > h3 { margin-top: 2.25rem; }
a { color: inherit; text-underline-offset: 0.15em; text-decoration-color: var(--bar); }
@media print { .place { break-inside: avoid; } .sheet { grid-template-columns: repeat(3, 1fr); } }
"""


def draw_page(ranked: Sequence[tuple[Group, Result]], top: int | None = None) -> str:
    """The page, with at most ``top`` images of each group; pictures are read from the groups' files."""
    count = sum(len(result.ranked) for _, result in ranked)
    several = len(ranked) > 1
    title = f"{_count(count, 'image')} in {_count(len(ranked), 'group')}" if several else _count(count, "image")
    places = "".join(_section(f"g{i}", group, result, top) for i, (group, result) in enumerate(ranked, 1))
    links = "".join(
        f'<li><a href="#g{i}">{safe(result.group or "")}</a> <span class="soft">{_best(result)}</span></li>'
        for i, (_, result) in enumerate(ranked, 1)
    )
    lead = f'<ul class="plain">{links}</ul>' if several else ""
    if len(ranked) == 1 and count:
        lead = f'<p class="lead">{_best(ranked[0][1])}</p>'
    body = f"""<header>
<p class="eyebrow">Ranking</p>
<h1>{title}, best first</h1>
{lead}
</header>
<main>
{places}</main>
<footer>Made by iqloop {safe(iqloop.__version__)}.</footer>"""
    return document(f"{title} &ndash; ranking", STYLE + SHEET, body)


def _section(key: str, group: Group, result: Result, top: int | None) -> str:
    """One group: what it stands on, the sheet, what decided, what is missing."""
    shown = result.ranked[:top]
    anchors = {place.path: f"{key}-{i}" for i, place in enumerate(shown, 1)}
    sources = {source.shown: source for source in group.sources}
    cards = [] if group.reference is None else [_reference(group.reference)]
    if shown:
        scale = Scale(result, shown)
        cards += [_card(place, result, scale, anchors[place.path], sources[place.path]) for place in shown]
    # One group of all images is what the page is called by.
    parts = [] if result.group is None else [f'<h2 id="{key}">{safe(result.group)}</h2>']
    parts.append(_facts(result))
    if shown:
        parts.append(f'<p class="soft prose">{BARS["score" if result.by == "score" else "comparison"]}</p>')
    parts.append(f'<ul class="sheet">{"".join(cards)}</ul>')
    left = len(result.ranked) - len(shown)
    if left:
        parts.append(f'<p class="soft gap">Left out: {_count(left, "image")} of lower rank.</p>')
    duels = "".join(_duel(duel, anchors) for duel in result.duels if {duel.a, duel.b} & anchors.keys())
    if duels:
        parts.append(f'<h3>What decided</h3><ol class="duels">{duels}</ol>')
    if result.failed:
        lines = "".join(f"<li>{safe(place.path)}: {safe(place.error or '')}</li>" for place in result.failed)
        parts.append(f'<h3>Not ranked</h3><ul class="plain">{lines}</ul>')
    name = 'aria-label="All images"' if result.group is None else f'aria-labelledby="{key}"'
    return f'<section class="section" {name}>{"".join(parts)}</section>\n'


def _card(place: Place, result: Result, scale: Scale, anchor: str, source: Input) -> str:
    best = " best" if place.rank == 1 else ""
    said = "".join(f"<p>{safe(line)}</p>" for line in _lines(place, result))
    return (
        f'<li class="place{best}" id="{anchor}">{image(_picture(source), f"Rank {place.rank}: {place.path}")}'
        f"<h3><b>{place.rank}</b><span>{safe(place.path)}</span></h3>{whisker(place, scale)}{said}</li>"
    )


def _lines(place: Place, result: Result) -> Iterator[str]:
    """The figures of a place in words."""
    error = "" if place.standard_error is None else f" \N{PLUS-MINUS SIGN} {number(place.standard_error)}"
    if result.by == "score":
        yield f"Score {number(place.strength)}{error}"
    else:
        yield f"Strength {number(place.strength)}{error}"
        score = "" if place.score is None else f"score {number(place.score)}, "
        yield f"{score}{_count(place.comparisons, 'comparison')}".capitalize()
    if place.copy_of is not None:
        yield f"A copy of {place.copy_of}"


def _reference(source: Input) -> str:
    shown = image(_picture(source), f"The reference: {source.shown}")
    return (
        f'<li class="place">{shown}<h3><span>{safe(source.shown)}</span></h3><span class="chip">reference</span>'
        '<p class="soft">The degraded image of which the others are restorations</p></li>'
    )


def _facts(result: Result) -> str:
    direction = "lower scores are better" if result.lower_better else ""
    facts = [("Ranked", *WAYS[result.by]), ("Critic", result.critic, direction)]
    if result.comparisons:
        unread = f", {result.unparsed} could not be read" if result.unparsed else ""
        facts.append(("Comparisons", str(result.comparisons), f"each in both orders{unread}"))
    if result.position_bias is not None:
        facts.append(("Position bias", f"{result.position_bias:+.3f}".replace("-", "\N{MINUS SIGN}"), "0 is fair"))
    if result.disagreements is not None:
        facts.append(("Disagreements", f"{result.disagreements:.0%}", "of comparisons, between the two orders"))
    rows = (
        f"<div><dt>{safe(what)}</dt><dd>{safe(said)} <small>{safe(more)}</small></dd></div>"
        for what, said, more in facts
    )
    note = f'<p class="prose gap">{safe(result.note)}</p>' if result.note else ""
    return f'<dl class="facts">{"".join(rows)}</dl>{note}'


def _duel(duel: Duel, anchors: Mapping[str, str]) -> str:
    """Who won against whom, how surely, and in the critic's words."""
    a, b = (_link(path, anchors) for path in (duel.a, duel.b))
    won, lost, chance = (b, a, 1 - duel.probability) if duel.choice == "B" else (a, b, duel.probability)
    said = f"{a} and {b} are similar" if duel.choice == "similar" else f"{won} is better than {lost}"
    facts = [f"probability {number(chance)}", f"round {duel.round}"]
    if duel.position_bias is not None:
        facts.append(f"position bias {duel.position_bias:+.2f}".replace("-", "\N{MINUS SIGN}"))
    words = f"<blockquote>{safe(duel.reasoning, LONGEST)}</blockquote>" if duel.reasoning.strip() else ""
    # The critic's words call them Image A and Image B.
    names = f'<p class="soft">Image A: {safe(duel.a)} &middot; Image B: {safe(duel.b)}</p>' if words else ""
    return f'<li><h4>{said}</h4><p class="soft">{safe(" · ".join(facts))}</p>{names}{words}</li>'


def _link(path: str, anchors: Mapping[str, str]) -> str:
    return f'<a href="#{anchors[path]}">{safe(path)}</a>' if path in anchors else safe(path)


def _best(result: Result) -> str:
    """Which is best, and how many are so near that it may be one of them; as markup."""
    first = [place for place in result.ranked if place.rank == 1]
    if not first:
        return "none could be ranked"
    said = f"{safe(first[0].path)} is best" if len(first) == 1 else f"{len(first)} are equally good and best"
    near = sum(_is_near(first[0], place) for place in result.ranked[len(first) :])
    return f"{said}; within the error bars: {_count(near, 'other')}" if near else said


def _is_near(a: Place, b: Place) -> bool:
    """The difference is no larger than its standard error, taking the two as independent."""
    difference = abs((a.strength or 0.0) - (b.strength or 0.0))
    return difference <= math.hypot(a.standard_error or 0.0, b.standard_error or 0.0)


def _picture(source: Input) -> Picture:
    """A file's picture, reduced at once: all of a group would not fit into memory."""
    try:
        return picture(as_image(source.read()), SIDE)
    except ImageError as error:
        return Picture(reason=error.reason)


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
