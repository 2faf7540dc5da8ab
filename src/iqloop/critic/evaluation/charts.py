"""The pictures of perception and ranking, as matplotlib figures that no window shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = {"noise": "#0072B2", "blur": "#E69F00", "compression": "#009E73", "darken": "#CC79A7"}
"""Okabe and Ito's colours, which the colour-blind can tell apart."""
MARKERS = {"noise": "o", "blur": "s", "compression": "^", "darken": "D"}
GREY = "#666666"


def confusion(
    counts: Mapping[str, Mapping[str, int]], title: str, truth: str = "truth", said: str = "answer"
) -> Figure:
    """Truth down, answer across; each cell with its count and its share of the row, which also colours it.

    Args:
        counts: truth, then answer, one case at least; rows without a case, and ``"unparsed"`` without one, are left
            out.
        title: what was measured.
        truth: label of the vertical axis.
        said: label of the horizontal axis.
    """
    rows = [kind for kind, row in counts.items() if sum(row.values())]
    answers = list(next(iter(counts.values())))
    columns = [kind for kind in answers if kind != "unparsed" or any(row[kind] for row in counts.values())]
    table = np.array([[counts[row][column] for column in columns] for row in rows], float).reshape(-1, len(columns))
    shares = table / np.maximum(1, table.sum(1, keepdims=True))
    figure = blank(2.0 + 0.95 * len(columns), 1.6 + 0.72 * max(1, len(rows)))
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, x in np.ndindex(table.shape):
        if table[y, x]:
            colour = "white" if shares[y, x] > 0.55 else "black"
            axes.text(x, y - 0.13, f"{shares[y, x] * 100:.0f} %", ha="center", va="center", color=colour, fontsize=10)
            axes.text(x, y + 0.22, f"{table[y, x]:.0f}", ha="center", va="center", color=colour, fontsize=7.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), [f"{kind} ({total:.0f})" for kind, total in zip(rows, table.sum(1), strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.set(xlabel=said, ylabel=truth)
    axes.set_title(title, fontsize=11, loc="left")
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, pad=0.03)
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.outline.set_visible(False)
    return figure


def ladders(means: Mapping[str, Sequence[float | None]], title: str, score: str = "mean score") -> Figure:
    """Mean score against severity, one line for each class.

    Args:
        means: per class the means at severity 0 (clean) to 5; None leaves a gap.
        title: what was measured.
        score: label of the vertical axis.
    """
    figure = blank(6.0, 4.0)
    axes = figure.add_subplot()
    for kind, row in means.items():
        values = [np.nan if value is None else value for value in row]
        colour, marker = COLOURS.get(kind, GREY), MARKERS.get(kind, "o")
        axes.plot(range(len(values)), values, color=colour, marker=marker, markersize=5, linewidth=1.8, label=kind)
    axes.set_xticks(range(6), ["0\nclean", "1\nslight", "2\nmoderate", "3\nobvious", "4\nserious", "5\ncatastrophic"])
    axes.set(xlabel="severity", ylabel=score)
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure


def scene_accuracies(by_subset: Mapping[str, Sequence[float]], title: str, chance: float | None = 0.5) -> Figure:
    """How many scenes have which accuracy, one histogram below the other.

    Args:
        by_subset: the scenes' accuracies in [0, 1]; a subset without scenes is left out.
        title: what was measured.
        chance: accuracy of guessing, drawn as a line; None for none.
    """
    shown = {name: values for name, values in by_subset.items() if len(values)}
    figure = blank(6.0, 1.2 + 1.5 * max(1, len(shown)))
    grid = figure.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)
    for axes, (name, values) in zip(grid[:, 0], shown.items(), strict=False):
        mean = float(np.mean(values))
        axes.hist(values, bins=np.linspace(0, 1, 21).tolist(), color="#0072B2", edgecolor="white", linewidth=0.8)
        axes.axvline(mean, color="#D55E00", linewidth=1.6)
        if chance is not None:
            axes.axvline(chance, color=GREY, linewidth=1, linestyle=":")
        axes.set_title(
            f"{name}: mean {mean * 100:.1f} %, {len(values)} scenes", fontsize=9, loc="left", color="#D55E00"
        )
        axes.set_ylabel("scenes")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    last = grid[-1, 0]
    last.set_xlim(0, 1)
    last.set_xticks(np.linspace(0, 1, 6), [f"{tick} %" for tick in range(0, 101, 20)])
    last.set_xlabel("pairs of a scene that are ordered as people do" + ("" if chance is None else "; dotted: guessing"))
    figure.suptitle(title, fontsize=11, x=0.02, ha="left")
    return figure


def blank(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches; drawn by Agg whatever the display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
