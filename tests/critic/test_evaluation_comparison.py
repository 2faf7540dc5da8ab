"""Figures of comparisons, counted by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iqloop.critic.evaluation.comparison import Judged, figures

SEVERITY = [
    Judged("A", "A", "severity", 2, "noise", "A", "A", "comparison", 0.2, 0.9),
    Judged("B", "similar", "severity", -1, "noise", "B", "A", "comparison", 0.1, 0.4),
    Judged("B", "B", "severity", -1, "blur", method="thurstone", probability=0.5),
    Judged("A", None, "severity", 4, "darken"),
]
TOOLS = [
    Judged("A", "A", "tools", 0.9, "noise", "A", "A", "comparison", 0.0, 0.6),
    Judged("B", "A", "tools", -3.0, "mixture", "B", "A", "comparison", 0.1, 0.7),
    Judged("A", "B", "tools", 0.4, "noise", method="comparison", probability=0.9),
    Judged("similar", "similar", "tools", 0.1, "blur", method="comparison"),
    Judged("similar", "B", "tools", -0.2, "blur", method="comparison"),
]


def test_counted_by_hand() -> None:
    found = figures([*SEVERITY, *TOOLS])
    assert found["severity"] == {
        "pairs": 4,
        "accuracy": 0.5,
        "likelier": 2 / 3,
        "by_class": {"blur": 1.0, "darken": 0.0, "noise": 0.5},
        "similar": 0.25,
        "unparsed": 0.25,
    }
    assert found["tools"] == {
        "pairs": 5,
        "clear": 2,
        "agreement": 0.5,
        "likelier": 0.5,
        "by_class": {"mixture": 0.0, "noise": 1.0},
        "ties": 2,
        "tie_accuracy": 0.5,
        "similar": 0.2,
        "unparsed": 0.0,
    }
    assert found["order_agreement"] == 0.5, "asked in both orders: four pairs"
    assert found["position_bias"] == pytest.approx(0.1) and found["position_bias_pairs"] == 4
    assert found["thurstone"] == 1 / 8
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("rows", "kind", "other"), [(SEVERITY, "severity", "tools"), (TOOLS, "tools", "severity")])
def test_a_kind_alone(rows: list[Judged], kind: str, other: str) -> None:
    found: dict[str, Any] = figures(rows)
    assert found[kind] == figures([*SEVERITY, *TOOLS])[kind] and other not in found


def test_nothing_to_count() -> None:
    nothing = {"order_agreement": None, "position_bias": None, "position_bias_pairs": 0, "thurstone": None}
    assert figures([]) == nothing
    found = figures([Judged("similar", None, "tools", 0.0, "blur")])["tools"]
    assert found["agreement"] is None and found["by_class"] == {} and found["tie_accuracy"] == 0


def test_half_a_decibel_is_not_clear() -> None:
    rows = [Judged("A", "B", "tools", 0.5, "blur"), Judged("B", "B", "tools", -0.51, "blur")]
    assert figures(rows)["tools"]["clear"] == 1 and figures(rows)["tools"]["agreement"] == 1
