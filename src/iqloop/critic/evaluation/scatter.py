"""The pictures of scores: against mean opinions, and over seeds. Matplotlib figures that no window shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqloop.critic.evaluation.charts import GREY, blank
from iqloop.critic.evaluation.correlation import Agreement, Estimate
from iqloop.critic.evaluation.stability import Spread

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's colours, which the colour-blind can tell apart; with more groups all points have the first."""
NAMED = 24
"""Images that are named under the axis; more would not be readable."""


def opinions(
    scores: Sequence[float],
    means: Sequence[float],
    found: Agreement,
    title: str,
    *,
    groups: Sequence[str | None] = (),
    opposite: bool = False,
    score: str = "score",
    opinion: str = "mean opinion",
) -> Figure:
    """Each image's mean opinion against its score, with the fitted curve, and the figures with their intervals below.

    Args:
        scores: the critic's, as they are.
        means: people's mean opinions.
        found: the figures of exactly these images.
        title: what was measured.
        groups: of each image; up to eight get a colour each.
        opposite: the curve takes negated scores.
        score: label of the horizontal axis.
        opinion: label of the vertical axis.
    """
    figure = blank(5.6, 5.4)
    axes = figure.add_subplot()
    x, y = np.asarray(scores, float), np.asarray(means, float)
    names = list(dict.fromkeys(group for group in groups if group is not None))
    look = {"s": 22 if len(x) < 500 else 9, "alpha": 0.65 if len(x) < 500 else 0.4, "linewidths": 0}
    if 1 < len(names) <= len(COLOURS):
        for name, colour in zip(names, COLOURS, strict=False):
            inside = np.array([group == name for group in groups])
            axes.scatter(x[inside], y[inside], color=colour, label=name, **look)  # type: ignore[arg-type]
    else:
        axes.scatter(x, y, color=COLOURS[0], **look)  # type: ignore[arg-type]
    if found.curve is not None:
        line = np.linspace(x.min(), x.max(), 200)
        fitted = found.curve(-line if opposite else line)
        axes.plot(line, fitted, color="#D55E00" if len(names) < 2 else "black", linewidth=2, label="fitted curve")
    axes.set(xlabel=score, ylabel=opinion)
    axes.set_title(title, fontsize=11, loc="left")
    _plain(axes, "both")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    figure.supxlabel(_caption(found), fontsize=8, color=GREY, x=0.02, ha="left")
    return figure


def seeds(spreads: Mapping[str, Spread], title: str, fixed: Mapping[str, float], score: str = "score") -> Figure:
    """The score of each image for each seed, images in order of their mean, with the deterministic score beside it.

    Args:
        spreads: of each image; those without a score are left out.
        title: what was measured.
        fixed: the deterministic score of each image.
        score: label of the vertical axis.
    """
    shown = sorted((one.mean, name, one) for name, one in spreads.items() if one.mean is not None)
    figure = blank(max(5.6, min(12.0, 1.5 + 0.3 * len(shown))), 4.4)
    axes = figure.add_subplot()
    for place, (_, _, one) in enumerate(shown):
        axes.plot([place, place], [min(one.scores), max(one.scores)], color="#0072B2", alpha=0.35, linewidth=2)
    size = 16 if len(shown) < 100 else 5
    x = [place for place, (_, _, one) in enumerate(shown) for _ in one.scores]
    y = [value for _, _, one in shown for value in one.scores]
    axes.scatter(x, y, s=size, color="#0072B2", alpha=0.55, linewidths=0, label="drawn, one for each seed")
    axes.plot([mean for mean, _, _ in shown], color="black", linewidth=1.2, label="their mean")
    known = [(place, fixed[name]) for place, (_, name, _) in enumerate(shown) if name in fixed]
    if known:
        places, values = zip(*known, strict=True)
        axes.scatter(places, values, s=size * 1.6, color="#D55E00", marker="x", label="deterministic")
    if len(shown) <= NAMED:
        axes.set_xticks(range(len(shown)), [name for _, name, _ in shown], rotation=60, ha="right", fontsize=7)
    else:
        axes.set_xlabel("images, in order of their mean")
    axes.set_ylabel(score)
    axes.set_title(title, fontsize=11, loc="left")
    _plain(axes, "y")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _caption(found: Agreement) -> str:
    first = [_shown("SRCC", found.srcc), _shown("KRCC", found.krcc), _shown("PLCC", found.plcc)]
    second = [_shown("fitted PLCC", found.plcc_fitted), _shown("RMSE", found.rmse)]
    lines = ["   ".join(text for text in row if text) for row in (first, second)]
    return "\n".join(line for line in (*lines, f"{found.images} images; intervals of 95 %, bootstrap") if line)


def _shown(name: str, one: Estimate) -> str:
    if one.value is None:
        return ""
    interval = "" if one.low is None or one.high is None else f" [{one.low:.3f}, {one.high:.3f}]"
    return f"{name} {one.value:.3f}{interval}"


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
