"""Rewards: golden values of the papers' equations, and what may never be rewarded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqloop.critic.rewards import (
    comparison_reward,
    degradation_reward,
    format_reward,
    group_advantages,
    ranking_rewards,
    score_reward,
)
from iqloop.errors import UsageError


def wrap(answer: str) -> str:
    return f"<think> because </think><answer> {answer} </answer>"


def test_the_prompts_own_form_is_rewarded_with_and_without_line_breaks() -> None:
    """The published code gives the first of these 0."""
    assert format_reward(wrap('{"rating": 3.5}'), "score") == 1
    assert format_reward('<think>\na\n</think>\n<answer>\n{"rating": 3.5}\n</answer>', "score") == 1
    assert format_reward(wrap('{"distortion_class": null, "severity": null}'), "degradation") == 1
    assert format_reward(wrap("Image A"), "compare-reference") == 1
    assert format_reward(wrap("fine"), "describe") == 1


@pytest.mark.parametrize(
    "text",
    [
        "3.5",
        wrap("3.5"),
        wrap("{rating: 3.5}"),
        wrap('{"rating": {"value": 3.5}}'),
        wrap('```json\n{"rating": 3.5}\n```'),
        wrap('{"rating": 3.5}') + " so",
        wrap('{"rating": 3.5}') * 2,
        '<answer> {"rating": 3.5} </answer>',
        "",
    ],
)
def test_another_form_is_not(text: str) -> None:
    assert format_reward(text, "score") == 0


def test_scores_within_epsilon_strictly() -> None:
    """Equation 3 with epsilon 0.35; 0.5 is exact in binary, so the bound itself can be tested."""
    assert score_reward(wrap('{"rating": 3.34}'), 3.0) == 1 and score_reward(wrap('{"rating": 3.36}'), 3.0) == 0
    assert score_reward(wrap('{"rating": 3.5}'), 3.0, epsilon=0.5) == 0
    assert score_reward(wrap("2.9"), 3.0) == 1 and score_reward("<answer>2.9</answer>", 3.0) == 0
    assert score_reward("<answer>2.9</answer>", 3.0, thinks=False) == 1
    assert score_reward(wrap('{"rating": 9.9}'), 5.0, epsilon=10) == 0


@pytest.mark.parametrize(
    ("said", "truth", "worth"),
    [
        (("blur", "serious"), ("blur", "serious"), 1.0),
        (("blur", "slight"), ("blur", "serious"), 0.25),
        (("noise", "serious"), ("blur", "serious"), 0.0),
        (("null", "null"), ("null", "null"), 1.0),
        ((None, None), ("null", "null"), 1.0),
        (("Blur", "serious"), ("blur", "serious"), 0.0),
    ],
)
def test_degradations(said: tuple[Any, Any], truth: tuple[Any, Any], worth: float) -> None:
    """Equations 4 to 6."""
    kind, level = ("null" if word is None else f'"{word}"' for word in said)
    assert degradation_reward(wrap(f'{{"distortion_class": {kind}, "severity": {level}}}'), *truth) == worth


def test_comparisons() -> None:
    """Equation 7."""
    assert comparison_reward(wrap("Image A"), "A") == 1 and comparison_reward(wrap("Image B"), "A") == 0
    assert comparison_reward(wrap("Similar"), "similar") == 1 and comparison_reward("Image A", "A") == 0


def test_advantages_by_hand() -> None:
    """Equation 1: mean 1, unbiased deviation 1."""
    assert group_advantages([0, 1, 2]) == pytest.approx([-1, 0, 1], abs=2e-4)
    assert group_advantages([1, 1, 1, 1]) == [0, 0, 0, 0]


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_ranking_by_hand() -> None:
    """Two images, two answers each: means 3.5 and 2, variances 0.5 and 2, so the denominator is sqrt(2.5 + 1e-6)."""
    scores, opinions = [[3.0, 4.0], [1.0, 3.0]], [4.0, 2.0]
    root = math.sqrt(2.5 + 1e-6)
    rewards = ranking_rewards(scores, opinions)
    assert rewards[0] == pytest.approx([math.sqrt(phi(1 / root)), math.sqrt(phi(2 / root))])
    assert rewards[1] == pytest.approx([math.sqrt(1 - phi(-2.5 / root)), math.sqrt(1 - phi(-0.5 / root))])
    tied = ranking_rewards(scores, [3.0, 3.0])
    p = phi(1 / root)
    assert tied[0][0] == pytest.approx(math.sqrt(p / 2) + math.sqrt((1 - p) / 2))


def test_the_ablations_by_hand() -> None:
    scores, opinions = [[3.0, 4.0], [1.0, 3.75]], [4.0, 2.0]
    assert ranking_rewards(scores, opinions, variant="binary") == [[1, 1], [1, 0]]
    fixed = ranking_rewards(scores, opinions, variant="fixed-variance")
    assert fixed[0][0] == pytest.approx(math.sqrt(phi((3 - 2.375) / math.sqrt(2 + 1e-6))))
    average = ranking_rewards(scores, opinions, variant="probability-average")
    spread = math.sqrt(0.5 + np.var([1, 3.75], ddof=1) + 1e-6)
    mean = (phi((3 - 2.375) / spread) + phi((4 - 2.375) / spread)) / 2
    assert average[0] == pytest.approx([math.sqrt(mean)] * 2)


def test_answers_that_do_not_parse_poison_nothing() -> None:
    """They earn 0, and leave mean, variance and everyone else's reward as if they had not been given."""
    with_gap = ranking_rewards([[3.0, None, 4.0], [1.0, 3.0], [None, None]], [4.0, 2.0, 3.0])
    without = ranking_rewards([[3.0, 4.0], [1.0, 3.0]], [4.0, 2.0])
    assert with_gap[0] == pytest.approx([without[0][0], 0, without[0][1]]) and with_gap[2] == [0, 0]
    assert with_gap[1] == pytest.approx(without[1])


