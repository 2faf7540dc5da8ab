"""Preferences from two ratings."""

from __future__ import annotations

import pytest

from iqloop.critic.thurstone import by_ratings, prefer
from iqloop.critic.verdicts import Preference, Rating, Unparsed


def test_probabilities() -> None:
    """Golden: Phi(1 / sqrt(0.5)) = 0.9214."""
    assert prefer(Rating(3, 0.5), Rating(2, 0.5)).probability == pytest.approx(0.9214, abs=1e-4)
    assert prefer(Rating(4, 0.5), Rating(3, 0.5), lower_better=True).choice == "B"
    assert prefer(Rating(4, 0), Rating(3, 0)).probability == 1
    assert prefer(Rating(3, 0), Rating(3, 0)).choice == "similar"


def test_near_ties_are_similar() -> None:
    near = (Rating(3.1, 1.0), Rating(3.0, 1.0))
    assert prefer(*near).choice == "similar" and prefer(*near, similar_band=0).choice == "A"


def test_swapping_mirrors() -> None:
    a, b = Rating(3.3, 0.4), Rating(2.9, 0.7)
    assert prefer(a, b).probability == pytest.approx(1 - prefer(b, a).probability)


def test_an_answer_that_cannot_be_read_leaves_the_pair_unparsed() -> None:
    good, bad = Rating(3, 0.5), Unparsed("x", "y")
    first, second, third = by_ratings([good, bad, good], [bad, good, Rating(1, 0.5)])
    assert first is bad and second is bad
    assert isinstance(third, Preference) and third.choice == "A" and third.method == "thurstone"
