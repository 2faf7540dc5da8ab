"""The page of ``iqloop bench all``, in Markdown: targets, tables, growth."""

from __future__ import annotations

from collections.abc import Sequence

from iqloop.recipes.bench.speed.figures import By, Curve, Fact, Of, Part, Report, Row, Target
from iqloop.recipes.bench.speed.rounds import Spread

LEGEND = (
    "What stands in one table was measured in turn, round after round. A figure is the median of the rounds, in "
    "brackets its interval of 95 % (bootstrap over the rounds). A ratio is taken within each round: how many times as "
    "long as the other it took."
)
VERDICTS = {True: "met", False: "missed", None: "not measured"}
SIZES: dict[By, str] = {"side": "px", "count": "images"}
HEADINGS: dict[tuple[By, Of], str] = {
    ("side", "seconds"): "Seconds against the side of the image (a score: per image)",
    ("count", "seconds"): "Seconds against the number of images",
    ("side", "peak MB"): "Peak memory in MB against the side of the image",
    ("count", "peak MB"): "Peak memory in MB against the number of images",
}


def page(report: Report, command: str, plots: Sequence[str]) -> str:
    """All of it.

    Args:
        report: what was found.
        command: the command line.
        plots: names of the pictures beside the page.
    """
    parts = [f"# Speed\n\n```sh\n{command}\n```", report.about, report.machine, LEGEND]
    parts.append(f"## Targets\n\n{_targets(report.targets)}")
    parts += [f"## {part.title}\n\n{part.about}\n\n{_part(part)}" for part in report.parts]
    parts.append("## Growth\n\nThe exponent is the k of time or memory ~ size^k, fitted over all sizes of the row.")
    for (by, of), heading in HEADINGS.items():
        own = [curve for curve in report.curves if (curve.by, curve.of) == (by, of)]
        if own:
            parts.append(f"**{heading}**\n\n{_curves(own)}")
    parts += [f"![{name}]({name})" for name in plots]
    return "\n\n".join(parts) + "\n"


def shown(value: float) -> str:
    """Three digits, and never fewer than there are before the point.

    >>> shown(0.012345), shown(1234.5), shown(99.96)
    ('0.0123', '1234', '100')
    """
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _spread(own: Spread, factor: float = 1) -> str:
    if own.low == own.high:
        return shown(own.median * factor)
    return f"{shown(own.median * factor)} [{shown(own.low * factor)}, {shown(own.high * factor)}]"


def _targets(targets: Sequence[Target]) -> str:
    rows = []
    for one in targets:
        measured = "-" if one.measured is None else f"{shown(one.measured)} {one.unit}"
        limit = f"{'at most' if one.at_most else 'at least'} {one.limit:g} {one.unit}"
        rows.append([one.name, limit, measured, VERDICTS[one.met]])
    return _table(["what", "target", "measured", ""], rows)


def _part(part: Part) -> str:
    ratios = list(dict.fromkeys(name for row in part.rows for name in row.ratios))
    facts = list(dict.fromkeys(name for row in part.rows for name in row.facts))
    times = [part.unit] if part.unit else []
    head = ["", *times, *(f"as a multiple of {name}" for name in ratios), *facts]
    return _table(head, [_cells(row, part, ratios, facts) for row in part.rows])


def _cells(row: Row, part: Part, ratios: Sequence[str], facts: Sequence[str]) -> list[str]:
    times = [] if not part.unit else ["" if row.seconds is None else _spread(row.seconds, part.factor)]
    held = ["" if name not in row.ratios else _spread(row.ratios[name]) for name in ratios]
    return [row.name, *times, *held, *(_fact(row.facts.get(name)) for name in facts)]


def _fact(value: Fact) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _curves(curves: Sequence[Curve]) -> str:
    sizes = sorted({size for curve in curves for size in curve.sizes})
    rows = []
    for one in curves:
        at = dict(zip(one.sizes, one.values, strict=True))
        cells = ["" if size not in at else shown(at[size].median) for size in sizes]
        rows.append([one.name, *cells, f"{one.exponent:.2f}"])
    return _table(["", *(f"{size} {SIZES[curves[0].by]}" for size in sizes), "exponent"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
