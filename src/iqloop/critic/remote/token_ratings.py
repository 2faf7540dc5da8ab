"""Ratings and labels from the probabilities of an answer's tokens, as `iqloop.critic.expected` defines them.

A server shows the likeliest tokens after a text, not a tree of branches, so the distribution of the tenths is asked for
integer digit by integer digit. Digits with less than `NEGLIGIBLE` of the probability are not followed: they count as if
all tenths were equally likely. Probabilities are those among the words in question; how much they had of the whole is
reported as the digit mass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from iqloop.critic.pooling import LABELS
from iqloop.critic.remote.request import Token
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Rating, Unparsed

Look = Callable[[str, int], Sequence[Token]]
"""The likeliest continuation of an answer's beginning and a text: at most so many tokens, fewer where it ends."""

NEGLIGIBLE = 1e-3
"""Share of an integer digit below which its tenths are not asked for."""
_LOW, _HIGH = 1, 5
_NONE: Mapping[int, float] = {}
_PLACES: Mapping[tuple[str, str], int] = {label: place for place, label in enumerate([*LABELS, ("null", "null")])}
_NUMBER = re.compile(r"<answer>[^<]*?(\d)")


def expected_rating(look: Look) -> Rating | Unparsed:
    """Expected rating on [1, 5]; one question, and one or two more for each further digit that is plausible."""
    first = look("", 3)

    def tenths(digit: int) -> tuple[float, Mapping[int, float]]:
        after = first[1:] if first[0].text == str(digit) else look(str(digit), 2)
        point = _top(after, 0).get(".", 0.0)
        if point == 0:
            return 0.0, _NONE
        told = after[1].top if after[0].text == "." and len(after) > 1 else _top(look(f"{digit}.", 1), 0)
        return point, _digits(told, 0, 9)

    return _moments(_digits(_top(first, 0), _LOW, _HIGH), tenths, "".join(token.text for token in first))


def rating_at(tokens: Sequence[Token]) -> Rating | Unparsed:
    """Expected rating at an answer that was written out, for servers that do not go on from a beginning.

    Only the tenths after the digit that was written are known; those of the other digits count as equally likely.
    """
    text = "".join(token.text for token in tokens)
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return Unparsed(text, "expected a digit after <answer>")
    found = numbers[-1]  # a thought may speak of tags
    place, at = 0, 0
    while at + len(tokens[place].text) <= found.start(1):
        at += len(tokens[place].text)
        place += 1
    if tokens[place].text.strip() != found[1]:
        return Unparsed(text, f"expected a token for each digit, got {tokens[place].text!r}: use decoding='reason'")
    after = tokens[place + 1 : place + 3]

    def tenths(digit: int) -> tuple[float, Mapping[int, float]]:
        if str(digit) != found[1]:
            return 1.0, _NONE
        told = _digits(_top(after, 1), 0, 9) if after and after[0].text == "." else _NONE
        return _top(after, 0).get(".", 0.0), told

    return _moments(_digits(tokens[place].top, _LOW, _HIGH), tenths, text)


def label_log_probs(look: Look) -> Tensor:
    """Log-probabilities ``(21,)`` of `LABELS` and "null": the class's word's, and the severity's where there is one."""
    kinds = _among(_top(look("", 1), 0), CLASSES)
    joint = torch.zeros(len(LABELS) + 1, dtype=torch.float64)
    for kind, share in kinds.items():
        words = SEVERITIES if kind != "null" else ("null",)
        likely: Mapping[str, float] = dict.fromkeys(words, 1 / len(words))
        if share > NEGLIGIBLE and kind != "null":
            likely = _among(_top(look(f'{kind}", "severity": "', 1), 0), (*SEVERITIES, "null"))
        for word in words:
            joint[_PLACES[kind, word]] = share * likely[word]
    return joint.clamp_min(1e-12).log().log_softmax(-1).float()


def first_better(look: Look) -> float:
    """Probability that the image shown as A is better, ties split; the answer's beginning ends with ``<answer>``."""
    first = look("", 2)
    kinds = _among(_top(first, 0), ("Image", "Similar"))
    following = first[1:] if len(first) > 1 and first[0].text.strip() == "Image" else look(" Image", 1)
    sides = _among(_top(following, 0), ("A", "B"))
    total, both = sum(kinds.values()), sum(sides.values())
    if total == 0 or both == 0:
        return 0.5
    return (kinds["Image"] * sides["A"] / both + kinds["Similar"] / 2) / total


def _moments(
    integer: Mapping[int, float], tenths: Callable[[int], tuple[float, Mapping[int, float]]], text: str
) -> Rating | Unparsed:
    mass = sum(integer.values())
    if mass == 0:
        return Unparsed(text, f"expected a digit from {_LOW} to {_HIGH} among the likeliest tokens")
    mean = square = 0.0
    for digit, weight in integer.items():
        share = weight / mass
        if digit == _HIGH:  # the top of the range has no fraction
            point, told = 0.0, _NONE
        elif share > NEGLIGIBLE:
            point, told = tenths(digit)
        else:
            point, told = 1.0, _NONE
        told = told if any(told.values()) else dict.fromkeys(range(10), 1.0)
        total = sum(told.values())
        values = [(digit + (t + 0.45) / 10, weight / total) for t, weight in told.items()]
        mean += share * ((1 - point) * digit + point * sum(w * v for v, w in values))
        square += share * ((1 - point) * digit**2 + point * sum(w * v * v for v, w in values))
    return Rating(min(max(mean, _LOW), _HIGH), math.sqrt(max(square - mean * mean, 0.0)), mass)


def _top(tokens: Sequence[Token], place: int) -> Mapping[str, float]:
    """Probabilities at a place; none behind the end."""
    return tokens[place].top if place < len(tokens) else {}


def _digits(top: Mapping[str, float], low: int, high: int) -> dict[int, float]:
    """Probability of each digit; tokens with a space before the digit mean the same."""
    found = dict.fromkeys(range(low, high + 1), 0.0)
    for token, p in top.items():
        digit = token.strip()
        if len(digit) == 1 and digit.isdecimal() and int(digit) in found:
            found[int(digit)] += p
    return found


def _among(top: Mapping[str, float], words: Sequence[str]) -> dict[str, float]:
    """Probability of each word, by the tokens that can only begin that word."""
    found = dict.fromkeys(words, 0.0)
    for token, p in top.items():
        start = token.strip()
        meant = [word for word in words if start and (word.startswith(start) or start.startswith(word))]
        if len(meant) == 1:
            found[meant[0]] += p
    return found
