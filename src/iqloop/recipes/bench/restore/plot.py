"""The pictures of ``iqloop bench restore``: what each way gains per mixture, and the agent beside the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from iqloop.recipes.bench.restore.figures import by_mixture, figures
from iqloop.recipes.bench.restore.measure import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES: dict[str, tuple[str, str, float]] = {
    "fixed": ("#999999", "s", 5),
    "random": ("#999999", "x", 5),
    "single": ("#009E73", "D", 5),
    "oracle": ("#0072B2", "|", 13),
    "agent": ("#D55E00", "o", 7),
}
"""Colour (Okabe and Ito's), marker and its size in points, by method."""
LEAST = -12.0
"""dB at which losses are cut off, so that gains can be told apart; what is below is drawn on the edge."""


def gains_plot(rows: Sequence[Row], seed: int = 0) -> Figure:
    """A line for each mixture: mean gains in PSNR of every method, the agent's with its interval of 95 %."""
    from iqloop.critic.evaluation import charts

    mixtures = by_mixture(rows)
    figure = charts.blank(8.0, 1.3 + 0.3 * len(mixtures))
    axes = figure.add_subplot()
    axes.axvline(0, color=charts.GREY, linewidth=1, linestyle=":")
    for method, (colour, marker, size) in STYLES.items():
        found = [figures(own, method, seed).means["gain"] for own in mixtures.values()]
        values = [max(LEAST, one.value or 0.0) for one in found]
        places = range(len(values))
        axes.plot(values, places, linestyle="none", marker=marker, markersize=size, color=colour, label=method)
        if method == "agent":
            low = [max(LEAST, value if one.low is None else one.low) for value, one in zip(values, found, strict=True)]
            high = [value if one.high is None else one.high for value, one in zip(values, found, strict=True)]
            axes.hlines(list(places), low, high, color=colour, linewidth=1.5)
    axes.set_yticks(range(len(mixtures)), list(mixtures))
    axes.invert_yaxis()
    axes.set_xlabel(f"gain in PSNR over the input, dB (losses beyond {LEAST:g} are on the edge)")
    photos = len({row.photo for row in rows})
    axes.set_title(f"Means over {photos} photographs; line: 95 % of the agent's", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=len(STYLES), loc="lower left", bbox_to_anchor=(0, 1.03), fontsize=9)
    return figure


def oracle_plot(rows: Sequence[Row]) -> Figure:
    """A dot for each case: the agent's gain over the oracle's; on the diagonal nothing better was to be had."""
    from iqloop.critic.evaluation import charts

    best = {(row.photo, row.mixture): row.gain for row in rows if row.method == "oracle"}
    own = [row for row in rows if row.method == "agent"]
    figure = charts.blank(5.2, 5.0)
    axes = figure.add_subplot()
    groups = (("with darkening", "#CC79A7"), ("without darkening", "#0072B2"))
    for (name, colour), dark in zip(groups, (True, False), strict=True):
        some = [row for row in own if ("darken" in row.treatments) == dark]
        places = [best[row.photo, row.mixture] for row in some]
        gains = [row.gain for row in some]
        axes.plot(places, gains, linestyle="none", marker="o", markersize=5, alpha=0.7, color=colour, label=name)
    most = max((*best.values(), 1.0))
    axes.plot([0, most], [0, most], color=charts.GREY, linewidth=1)
    axes.axhline(0, color=charts.GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="the oracle's gain in PSNR, dB", ylabel="the agent's gain in PSNR, dB")
    axes.set_title(f"{len(own)} cases; dotted: left alone", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure
