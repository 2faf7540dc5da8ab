"""The loss: it can be minimised, its cap holds, its views are seeded and keep JPEG's grid."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import iqloop
from iqloop.critic.loss import CriticLoss, ViewJitter, critic_loss, random_view
from iqloop.critic.metric import create_metric
from iqloop.critic.views import GRID
from iqloop.errors import UsageError

from .critic_fakes import BrightnessCritic, FakeCritic

UP = BrightnessCritic(score_range=(0.0, 1.0))


@pytest.fixture(scope="module")
def blurred(photograph: Callable[..., NDArray[np.uint8]], as_tensor: Callable[[NDArray[np.uint8]], Tensor]) -> Tensor:
    return as_tensor(np.asarray(cv2.GaussianBlur(photograph("astronaut", 192), (0, 0), 2.0), np.uint8))


def descend(loss: CriticLoss, image: Tensor, steps: int = 10, size: float = 1 / 255) -> Tensor:
    """Signed gradient descent: each step moves every value by ``size`` against its gradient's sign, within [0, 1]."""
    for _ in range(steps):
        image = image.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(image), image)
        assert bool(gradient.isfinite().all())
        image = (image.detach() - size * gradient.sign()).clamp(0, 1)
    return image


def flat(level: float) -> Tensor:
    return torch.full((1, 3, 16, 16), level, requires_grad=True)


# -- minimising --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("views", "rise"), [(0, 0.5), (2, 0.2)])
def test_ten_steps_raise_the_score(blurred: Tensor, views: int, rise: float) -> None:
    """Less by random crops: no two steps see the same ones, and the score is of the whole."""
    critic = iqloop.create_critic("qinsight-mini", device="cpu")
    better = [descend(CriticLoss(critic, views=views, jitter=ViewJitter(side=112), seed=3), blurred) for _ in range(2)]
    assert torch.equal(better[0], better[1])
    before, after = create_metric(critic)([blurred, better[0]]).squeeze(1).tolist()
    assert after > before + rise
    assert float((better[0] - blurred).abs().max()) <= 10 / 255 + 1e-6


def test_the_loss_is_one_at_the_worst_and_zero_at_the_best() -> None:
    scores = torch.tensor([1.0, 2.0, 5.0])
    assert critic_loss(scores, (1, 5)).tolist() == [1.0, 0.75, 0.0]
    assert critic_loss(scores, (1, 5), lower_better=True).tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(("lower_better", "sign"), [(False, -1.0), (True, 1.0)])
def test_the_direction_is_the_critics(lower_better: bool, sign: float) -> None:
    image = flat(0.5)
    CriticLoss(BrightnessCritic(lower_better=lower_better))(image).backward()
    assert image.grad is not None and torch.equal(image.grad.sign(), torch.full_like(image, sign))


@pytest.mark.parametrize(("lower_better", "beyond", "short"), [(False, 0.9, 0.7), (True, 0.7, 0.9)])
def test_nothing_is_gained_beyond_the_cap(lower_better: bool, beyond: float, short: float) -> None:
    loss = CriticLoss(BrightnessCritic(score_range=(0, 1), lower_better=lower_better), cap=0.8)
    image = flat(beyond)
    value = loss(image)
    value.backward()
    assert value.item() == pytest.approx(0.8 if lower_better else 0.2)
    assert image.grad is not None and not bool(image.grad.any())
    image = flat(short)
    loss(image).backward()
    assert image.grad is not None and bool(image.grad.all())


def test_reductions() -> None:
    images = torch.cat([flat(0.25), flat(0.75)])
    assert CriticLoss(UP)(images).item() == pytest.approx(0.5)
    assert CriticLoss(UP, reduction="sum")(images).item() == pytest.approx(1.0)
    each = CriticLoss(UP, reduction="none", views=3)(images)
    assert each.shape == (2,) and each.tolist() == pytest.approx([0.75, 0.25])
    mixed = CriticLoss(UP, reduction="none")([torch.zeros(3, 9, 20), torch.ones(3, 30, 8)])
    assert mixed.tolist() == [1.0, 0.0]


def test_values_outside_the_range_are_clamped_and_get_no_gradient() -> None:
    image = torch.tensor([-0.5, 0.5, 1.5]).expand(1, 3, 8, 3).clone().requires_grad_(True)
    loss = CriticLoss(UP)(image)
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert image.grad is not None
    assert (image.grad != 0).any((0, 1, 2)).tolist() == [False, True, False]


