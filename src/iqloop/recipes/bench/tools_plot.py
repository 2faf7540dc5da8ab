"""Quality against time, the picture of ``iqloop bench tools``: what a tool gains for the seconds it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

from iqloop.restorers.degradation import label
from iqloop.restorers.measure import PAIRS, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINT = "#0072B2"
BEST = "#D55E00"
FONT = 7.5
REACH = (7.0, 14.0, 23.0, 34.0, 47.0)
"""Distances in points from a dot to its label, tried from the nearest on."""


@dataclass(frozen=True)
class Box:
    """A rectangle in points, from the lower left corner of its panel."""

    x: float
    y: float
    width: float
    height: float

    def shared(self, other: Box) -> float:
        """The area that two boxes have in common."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        along = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, across) * max(0.0, along)


def quality_plot(rows: Sequence[Row]) -> Figure:
    """A panel for each degradation: gain in PSNR (for ``clean`` the PSNR) over seconds per output megapixel.

    A line joins the tools that none beats: no other is as good and as quick, and better in one of the two.
    """
    from iqloop.critic.evaluation import charts

    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(PAIRS if row.degradation == PAIRS else label((row.degradation, row.severity)), []).append(row)
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = charts.blank(4.7 * columns, 0.4 + 3.5 * lines)
    # One axis of time for all: the same step to the right costs the same everywhere.
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
    for axes, (name, own) in zip(grid, panels.items(), strict=False):
        _panel(axes, name, own)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    what = PAIRS if PAIRS in panels else "photographs"
    title = f"Means over {rows[0].photographs} {what}; the line joins the tools that none beats"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    # Places of labels depend on where the panels are, which is known once they are laid out.
    figure.draw_without_rendering()
    for axes, own in zip(grid, panels.values(), strict=False):
        _label(axes, own)
    return figure


def front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats, the quickest first."""
    kept = [row for row in rows if not any(_beats(other, row) for other in rows)]
    return sorted(kept, key=lambda row: row.seconds_per_megapixel)


def _beats(one: Row, other: Row) -> bool:
    ahead, quicker = _height(one) - _height(other), other.seconds_per_megapixel - one.seconds_per_megapixel
    return min(ahead, quicker) >= 0 and max(ahead, quicker) > 0


def _height(row: Row) -> float:
    return row.psnr_after if row.gain is None else row.gain


def _places(rows: Sequence[Row]) -> list[tuple[float, float]]:
    return [(row.seconds_per_megapixel, _height(row)) for row in rows]


def _panel(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if rows[0].gain is not None:
        axes.axhline(0, color="#999999", linewidth=1, linestyle=":")
    unbeaten = front(rows)
    for some, colour, line in ((rows, POINT, "none"), (unbeaten, BEST, "-")):
        places = _places(some)
        axes.plot(
            [x for x, _ in places],
            [y for _, y in places],
            color=colour,
            linestyle=line,
            linewidth=1,
            marker="o",
            markersize=4.5,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8, labelbottom=True)
    axes.margins(x=0.12, y=0.14)
    axes.set_title(name, fontsize=10, loc="left")
    axes.set_xlabel("seconds per output megapixel", fontsize=8.5)
    axes.set_ylabel("PSNR, dB" if rows[0].gain is None else "gain in PSNR, dB", fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)


def _label(axes: Axes, rows: Sequence[Row]) -> None:
    """Each tool's name beside its dot, where it hides least of the other names, the dots and the line."""
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text

    figure = axes.get_figure(root=True)
    assert figure is not None
    unit = 72 / figure.dpi
    panel = axes.get_window_extent()
    inside = Box(0, 0, panel.width * unit, panel.height * unit)

    def dots(some: Sequence[Row]) -> list[tuple[float, float]]:
        return [((x - panel.x0) * unit, (y - panel.y0) * unit) for x, y in axes.transData.transform(_places(some))]

    taken = [Box(x - 4, y - 4, 8, 8) for x, y in dots(rows)] + _along(dots(front(rows)))
    # From the top down, so that neighbours are named one after the other.
    for row, (x, y) in sorted(zip(rows, dots(rows), strict=True), key=lambda one: -one[1][1]):
        text = axes.annotate(
            row.tool,
            (row.seconds_per_megapixel, _height(row)),
            (0, 0),
            textcoords="offset points",
            fontsize=FONT,
            color="#222222",
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3},
        )
        # Outside of the layout: a label must not move the panels that its place was measured in.
        text.set_in_layout(False)
        assert text.arrow_patch is not None
        size = Text.get_window_extent(text)  # the name alone, without the line to its dot
        candidates = _candidates(x, y, size.width * unit, size.height * unit)
        place, reach = min(candidates, key=lambda one: _cost(one, taken, inside))
        taken.append(place)
        text.set_position((place.x - x, place.y - y))
        text.arrow_patch.set_visible(reach > REACH[1])


def _along(corners: Sequence[tuple[float, float]]) -> list[Box]:
    """A line as small boxes."""
    found = []
    for (x, y), (right, up) in pairwise(corners):
        steps = max(1, round(math.hypot(right - x, up - y) / 4))
        found += [Box(x + (right - x) * i / steps - 1, y + (up - y) * i / steps - 1, 2, 2) for i in range(steps)]
    return found


def _candidates(x: float, y: float, width: float, height: float) -> list[tuple[Box, float]]:
    """Boxes of a label around a dot, with their distance to it: right and left first, nearest first."""
    found = []
    for reach, (across, along) in product(
        REACH, ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
    ):
        far = reach if not (across and along) else reach * 0.75
        left = x + far if across > 0 else x - far - width if across < 0 else x - width / 2
        bottom = y + far if along > 0 else y - far - height if along < 0 else y - height / 2
        found.append((Box(left, bottom, width, height), reach))
    return found


def _cost(candidate: tuple[Box, float], taken: Sequence[Box], inside: Box) -> float:
    """What a place hides and how much of it leaves the panel, in square points; distance decides between equals."""
    box, reach = candidate
    outside = box.width * box.height - box.shared(inside)
    return sum(box.shared(other) for other in taken) + 3 * outside + reach / 10
