"""The parser: what the prompts show is read, everything else is `Unparsed`."""

from __future__ import annotations

import pytest

from iqloop.critic.answers import parse_choice, parse_degradation, parse_rating, split
from iqloop.critic.verdicts import Unparsed


def wrap(answer: str) -> str:
    return f"<think> because </think><answer> {answer} </answer>"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (wrap('{"rating": 3.52}'), 3.52),
        (wrap('{"rating": 1}'), 1.0),
        (wrap('```json\n{"rating": 2.5}\n```'), 2.5),
        (wrap("4.10"), 4.1),
        ('<think>\na\n</think>\n<answer>\n{"rating": 5.00}\n</answer>', 5.0),
        ('<think></think><answer>{"rating": 5}</answer>', 5.0),
    ],
)
def test_ratings(text: str, value: float) -> None:
    assert parse_rating(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "3.52",
        wrap('{"rating": "3.52"}'),
        wrap('{"rating": 9.9}'),
        wrap('{"rating": 0.5}'),
        wrap('{"rating": NaN}'),
        wrap('{"rating": true}'),
        wrap('{"rating": 3.5.1}'),
        wrap('{"score": 3.5}'),
        wrap('{"rating": 3.5'),
        wrap("[" * 5000),
        '<answer> {"rating": 3.5} </answer>',
        wrap('{"rating": 3.5}') + " and more",
        wrap('{"rating": 3.5}') * 2,
        "<think> a </think><think> b </think><answer> 3 </answer>",
        "",
    ],
)
def test_other_ratings_are_unparsed_and_keep_their_text(text: str) -> None:
    value = parse_rating(text)
    assert isinstance(value, Unparsed) and value.raw == text and value.reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"distortion_class": "noise", "severity": "slight"}', ("noise", "slight")),
        ('{"severity": "serious", "distortion_class": "blur"}', ("blur", "serious")),
        ('{"distortion_class": "null", "severity": "null"}', ("null", "null")),
        ('{"distortion_class": null, "severity": null}', ("null", "null")),
    ],
)
def test_degradations(answer: str, expected: tuple[str, str]) -> None:
    assert parse_degradation(wrap(answer)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        '{"distortion_class": "Blur", "severity": "slight"}',
        '{"distortion_class": "rain", "severity": "slight"}',
        '{"distortion_class": "blur", "severity": "null"}',
        '{"distortion_class": "null", "severity": "slight"}',
        '{"distortion_class": "blur"}',
        '{"distortion_class": ["blur"], "severity": "slight"}',
        '["blur", "slight"]',
        "blur",
    ],
)
def test_other_degradations_are_unparsed(answer: str) -> None:
    assert isinstance(parse_degradation(wrap(answer)), Unparsed)


@pytest.mark.parametrize(
    ("answer", "choice"),
    [("Image A", "A"), ("image b.", "B"), ("**Similar**", "similar"), ('"Image A"', "A")],
)
def test_choices(answer: str, choice: str) -> None:
    assert parse_choice(wrap(answer)) == choice


@pytest.mark.parametrize("answer", ["A", "Image C", "Image A or Image B", ""])
def test_other_choices_are_unparsed(answer: str) -> None:
    assert isinstance(parse_choice(wrap(answer)), Unparsed)


def test_split_keeps_both_parts() -> None:
    assert split(wrap("x")) == ("because", "x")
