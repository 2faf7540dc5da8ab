"""The pictures of ``iqloop bench all``: growth with size and number, and who takes how long beside whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from iqloop.recipes.bench.speed.figures import By, Curve, Of, Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Okabe and Ito's."""
OWN, OTHER = "#0072B2", "#999999"
PANELS: tuple[tuple[By, Of], ...] = (
    ("side", "seconds"),
    ("count", "seconds"),
    ("side", "peak MB"),
    ("count", "peak MB"),
)
AXES: dict[By, str] = {"side": "side of the image, px", "count": "images"}
OTHERS = ("OpenCV", "pyiqa", "DnCNN", "plain loop")
"""What the names of things begin with that are not ours."""


def growth_plot(curves: Sequence[Curve]) -> Figure:
    """A panel for each thing that grows and each that is measured, on logarithmic axes, so that a power is a line."""
    from iqloop.critic.evaluation import charts

    shown = [panel for panel in PANELS if any((curve.by, curve.of) == panel for curve in curves)]
    lines = (len(shown) + 1) // 2
    figure = charts.blank(11, 0.4 + 3.6 * lines)
    grid = figure.subplots(lines, min(2, len(shown)), squeeze=False).ravel()
    for axes, panel in zip(grid, shown, strict=False):
        _panel(axes, [curve for curve in curves if (curve.by, curve.of) == panel])
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    return figure


def cost_plot(parts: Sequence[Part]) -> Figure:
    """A panel for each part with things that are not ours: a dot for every row, ours in colour, and the median's
    interval. Time is logarithmic."""
    from iqloop.critic.evaluation import charts

    shown = [part for part in parts if any(row.name.startswith(OTHERS) for row in part.rows)]
    heights = [0.9 + 0.22 * len(part.rows) for part in shown]
    figure = charts.blank(9, 0.3 + sum(heights))
    figure.suptitle("Blue: iqloop; grey: what stands beside it", fontsize=10, x=0.01, ha="left")
    grid = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, part in zip(grid, shown, strict=True):
        _dots(axes, part)
    return figure


def _panel(axes: Axes, curves: Sequence[Curve]) -> None:
    for number, one in enumerate(curves):
        middle = [value.median for value in one.values]
        reach = [
            [value.median - value.low for value in one.values],
            [value.high - value.median for value in one.values],
        ]
        label = f"{one.name}: exponent {one.exponent:.2f}"
        axes.errorbar(
            one.sizes, middle, reach, color=COLOURS[number % len(COLOURS)], marker="o", markersize=4, label=label
        )
    sizes = sorted({size for one in curves for size in one.sizes})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    if curves[0].of == "seconds":
        axes.set_yscale("log")
    else:
        # What does not grow should look as if it did not; the legend needs some room.
        axes.set_ylim(0, 1.3 * max(value.high for one in curves for value in one.values))
    axes.set(xlabel=AXES[curves[0].by], ylabel=curves[0].of)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8)


def _dots(axes: Axes, part: Part) -> None:
    rows = [(row.name, row.seconds) for row in part.rows if row.seconds is not None]
    for place, (name, own) in enumerate(rows):
        colour = OTHER if name.startswith(OTHERS) else OWN
        middle, low, high = (value * part.factor for value in (own.median, own.low, own.high))
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=colour, marker="o", markersize=5)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel(part.unit, fontsize=8)
    axes.set_title(part.title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
