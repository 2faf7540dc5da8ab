"""Which rows make a step: whole groups of answers, and for ranking one data set at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from iqloop.critic.training.examples import Example
from iqloop.critic.training.grpo.settings import GrpoSettings
from iqloop.errors import UsageError


class Batches(Sampler[int]):
    """Indices of all steps of a run: each question ``copies`` times in a row, ``prompts`` questions a step.

    The order of an epoch depends on the seed and the epoch alone, and all epochs are one pass, so that a resumed run
    goes on in the order of an unbroken one. Questions that do not fill a step are left over until the next epoch draws.
    """

    def __init__(
        self,
        groups: Sequence[str],
        prompts: int,
        copies: int,
        steps: int,
        seed: int,
        repeats: int = 1,
    ) -> None:
        """Args:

        groups: of each row, what may share a step (equal for all, or the data set).
        prompts: questions per step.
        copies: answers per question.
        steps: how many steps.
        seed: of the order.
        repeats: how often trl asks for a step's questions (its gradient accumulation).
        """
        sizes = {group: groups.count(group) for group in dict.fromkeys(groups)}
        small = [f"{size}{f' of {group}' if group else ''}" for group, size in sizes.items() if size < prompts]
        if small:
            raise UsageError(
                f"expected at least {prompts} rows to fill a step (prompts_per_step), got {', '.join(small)}: "
                "add rows, or lower prompts_per_step"
            )
        self.groups, self.prompts, self.copies = groups, prompts, copies
        self.steps, self.seed, self.repeats = steps, seed, repeats

    def __len__(self) -> int:
        return self.steps * self.prompts * self.copies * self.repeats

    def __iter__(self) -> Iterator[int]:
        for questions in self.questions():
            for _ in range(self.repeats):
                for index in questions:
                    yield from [index] * self.copies

    def questions(self) -> Iterator[list[int]]:
        """The rows of each step."""
        done, epoch = 0, 0
        while True:
            for chunk in self._epoch(epoch):
                if done == self.steps:
                    return
                yield chunk
                done += 1
            epoch += 1

    def per_epoch(self) -> int:
        """Steps of one epoch."""
        return sum(self.groups.count(group) // self.prompts for group in dict.fromkeys(self.groups))

    def _epoch(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, epoch])
        members: dict[str, list[int]] = {}
        for index, group in enumerate(self.groups):
            members.setdefault(group, []).append(index)
        chunks = []
        for indices in members.values():
            order = [indices[i] for i in rng.permutation(len(indices))]
            chunks += [order[i : i + self.prompts] for i in range(0, len(order) - self.prompts + 1, self.prompts)]
        return [chunks[i] for i in rng.permutation(len(chunks))]


def grouping(examples: Sequence[Example], settings: GrpoSettings) -> list[str]:
    """What may share a step: anything, or one data set where scores are ranked."""
    return [example.dataset if settings.score_by == "ranking" else "" for example in examples]


def steps_of(settings: GrpoSettings, groups: Sequence[str]) -> int:
    """Optimiser steps of a run; ``groups`` as for `Batches`. Raises `UsageError` for too few rows."""
    batches = Batches(groups, settings.prompts_per_step, settings.generations, 1, settings.seed)
    return settings.steps or batches.per_epoch() * settings.epochs
