"""Best of N with scripted generators: who is left halfway, what is made when, and in which order it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import iqloop
from iqloop.agents.choose import Sample, best_of, choose
from iqloop.critic.verdicts import Unparsed
from iqloop.errors import CriticError, ToolError, UsageError

from .agents_fakes import FakeCritic

SHAPE = (3, 32, 32)


def plain(value: float) -> Tensor:
    return torch.full(SHAPE, round(value * 255) / 255)


def brightness(image: Tensor) -> float:
    return 1 + 4 * float(image.mean())


class Scripted:
    """Candidates of one grey each; halfway they are another."""

    name = "scripted"

    def __init__(
        self, final: Callable[[int], float | str], halfway: Callable[[int], float | None] | None = None
    ) -> None:
        self.final, self.halfway = final, halfway
        self.log: list[str] = []

    def begin(self, seed: int) -> ScriptedRun:
        return ScriptedRun(self, seed)


class ScriptedRun:
    def __init__(self, source: Scripted, seed: int) -> None:
        self.source, self.seed, self.work = source, seed, 0.0

    def preview(self) -> Tensor | None:
        self.source.log.append(f"half {self.seed}")
        self.work = 0.5
        value = None if self.source.halfway is None else self.source.halfway(self.seed)
        return None if value is None else plain(value)

    def finish(self) -> Tensor:
        self.source.log.append(f"finish {self.seed}")
        value = self.source.final(self.seed)
        if isinstance(value, str):
            raise ToolError(value)
        self.work = 1.0
        return plain(value)

    def drop(self) -> None:
        if self.work < 1:
            self.source.log.append(f"drop {self.seed}")


VALUES = {10: 0.3, 11: 0.7, 12: 0.5, 13: 0.1}


def test_ranks_all() -> None:
    found = choose(Scripted(VALUES.__getitem__), 4, critic=FakeCritic(brightness), seed=10, by="score")
    assert [found.samples[i].seed for i in found.ranking.order] == [11, 12, 10, 13]
    assert found.best.seed == 11 and found.work == 1
    assert torch.equal(found.best.image, plain(0.7))  # type: ignore[arg-type]


def test_lower_may_be_better() -> None:
    source = Scripted(VALUES.__getitem__, VALUES.__getitem__)
    found = choose(source, 4, critic=FakeCritic(brightness, lower_better=True), seed=10, by="score", prune=0.5)
    assert found.best.seed == 13
    assert {sample.seed for sample in found.samples if sample.pruned} == {11, 12}


def test_the_worst_are_left_halfway() -> None:
    """By what is seen there: 12 seems best and is not; 13 and 10 seem worst. All halves are made first."""
    seen = {10: 0.2, 11: 0.4, 12: 0.9, 13: 0.1}
    source = Scripted(VALUES.__getitem__, seen.__getitem__)
    told: list[list[int]] = []
    found = choose(
        source,
        4,
        critic=FakeCritic(brightness),
        seed=10,
        by="score",
        prune=0.5,
        on_samples=lambda samples: told.append(sorted(sample.seed for sample in samples)),
    )
    assert source.log[:4] == ["half 10", "half 11", "half 12", "half 13"]
    assert sorted(source.log[4:6]) == ["drop 10", "drop 13"] and source.log[6:] == ["finish 11", "finish 12"]
    assert told == [[10, 13], [11], [12]]
    assert [found.samples[i].seed for i in found.ranking.order] == [11, 12, 10, 13]
    assert found.best.seed == 11 and found.work == pytest.approx(0.75)
    pruned = found.samples[0]
    assert pruned.pruned and torch.equal(pruned.image, plain(0.2))  # type: ignore[arg-type]
    assert pruned.preview_score == pytest.approx(brightness(plain(0.2)))


@pytest.mark.parametrize(("n", "prune", "left"), [(1, 0.9, 0), (2, 0.9, 1), (8, 0.25, 2), (8, 0.0, 0), (3, 0.34, 1)])
def test_how_many_are_left(n: int, prune: float, left: int) -> None:
    source = Scripted(lambda seed: seed / 100, lambda seed: seed / 100)
    found = choose(source, n, critic=FakeCritic(brightness), by="score", prune=prune)
    assert sum(sample.pruned for sample in found.samples) == left
    assert found.best.seed == n - 1


def test_of_equals_the_first_are_kept() -> None:
    source = Scripted(lambda seed: 0.5, lambda seed: 0.5)
    found = choose(source, 4, critic=FakeCritic(brightness), by="score", prune=0.5)
    assert [sample.pruned for sample in found.samples] == [False, False, True, True]
    assert [place.rank for place in found.ranking.places[:2]] == [1, 1]


def test_without_a_preview_all_are_finished() -> None:
    source = Scripted(VALUES.__getitem__)
    found = choose(source, 4, critic=FakeCritic(brightness), seed=10, by="score", prune=0.5)
    assert found.best.seed == 11 and not any(sample.pruned for sample in found.samples)
    assert found.notes == ("scripted shows nothing halfway: every candidate was finished",)


def test_what_the_critic_cannot_rate_halfway_is_finished() -> None:
    def scorer(image: Tensor) -> float | Unparsed:
        return Unparsed("?", "no number") if float(image.mean()) < 0.15 else brightness(image)

    seen = {10: 0.2, 11: 0.4, 12: 0.9, 13: 0.1}
    found = choose(
        Scripted(lambda seed: seed / 20, seen.__getitem__), 4, critic=FakeCritic(scorer), seed=10, by="score", prune=0.5
    )
    assert {sample.seed for sample in found.samples if sample.pruned} == {10, 11}


def test_a_failed_candidate_comes_last_with_its_reason() -> None:
    values: dict[int, float | str] = {0: 0.2, 1: "no memory", 2: 0.4}
    found = choose(Scripted(values.__getitem__), 3, critic=FakeCritic(brightness), by="score")
    assert found.best.seed == 2
    last = found.ranking.places[-1]
    assert (last.index, last.rank, last.error) == (1, None, "no memory")
    with pytest.raises(ToolError, match=r"every candidate of scripted failed; the first: no memory"):
        choose(Scripted(lambda seed: "no memory"), 2, critic=FakeCritic(brightness))


def test_nothing_waits_when_something_goes_wrong() -> None:
    source = Scripted(VALUES.__getitem__, VALUES.__getitem__)

    def stop(samples: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(source, 4, critic=FakeCritic(brightness), seed=10, by="score", prune=0.5, on_samples=stop)
    assert {line for line in source.log if line.startswith("drop")} == {f"drop {seed}" for seed in VALUES}


def test_goes_on_from_what_is_there() -> None:
    """Finished ones are not made again, and no more are left than were."""
    source = Scripted(VALUES.__getitem__, VALUES.__getitem__)
    kept: dict[int, Sample] = {}
    critic = FakeCritic(brightness)

    def keep(samples: object) -> None:
        for sample in samples:  # type: ignore[attr-defined]
            kept[sample.seed] = sample
        if len(kept) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(source, 4, critic=critic, seed=10, by="score", prune=0.5, on_samples=keep)
    again = Scripted(VALUES.__getitem__, VALUES.__getitem__)
    found = choose(again, 4, critic=critic, seed=10, by="score", prune=0.5, ready=kept)
    whole = choose(Scripted(VALUES.__getitem__, VALUES.__getitem__), 4, critic=critic, seed=10, by="score", prune=0.5)
    assert again.log == ["finish 12"]
    assert found.ranking == whole.ranking
    assert [sample.pruned for sample in found.samples] == [sample.pruned for sample in whole.samples]


def test_scorers_are_added() -> None:
    """Each is standardised, so a scale of a thousand weighs no more than one of one; direction counts."""
    values = {0: 0.2, 1: 0.5, 2: 0.8}
    critic = FakeCritic(brightness)
    against = FakeCritic(lambda image: 1000 * float(image.mean()), lower_better=True)
    found = choose(Scripted(values.__getitem__), 3, critic=critic, scorers=[(against, 3.0)])
    assert [found.samples[i].seed for i in found.ranking.order] == [0, 1, 2]
    found = choose(Scripted(values.__getitem__), 3, critic=critic, scorers=[(against, 0.5)])
    assert [found.samples[i].seed for i in found.ranking.order] == [2, 1, 0]
    alike = FakeCritic(lambda image: 3.0)
    found = choose(Scripted(values.__getitem__), 3, critic=critic, scorers=[(alike, 9.0)])
    assert found.best.seed == 2


def test_comparisons_decide_when_asked() -> None:
    """A critic whose comparisons contradict its scores."""
    critic = FakeCritic(brightness, compare=lambda a, b, reference: 1.0 if a.mean() < b.mean() else 0.0)
    found = choose(Scripted(VALUES.__getitem__), 4, critic=critic, seed=10, by="comparison", reference=plain(0))
    assert found.best.seed == 13 and found.ranking.comparisons > 0
    assert {match.a for match in found.ranking.matches} <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("n", "prune", "said"), [(0, 0.0, "at least 1"), (2, 1.0, r"in \[0, 1\)"), (2, -0.1, r"in \[0, 1\)")]
)
def test_refuses(n: int, prune: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose(Scripted(VALUES.__getitem__), n, critic=FakeCritic(brightness), prune=prune)
    with pytest.raises(UsageError, match="finite"):
        choose(
            Scripted(VALUES.__getitem__),
            2,
            critic=FakeCritic(brightness),
            scorers=[(FakeCritic(brightness), float("nan"))],
        )


def test_no_candidate_can_be_ranked() -> None:
    found = choose(Scripted(lambda seed: 0.5), 2, critic=FakeCritic(lambda image: Unparsed("?", "no")), by="score")
    with pytest.raises(CriticError, match="no candidate could be ranked"):
        _ = found.best


def test_is_public() -> None:
    assert iqloop.best_of is best_of
    found = iqloop.best_of(Scripted(VALUES.__getitem__), 4, critic=FakeCritic(brightness), seed=10, by="score", prune=0)
    assert found.best.seed == 11