def test_pairs_are_formed_inside_a_dataset() -> None:
    scores, opinions = [[3.0, 4.0], [1.0, 3.0], [60.0, 61.0], [20.0, 30.0]], [4.0, 2.0, 70.0, 10.0]
    together = ranking_rewards(scores, opinions, ["a", "a", "b", "b"])
    assert together == ranking_rewards(scores[:2], opinions[:2]) + ranking_rewards(scores[2:], opinions[2:])
    assert ranking_rewards(scores[:1], opinions[:1]) == [[0, 0]]
    with pytest.raises(UsageError, match="as many images"):
        ranking_rewards(scores, opinions[:2])


_ROWS = st.lists(st.lists(st.floats(1, 5), min_size=3, max_size=3), min_size=2, max_size=5)


@given(_ROWS, st.data(), st.sampled_from(["fidelity", "binary", "probability-average", "fixed-variance"]))
def test_rewards_stay_in_zero_to_one(rows: list[list[float]], data: st.DataObject, variant: Any) -> None:
    opinions = data.draw(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=len(rows), max_size=len(rows)))
    for row in ranking_rewards(rows, opinions, variant=variant):
        assert all(0 <= value <= 1 + 1e-9 for value in row)


def test_the_right_order_earns_more() -> None:
    scores = [[4.4, 4.5, 4.6], [3.0, 3.1, 2.9], [1.4, 1.5, 1.6]]
    right, wrong = (np.mean(ranking_rewards(scores, opinions)) for opinions in ([5.0, 3.0, 1.0], [1.0, 3.0, 5.0]))
    assert right > 0.99 and wrong < 0.05


def test_an_unknown_variant_is_refused() -> None:
    unknown: Any = "average"
    with pytest.raises(UsageError, match="expected one of fidelity, binary"):
        ranking_rewards([[1.0, 2.0]], [1.0], variant=unknown)