def test_it_takes_a_metric_and_a_name() -> None:
    metric = create_metric("qinsight-mini", device="cpu")
    assert CriticLoss(metric).metric.critic is metric.critic
    assert CriticLoss("qinsight-mini", device="cpu").metric.metric_name == "qinsight-mini"
    assert iqloop.CriticLoss is CriticLoss


# -- views -------------------------------------------------------------------------------------------------------------


def shown(seed: int, steps: int = 2, views: int = 3) -> list[Tensor]:
    critic = BrightnessCritic()
    loss = CriticLoss(critic, views=views, jitter=ViewJitter(side=16, brightness=0.05, noise=0.01), seed=seed)
    image = torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    critic.seen.clear()
    for _ in range(steps):
        loss(image)
    return critic.seen


def test_the_same_seed_shows_the_same_views() -> None:
    first, second, other = shown(1), shown(1), shown(2)
    assert len(first) == 12
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert len({tuple(view.shape) for view in first}) > 1


def test_a_resumed_training_sees_the_views_that_it_would_have_seen() -> None:
    image, jitter = torch.rand(1, 3, 64, 64), ViewJitter(side=16)
    whole = CriticLoss(BrightnessCritic(), views=1, jitter=jitter)
    values = [float(whole(image)) for _ in range(4)]
    first = CriticLoss(BrightnessCritic(), views=1, jitter=jitter)
    for _ in range(2):
        first(image)
    resumed = CriticLoss(BrightnessCritic(), views=1, jitter=jitter)
    resumed.load_state_dict(first.state_dict())
    assert [float(resumed(image)) for _ in range(2)] == values[2:]


def test_views_start_on_the_grid_are_large_enough_and_reach_every_pixel() -> None:
    rows, columns = torch.meshgrid(torch.arange(70.0), torch.arange(100.0), indexing="ij")
    image = torch.stack([rows, columns, rows])
    generator = torch.Generator().manual_seed(0)
    flipped, seen = 0, torch.zeros(70, 100, dtype=torch.bool)
    for _ in range(100):
        view = random_view(image, ViewJitter(side=30), generator)
        assert view.shape[1] >= 30 and view.shape[2] >= 30
        assert view[0].min() % GRID == view[1].min() % GRID == 0
        if view[1, 0, 0] > view[1, 0, -1]:
            flipped += 1
            assert view.shape[2] % GRID == 0
        seen[view[0].long(), view[1].long()] = True
    assert 10 < flipped < 60 and bool(seen.all())


def test_small_images_are_taken_whole() -> None:
    image = torch.rand(3, 5, 20)
    assert torch.equal(random_view(image, ViewJitter(side=224), torch.Generator().manual_seed(0)), image)


def test_jitter_stays_small() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.full((3, 16, 16), 0.5)
    view = random_view(image, ViewJitter(side=16, brightness=0.1, noise=0.01), generator)
    assert 0.45 <= float(view.mean()) <= 0.55 and 0.005 < float(view.std()) < 0.02


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused() -> None:
    for options, match in (
        ({"cap": 6.0}, "cap"), ({"reduction": "median"}, "reduction"), ({"views": -1}, "views"),
        ({"score_range": (1.0, 1.0)}, "finite score_range"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=match):
            CriticLoss(BrightnessCritic(), **options)
    with pytest.raises(UsageError, match="gradient"):
        CriticLoss(FakeCritic())
    with pytest.raises(UsageError, match="at least one"):
        CriticLoss(BrightnessCritic())([])
    with pytest.raises(UsageError, match="side"):
        ViewJitter(side=0)
    with pytest.raises(UsageError, match="brightness and noise"):
        ViewJitter(noise=1.5)


def test_an_open_range_needs_a_given_one() -> None:
    critic = BrightnessCritic(score_range=(0.0, 2.0))
    critic.expected_scores = lambda images: torch.stack([image.mean() for image in images])  # type: ignore[method-assign]
    critic.score_range = (0.0, float("inf"))
    with pytest.raises(UsageError, match=r"\(0, inf\): give a finite score_range"):
        CriticLoss(critic)
    assert CriticLoss(critic, score_range=(0, 2))(flat(0.5)).item() == pytest.approx(0.75)
