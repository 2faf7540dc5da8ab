"""From an answer's text to typed values, strictly.

The form is the one that the published prompts show: ``<think> ... </think><answer> ... </answer>``, one of each,
nothing else but white space. The published training code asks for line breaks that no prompt mentions, misses JSON's
``null`` and draws a random number when nothing matches; none of that here. What does not parse is `Unparsed`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple, cast, get_args

from iqloop.critic.verdicts import SEVERITIES, Choice, DistortionClass, Severity, Unparsed

_FORM = re.compile(r"\s*<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_FENCE = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


class Answer(NamedTuple):
    """The two parts of a well-formed answer, stripped."""

    reasoning: str
    answer: str


class ParsedDegradation(NamedTuple):
    """The fields of a degradation answer."""

    distortion_class: DistortionClass
    severity: Severity


def split(text: str) -> Answer | None:
    """Reasoning and answer, or None when the text is not of the published form."""
    match = _FORM.fullmatch(text)
    if match is None or _TAG.search(match["think"]) or _TAG.search(match["answer"]):
        return None
    return Answer(match["think"].strip(), match["answer"].strip())


def parse_rating(text: str, low: float = 1.0, high: float = 5.0, thinks: bool = True) -> float | Unparsed:
    """``{"rating": 3.52}`` (or the number alone, as VisualQuality-R1 answers) inside [low, high].

    ``thinks`` False is for prompts that ask for the answer alone: then the thought may be missing.
    """
    parts = split(text) or (None if thinks else split("<think></think>" + text))
    if parts is None:
        return Unparsed(text, f"expected {'<think> </think>' if thinks else ''}<answer> </answer>")
    value = _json(parts.answer)
    if isinstance(value, dict):
        value = value.get("rating")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return Unparsed(text, 'expected a number, or JSON with the key "rating"')
    if not low <= value <= high:
        return Unparsed(text, f"expected a rating in [{low:g}, {high:g}], got {value:g}")
    return float(value)


def parse_degradation(text: str) -> ParsedDegradation | Unparsed:
    """``{"distortion_class": ..., "severity": ...}`` with the prompt's words; JSON null and "null" are the same."""
    parts = split(text)
    if parts is None:
        return Unparsed(text, "expected <think> </think><answer> </answer>")
    value = _json(parts.answer)
    if not isinstance(value, dict) or not {"distortion_class", "severity"} <= value.keys():
        return Unparsed(text, 'expected JSON with the keys "distortion_class" and "severity"')
    kind, severity = ("null" if value[key] is None else value[key] for key in ("distortion_class", "severity"))
    if kind not in get_args(DistortionClass):
        return Unparsed(text, f"expected one of {get_args(DistortionClass)}, got {kind!r}")
    if severity not in (("null",) if kind == "null" else SEVERITIES):
        return Unparsed(text, f"severity {severity!r} does not go with {kind!r}")
    return ParsedDegradation(cast(DistortionClass, kind), cast(Severity, severity))


_CHOICES: dict[str, Choice] = {"image a": "A", "image b": "B", "similar": "similar"}


def parse_choice(text: str) -> Choice | Unparsed:
    """``Image A``, ``Image B`` or ``Similar``; quotes, asterisks and a full stop around it do no harm."""
    parts = split(text)
    if parts is None:
        return Unparsed(text, "expected <think> </think><answer> </answer>")
    choice = _CHOICES.get(parts.answer.strip(" \t\r\n.*\"'").lower())
    return choice or Unparsed(text, f"expected Image A, Image B or Similar, got {parts.answer!r}")


def _json(text: str) -> Any:
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (json.JSONDecodeError, RecursionError):
        return None
