"""Batches side by side give what batches one after the other give, and leave torch as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import iqloop
from iqloop.critic import cores as cores_module
from iqloop.critic import engine
from iqloop.critic.cores import cores_for, even_size, side_by_side
from iqloop.critic.verdicts import Degradation, Preference, Rating


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 16, 17, 48, 100])
@pytest.mark.parametrize("cores", [1, 2, 5])
def test_pieces_are_even_and_not_too_large(count: int, cores: int) -> None:
    size = even_size(count, 8, cores)
    assert 1 <= size <= 8
    if count >= 2 * cores:
        rounds = -(-count // (size * cores))
        assert rounds == -(-count // (8 * cores)), "no more rounds than pieces of 8 would take"
        # The busiest core has no more to do than its share, but for what rounding up leaves over.
        assert rounds * size < count / cores + rounds


def test_answers_come_in_order(two_threads: None) -> None:
    first_waits = threading.Event()

    def work(piece: int) -> int:
        # The first ends last: it waits for the second, so they do run at the same time.
        if piece == 0:
            assert first_waits.wait(30)
        elif piece == 1:
            first_waits.set()
        return piece * 10

    with torch.no_grad():
        assert side_by_side(work, range(5), 2) == [0, 10, 20, 30, 40]


def test_threads_have_their_share_and_no_gradient(two_threads: None) -> None:
    def work(_: int) -> tuple[int, bool, bool]:
        return torch.get_num_threads(), torch.is_grad_enabled(), threading.current_thread() is threading.main_thread()

    with torch.no_grad():
        assert side_by_side(work, range(3), 2) == [(1, False, False)] * 3
        assert side_by_side(work, [0], 2) == [(2, False, True)]
    assert torch.get_num_threads() == 2
    # With a gradient nothing leaves the thread that asked.
    assert side_by_side(work, range(3), 2) == [(2, True, True)] * 3
    with torch.no_grad(), torch.autocast("cpu"):
        assert side_by_side(work, range(3), 2) == [(2, False, True)] * 3


def test_an_error_is_raised_and_what_waits_is_left(two_threads: None) -> None:
    begun: list[int] = []

    def work(piece: int) -> int:
        begun.append(piece)
        raise ValueError(f"piece {piece}")

    with torch.no_grad(), pytest.raises(ValueError, match="piece 0"):
        side_by_side(work, range(1000), 2)
    assert len(begun) < 1000
    assert torch.get_num_threads() == 2


def test_only_small_nets_on_a_cpu(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Linear(10, 10)
    assert cores_for(net) == 2
    assert cores_for(net.to("meta")) == 1
    monkeypatch.setattr(cores_module, "SMALL", 110)
    assert cores_for(nn.Linear(10, 10)) == 1


def test_a_critic_says_the_same(two_threads: None, images: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    critic = iqloop.create_critic("qinsight-mini", batch_size=2)
    large = [nn.functional.interpolate(image[None], size=(400, 392))[0] for image in images]
    some = [*images, *large]
    threads: list[threading.Thread] = []
    sit = engine.QwenCritic._sit

    def watched(self: engine.QwenCritic, batch: list[torch.Tensor]) -> engine.Sitting:
        threads.append(threading.current_thread())
        return sit(self, batch)

    monkeypatch.setattr(engine.QwenCritic, "_sit", watched)
    assert isinstance(critic, engine.QwenCritic)
    asked = critic.ask(some, ["score", "perceive"])
    compared = critic.compare(some[:2], some[1:3], some[2:4])
    # Each round of batches has threads of its own, two at a time.
    assert len({thread.name for thread in threads}) == 2 and threading.main_thread() not in threads
    monkeypatch.setattr(engine, "cores_for", lambda model: 1)
    alone = critic.ask(some, ["score", "perceive"])
    for one, other in zip(asked, alone, strict=True):
        assert isinstance(one.score, Rating) and isinstance(other.score, Rating)
        assert one.score.mean == pytest.approx(other.score.mean, abs=1e-4)
        assert isinstance(one.degradation, Degradation) and isinstance(other.degradation, Degradation)
        assert one.degradation.raw == other.degradation.raw
        assert one.degradation.probabilities == pytest.approx(dict(other.degradation.probabilities), abs=1e-4)
    for pair, again in zip(compared, critic.compare(some[:2], some[1:3], some[2:4]), strict=True):
        assert isinstance(pair, Preference) and isinstance(again, Preference)
        assert pair.raw == again.raw and pair.probability == pytest.approx(again.probability, abs=1e-4)
