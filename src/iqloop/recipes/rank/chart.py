"""Strengths on one scale, each drawn as a dot with its error bar: better is always further right."""

from __future__ import annotations

from collections.abc import Sequence

from iqloop.recipes.rank.result import Place, Result

MARGIN = 4.0
"""Percent of the width that stay free on either side."""


class Scale:
    """The strengths of a group as percent of a drawing's width."""

    def __init__(self, result: Result, places: Sequence[Place]) -> None:
        """The scale holds all of ``places`` with their error bars, and the mean of log-strengths."""
        self.reverse = result.by == "score" and result.lower_better
        self.zero = result.by != "score"
        ends = [end for place in places for end in _ends(place)] + ([0.0] if self.zero else [])
        self.low, self.high = min(ends), max(ends)

    def at(self, value: float) -> float:
        """Where a value stands; the middle where all are equal."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return MARGIN + (100 - 2 * MARGIN) * (1 - share if self.reverse else share)


def whisker(place: Place, scale: Scale) -> str:
    """The place as a small SVG; its figures have to stand beside it."""
    low, high = sorted(map(scale.at, _ends(place)))
    dot = scale.at(place.strength or 0.0)
    parts = ['<line class="axis" x1="0" x2="100%" y1="50%" y2="50%"/>']
    if scale.zero:
        zero = f"{scale.at(0):.1f}%"
        parts.append(f'<line class="zero" x1="{zero}" x2="{zero}" y1="15%" y2="85%"/>')
    if place.standard_error is not None:
        parts.append(f'<line class="spread" x1="{low:.1f}%" x2="{high:.1f}%" y1="50%" y2="50%"/>')
        for end in (low, high):
            parts.append(f'<line class="spread" x1="{end:.1f}%" x2="{end:.1f}%" y1="28%" y2="72%"/>')
    parts.append(f'<circle cx="{dot:.1f}%" cy="50%" r="4.5"/>')
    return f'<svg class="whisker" aria-hidden="true">{"".join(parts)}</svg>'


def _ends(place: Place) -> tuple[float, float]:
    strength, error = place.strength or 0.0, place.standard_error or 0.0
    return strength - error, strength + error
