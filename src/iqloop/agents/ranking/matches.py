"""Showing a critic two images at a time, at one size, and keeping what it said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iqloop.agents.ranking.pairing import Pair
from iqloop.agents.resize import at_one_size, at_size, size_of
from iqloop.critic.answers import parse_choice
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Preference, Unparsed
from iqloop.errors import CriticError

AT_ONCE = 8
"""Pairs in one question; of more, as many copies at one size would be held."""


class OnlyScores(CriticError):
    """The critic's comparisons would be of two scores, which tell nothing that the scores do not."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: rank by score")
        self.why = why


@dataclass(frozen=True)
class Held:
    """A comparison whose answer could be read."""

    pair: Pair
    preference: Preference
    round: int


class Matches:
    """A critic in front of images ``(3, H, W)`` in [0, 1], and what it said about them."""

    def __init__(
        self, critic: Critic, images: Sequence[Tensor], reference: Tensor | None, advance: Callable[[int], None]
    ) -> None:
        """Ask nothing yet; ``advance`` is told after each question of how many pairs it was.

        Raises `OnlyScores` for a critic without comparisons.
        """
        if "compare" not in critic.capabilities:
            raise OnlyScores(f"{critic.name} does not compare images")
        self.critic, self.images, self.reference = critic, images, reference
        self.held: list[Held] = []
        self.unread: list[Pair] = []
        self._advance = advance

    def ask(self, pairs: Sequence[Pair], round_number: int) -> list[float | None]:
        """The probability that the first of each pair is better, None where the answer could not be read.

        The probability, not the choice, is the outcome: it is the mean of both presentation orders, in which a
        preference for a position cancels, where a choice is "similar" as soon as the orders disagree.

        Raises `OnlyScores` when the critic answers by two scores.
        """
        chances: dict[Pair, float | None] = {}
        for start in range(0, len(pairs), AT_ONCE):
            piece = [fair(pair) for pair in pairs[start : start + AT_ONCE]]
            for pair, said in zip(piece, self._compare(piece), strict=True):
                chance = self._keep(pair, said, round_number)
                chances[pair] = chance
                chances[pair[::-1]] = None if chance is None else 1 - chance
            self._advance(len(piece))
        return [chances[pair] for pair in pairs]

    def _compare(self, pairs: Sequence[Pair]) -> list[Preference | Unparsed]:
        shown = [at_one_size(self.images[a], self.images[b]) for a, b in pairs]
        left, right = [a for a, _ in shown], [b for _, b in shown]
        with torch.no_grad():
            if self.reference is None:
                return self.critic.compare(left, right)
            # One tensor for each size: a critic can see that it is the same image, and read it once.
            resized = {size: at_size(self.reference, size) for size in {size_of(image) for image in left}}
            return self.critic.compare(left, right, [resized[size_of(image)] for image in left])

    def _keep(self, pair: Pair, said: Preference | Unparsed, round_number: int) -> float | None:
        if isinstance(said, Unparsed) or not math.isfinite(said.probability):
            self.unread.append(pair)
            return None
        if said.method == "thurstone":
            how = "by their scores" if self.reference is not None else "without a reference by their scores"
            raise OnlyScores(f"{self.critic.name} compares two images {how}, which tells nothing new")
        self.held.append(Held(pair, said, round_number))
        return min(max(said.probability, 0.0), 1.0)

    @property
    def position_bias(self) -> float | None:
        """Mean over the comparisons that tell it."""
        told = [held.preference.position_bias for held in self.held if held.preference.position_bias is not None]
        return sum(told) / len(told) if told else None

    @property
    def disagreements(self) -> float | None:
        """Share of the comparisons whose two orders were both written out and said different things."""
        told = [found for held in self.held if (found := disagrees(held.preference)) is not None]
        return sum(told) / len(told) if told else None


def fair(pair: Pair) -> Pair:
    """The pair in the order in which it is given to the critic.

    Everyone stands first in half of all its pairs, so that a critic that asks in one order only, and prefers one,
    makes no order of it. Of those who stand by their rank, the better one would always come first.
    """
    low, high = sorted(pair)
    return (low, high) if (high - low) % 2 else (high, low)


def disagrees(preference: Preference) -> bool | None:
    """Whether the two presentation orders said different things; None when they were not both written out."""
    if len(preference.raw) != 2:
        return None
    first, second = (parse_choice(text) for text in preference.raw)
    if isinstance(first, Unparsed) or isinstance(second, Unparsed):
        return None
    # In the second answer Image A is the one that stood second in the first.
    return first != {"A": "B", "B": "A", "similar": "similar"}[second]
