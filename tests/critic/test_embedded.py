"""The weights in the package: they load, answer in the published form, and see what they were trained to see.

Bounds are well under the measured figures of the model card: they guard the code path, not the decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from iqloop import distort
from iqloop.critic.answers import split
from iqloop.critic.engine import QwenCritic
from iqloop.critic.evaluation.perception import LADDERS
from iqloop.critic.known import MINI_FOLDER, create_critic
from iqloop.critic.verdicts import CLASSES, Degradation, Rating

AsTensor = Callable[[NDArray[np.uint8]], Tensor]


@pytest.fixture(scope="module")
def mini() -> QwenCritic:
    critic = create_critic("qinsight-mini", device="cpu")
    assert isinstance(critic, QwenCritic)
    return critic


@pytest.fixture(scope="module")
def photographs() -> list[NDArray[np.uint8]]:
    """Real photographs that were never trained on, short side 224."""
    return [np.array(distort.short_side(getattr(data, n)(), 224)) for n in ("astronaut", "chelsea", "coffee")]


def test_the_weights_are_small_and_half_precision() -> None:
    from safetensors import safe_open

    assert sum(file.stat().st_size for file in MINI_FOLDER.iterdir()) <= 12_000_000
    with safe_open(MINI_FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118


def test_a_rating_is_deterministic_and_surely_a_digit(
    mini: QwenCritic, photographs: list[NDArray[np.uint8]], as_tensor: AsTensor
) -> None:
    images = [as_tensor(image) for image in photographs]
    first, again = mini.score(images), mini.score(images)
    assert first == again
    for rating in first:
        assert isinstance(rating, Rating) and 1 <= rating.mean <= 5
        assert rating.digit_mass is not None and rating.digit_mass > 0.95


def test_scores_fall_with_severity_on_average(
    mini: QwenCritic, photographs: list[NDArray[np.uint8]], as_tensor: AsTensor
) -> None:
    for name in LADDERS.values():
        means = []
        for severity in (0, 3, 5):
            images = [as_tensor(distort.apply(p, name, severity, seed=i)) for i, p in enumerate(photographs)]
            means.append(float(np.mean([r.mean for r in mini.score(images) if isinstance(r, Rating)])))
        assert means == sorted(means, reverse=True), (name, means)


def test_heavy_damage_is_named_with_reasons(
    mini: QwenCritic, photographs: list[NDArray[np.uint8]], as_tensor: AsTensor
) -> None:
    hits, total = 0, 0
    for kind, name in LADDERS.items():
        images = [as_tensor(distort.apply(p, name, 4, seed=i)) for i, p in enumerate(photographs)]
        for seen in mini.perceive(images):
            assert isinstance(seen, Degradation)
            parts = split(seen.raw)
            assert parts is not None and parts.reasoning == seen.reasoning
            assert set(seen.probabilities) == set(CLASSES) and sum(seen.probabilities.values()) == pytest.approx(1)
            hits, total = hits + (seen.distortion_class == kind), total + 1
    assert hits / total >= 0.6, f"{hits} of {total}"


def test_it_describes(mini: QwenCritic, photographs: list[NDArray[np.uint8]], as_tensor: AsTensor) -> None:
    (words,) = mini.describe([as_tensor(distort.apply(photographs[0], "noise_gaussian_RGB", 4))])
    assert "quality" in words and len(words) < 400


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.03)])
def test_a_score_does_not_depend_on_batch_or_position(as_tensor: AsTensor, dtype: str, tolerance: float) -> None:
    """Photographs of three sizes, one too large for a single view; in both orders, and alone."""
    crops = [data.astronaut()[:224, :224], data.astronaut()[100:324, 50:274], data.coffee(), data.chelsea()[:224]]
    images = [as_tensor(np.array(crop)) for crop in crops]
    critic = create_critic("qinsight-mini", device="cpu", dtype=dtype)
    together = [rating.mean for rating in critic.score(images) if isinstance(rating, Rating)]
    turned = [rating.mean for rating in critic.score(images[::-1]) if isinstance(rating, Rating)][::-1]
    alone = [rating.mean for image in images for rating in critic.score([image]) if isinstance(rating, Rating)]
    assert together == pytest.approx(turned, abs=tolerance) and together == pytest.approx(alone, abs=tolerance)


def test_the_second_critic_of_the_repository_sees_too(
    mini: QwenCritic, photographs: list[NDArray[np.uint8]], as_tensor: AsTensor
) -> None:
    """It is held against the first, so it must be another one."""
    folder = Path(__file__).parents[2] / "docs/models/qinsight-mini-192"
    second = create_critic(str(folder), device="cpu")
    assert isinstance(second, QwenCritic)
    assert second.checkpoint.model.config.text_config.hidden_size < mini.checkpoint.model.config.text_config.hidden_size
    worse = [distort.apply(image, "noise_gaussian_RGB", "serious", seed=1) for image in photographs]
    for critic in (mini, second):
        for good, bad in zip(photographs, worse, strict=True):
            high, low = critic.score([as_tensor(good), as_tensor(bad)])
            assert isinstance(high, Rating) and isinstance(low, Rating) and high.mean > low.mean + 0.5, critic.name
    assert mini.score([as_tensor(photographs[0])]) != second.score([as_tensor(photographs[0])])
