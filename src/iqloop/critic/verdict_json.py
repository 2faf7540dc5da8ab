"""A verdict as text and back, equal to the last bit: Python writes the shortest digits that give a float again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from iqloop.critic.verdicts import Degradation, Preference, Provenance, Rating, Unparsed

Verdict = Rating | Degradation | Preference | Unparsed
_KINDS: dict[str, type[Verdict]] = {kind.__name__: kind for kind in (Rating, Degradation, Preference, Unparsed)}


def to_text(verdict: Verdict) -> str | None:
    """JSON; None for a verdict that would not read back equal (another class, NaN, values that JSON has not).

    >>> from_text(to_text(Rating(3.25, 0.5, provenance=Provenance("mine"))))
    Rating(mean=3.25, std=0.5, digit_mass=None, raw='', answers=(), unparsed=0, provenance=Provenance(model='mine', \
prompt='', decoding=''))
    """
    try:
        text = json.dumps({"kind": type(verdict).__name__, **_values(verdict)}, default=_plain)
        return text if from_text(text) == verdict else None
    except (TypeError, ValueError):
        return None


def from_text(text: str) -> Verdict:
    """The verdict. Raises ValueError for any other text."""
    told = json.loads(text)
    try:
        kind: Any = _KINDS[told.pop("kind")]
        told["provenance"] = Provenance(**told["provenance"])
        # Verdicts hold no lists: what is one in JSON was a tuple.
        verdict: Verdict = kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in told.items()})
        return verdict
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"expected a verdict as JSON, got {text[:60]!r}") from error


def _values(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Provenance):
        return _values(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON has no {type(value).__name__}")
