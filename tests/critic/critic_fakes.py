"""Scripted critics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed


class FakeCritic:
    """Answers with what it was told to; None is an answer that cannot be read."""

    def __init__(
        self,
        scores: Sequence[float | None] = (3.0,),
        *,
        name: str = "fake",
        score_range: tuple[float, float] = (1.0, 5.0),
        lower_better: bool = False,
    ) -> None:
        self.scores, self.name, self.score_range, self.lower_better = scores, name, score_range, lower_better
        self.version = "fake-1"
        self.capabilities: frozenset[Capability] = frozenset(["score"])
        self.seen: list[Tensor] = []

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self.seen.extend(images)
        said = [self.scores[i % len(self.scores)] for i in range(len(images))]
        return [Unparsed("<answer>", "expected a rating") if one is None else Rating(one, 0.5) for one in said]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        raise NotImplementedError

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        raise NotImplementedError

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        raise NotImplementedError


class BrightnessCritic(FakeCritic):
    """Scores the mean brightness, with its gradient: ``low + (high - low) * mean``."""

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        return [Rating(float(value), 0.0) for value in self.expected_scores(images)]

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        self.seen.extend(image.detach().clone() for image in images)
        low, high = self.score_range
        return torch.stack([low + (high - low) * image.mean() for image in images])


class FlatCritic(BrightnessCritic):
    """Has the method and no gradient."""

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        return super().expected_scores(images) * 0
