"""How often a critic prefers the image that is known to be better, given the degraded input of both.

The pairs are those of `iqloop.critic.training.pairs`: two severities of one distortion, or two results of tools ordered
by PSNR. PSNR is no judge of small differences, so agreement is counted where it is clear (`CLEAR`), and ties apart.
Asking is the caller's: answers are counted here, whenever given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from iqloop.critic.evaluation.ranking import manner
from iqloop.critic.verdicts import Choice

CLEAR = 0.5
"""Two results whose PSNR differs by more, in dB, are clearly apart."""


@dataclass(frozen=True)
class Judged:
    """What is known of a pair, and what a critic said of it."""

    truth: Choice
    said: Choice | None
    """The preference, all orders taken together; None for an answer that could not be read."""
    kind: Literal["severity", "tools"]
    difference: float
    """By how much A is better: in severities, or in dB."""
    distortion_class: str
    swapped: Choice | None = None
    """What was said with B shown first, still in terms of the pair's A and B; None where it is not known."""
    first: Choice | None = None
    """What was said with A shown first; None where it is not known."""
    method: str | None = None
    """`Preference.method`; None for an answer that could not be read."""
    position_bias: float | None = None
    """`Preference.position_bias`."""
    probability: float | None = None
    """`Preference.probability`; None for an answer that could not be read."""


def figures(rows: Sequence[Judged]) -> dict[str, Any]:
    """The figures of all pairs, as JSON types; every share is in [0, 1], and None where there is nothing to count.

    Returns:
        ``severity``: ``pairs``, ``accuracy`` (the milder one was preferred; ``"similar"`` is wrong), ``likelier`` (it
        had the greater probability, whatever was written), ``by_class``, ``similar`` and ``unparsed`` (shares of its
        pairs).
        ``tools``: ``pairs``, ``clear`` (pairs more than `CLEAR` dB apart), ``agreement`` (on those, the one of higher
        PSNR was preferred), ``likelier`` (of the same pairs), ``by_class`` (of the agreement), ``ties`` (pairs that are
        similar), ``tie_accuracy``, ``similar`` and ``unparsed``.
        Either is left out when there are no such pairs. Of all pairs: ``order_agreement`` (share of those asked in both
        orders where both said the same), and ``position_bias``, ``position_bias_pairs`` and ``thurstone`` as in
        `iqloop.critic.evaluation.ranking.Manner`.
    """
    found: dict[str, Any] = {}
    mild = [row for row in rows if row.kind == "severity"]
    if mild:
        found["severity"] = {
            "pairs": len(mild),
            "accuracy": _share(mild, _right),
            "likelier": _likelier(mild),
            "by_class": _by_class(mild),
            **_manners(mild),
        }
    restored = [row for row in rows if row.kind == "tools"]
    if restored:
        clear = [row for row in restored if abs(row.difference) > CLEAR]
        ties = [row for row in restored if row.truth == "similar"]
        found["tools"] = {
            "pairs": len(restored),
            "clear": len(clear),
            "agreement": _share(clear, _right),
            "likelier": _likelier(clear),
            "by_class": _by_class(clear),
            "ties": len(ties),
            "tie_accuracy": _share(ties, _right),
            **_manners(restored),
        }
    both = [row for row in rows if row.first is not None and row.swapped is not None]
    found["order_agreement"] = _share(both, lambda row: row.first == row.swapped)
    return {**found, **asdict(manner((row.method, row.position_bias) for row in rows if row.method is not None))}


def _right(row: Judged) -> bool:
    return row.said == row.truth


def _likelier(rows: Sequence[Judged]) -> float | None:
    leans = [(row.probability - 0.5) * row.difference for row in rows if row.probability is not None]
    return sum(lean > 0 for lean in leans) / len(leans) if leans else None


def _manners(rows: Sequence[Judged]) -> dict[str, float | None]:
    return {
        "similar": _share(rows, lambda row: row.said == "similar"),
        "unparsed": _share(rows, lambda row: row.said is None),
    }


def _by_class(rows: Sequence[Judged]) -> dict[str, float | None]:
    classes = sorted({row.distortion_class for row in rows})
    return {name: _share([row for row in rows if row.distortion_class == name], _right) for name in classes}


def _share(rows: Sequence[Judged], holds: Callable[[Judged], bool]) -> float | None:
    return sum(map(holds, rows)) / len(rows) if rows else None
