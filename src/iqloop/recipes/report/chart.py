"""The scores of a run as a small SVG: candidates in the order of making, each joined to what it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from iqloop.recipes.report.html import safe

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 12, 30
"""Margins of the plot, in units of the drawing."""
MOST_LABELS = 12
"""Names that fit below the horizontal axis."""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` + 1 of them; at least one step beyond a single point."""
    span = max(high - low, 1e-3)
    power = 10 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 9) for number in range(first, max(last, first + 1) + 1)]


def draw(
    tree: Mapping[str, str],
    scores: Mapping[str, float],
    path: Sequence[str],
    titles: Mapping[str, str],
    lower_better: bool = False,
) -> str:
    """The chart as SVG markup, better always higher; empty when fewer than two candidates have a score.

    ``tree`` maps candidates in order of making to their parents, ``path`` leads from the input to the output, and
    ``titles`` (shown on pointing) name each candidate.
    """
    shown = [name for name in tree if name in scores]
    if len(shown) < 2:
        return ""
    names = list(tree)
    grid = ticks(min(scores[name] for name in shown), max(scores[name] for name in shown))
    ends = (grid[-1], grid[0]) if lower_better else (grid[0], grid[-1])

    def across(name: str) -> float:
        return LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * names.index(name) / (len(names) - 1)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ends[0]) / (ends[1] - ends[0])

    digits = 0 if all(value == round(value) for value in grid) else 1 if grid[1] - grid[0] >= 0.1 else 2
    parts = []
    for value in grid:
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 3.5:.1f}">{value:.{digits}f}</text>')
    for name in shown:
        parent = tree[name]
        if parent in scores:
            kind = "way kept" if name in path else "way"
            ends_of_line = f'x1="{across(parent):.1f}" y1="{up(scores[parent]):.1f}"'
            ends_of_line += f' x2="{across(name):.1f}" y2="{up(scores[name]):.1f}"'
            parts.append(f'<line class="{kind}" {ends_of_line}/>')
    every = math.ceil(len(names) / MOST_LABELS)
    for number, name in enumerate(names):
        x = across(name)
        if number % every == 0:
            parts.append(f'<text class="middle" x="{x:.1f}" y="{HEIGHT - 10}">{safe(name)}</text>')
        if name in scores:
            kind = "dot kept" if name in path else "dot"
            title = f"<title>{safe(titles.get(name, name))}</title>"
            radius = 4.5 if name in path else 3.5
            parts.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{up(scores[name]):.1f}" r="{radius}">{title}</circle>'
            )
    said = f"Scores of {len(shown)} pictures in the order of making, better higher"
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
