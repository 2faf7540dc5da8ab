"""The page of ``iqloop bench rank``: for every critic and way of ranking how good the orders are and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqloop.critic.evaluation.correlation import Estimate
    from iqloop.recipes.bench.rank.command import Row

LEGEND = (
    "tau: Kendall's tau-b with the true order, and with the order of all pairs by the same critic. best: how often the "
    "image ranked first is the mildest; a knockout is held for nothing but that. comparisons: for each order, every "
    "one in both presentation orders. bias: probability of the image shown first, less one half. contradicted: "
    "comparisons whose two presentation orders said different things. seconds: for each order, with its scores. "
    "Brackets: intervals of 95 %, bootstrap over photographs."
)
SIMULATED = (
    "The simulated critics are no models. They know the true order and err on purpose: so many of all pairs come out "
    "right by their comparisons, and as many by their scores, with noise of their own."
)


def summary(rows: Sequence[Row], seed: int = 0) -> list[dict[str, Any]]:
    """The figures of each critic and way, as JSON types."""
    found = []
    for critic, way in dict.fromkeys((row.critic, row.way) for row in rows):
        own = [row for row in rows if (row.critic, row.way) == (critic, way)]
        figures = {name: _mean(own, read, seed) for name, read in _FIGURES.items()}
        shown = {name: None if one is None else [one.value, one.low, one.high] for name, one in figures.items()}
        found.append({"critic": critic, "way": way, "orders": len(own), **shown})
    return found


def page(
    rows: Sequence[Row], figures: Sequence[dict[str, Any]], command: str, about: str, machine: str, notes: Sequence[str]
) -> str:
    """All of it in Markdown.

    Args:
        rows: at least one.
        figures: their `summary`.
        command: the command line.
        about: what was ranked.
        machine: where.
        notes: sentences about single critics.
    """
    parts = [f"```sh\n{command}\n```", about, machine, LEGEND]
    for critic in dict.fromkeys(row.critic for row in rows):
        own = [one for one in figures if one["critic"] == critic]
        parts.append(f"**{critic}**, {own[0]['orders']} orders\n\n{_table(own)}")
        parts += [note for note in notes if note.startswith(critic)]
    if any(row.critic.startswith("simulated") for row in rows):
        parts.append(SIMULATED)
    return "\n\n".join(parts) + "\n"


def _table(figures: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| way | comparisons | tau, truth | tau, all pairs | best | bias | contradicted | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        cells = [
            one["way"],
            _shown(one["comparisons"], ".1f"),
            _shown(one["tau_truth"], ".3f", bracket=True),
            _shown(one["tau_all"], ".3f", bracket=True),
            _shown(one["best"], ".0%", bracket=True),
            _shown(one["position_bias"], "+.3f"),
            _shown(one["disagreements"], ".0%"),
            _shown(one["seconds"], ".2f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_FIGURES: dict[str, Callable[[Row], float | None]] = {
    "comparisons": lambda row: row.comparisons,
    "tau_truth": lambda row: row.tau_truth,
    "tau_all": lambda row: row.tau_all,
    "best": lambda row: float(row.best),
    "position_bias": lambda row: row.position_bias,
    "disagreements": lambda row: row.disagreements,
    "seconds": lambda row: row.seconds,
}


def _mean(rows: Sequence[Row], read: Callable[[Row], float | None], seed: int) -> Estimate | None:
    """Over the rows that tell it, with photographs drawn again; None when none does."""
    from iqloop.critic.evaluation.bootstrap import ratio

    known = [(row.photo, value) for row in rows if (value := read(row)) is not None]
    if not known:
        return None
    photos = dict.fromkeys(photo for photo, _ in known)
    sums = [sum(value for photo, value in known if photo == one) for one in photos]
    counts = [sum(photo == one for photo, _ in known) for one in photos]
    return ratio(sums, counts, seed=seed)


def _shown(figure: Sequence[float | None] | None, form: str, bracket: bool = False) -> str:
    if figure is None or figure[0] is None:
        return "-"
    value, low, high = figure
    if not bracket or low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
