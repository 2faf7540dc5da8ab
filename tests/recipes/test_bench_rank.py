"""`bench rank`: a critic that is always right, simulated ones of a stated accuracy, the page and its figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iqloop.agents import pixel_hash
from iqloop.critic import known
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Preference, Rating, Unparsed
from iqloop.errors import UsageError
from iqloop.recipes.bench.rank.command import DISTORTIONS, WAYS, measure, severities
from iqloop.recipes.bench.rank.critic import SimulatedCritic, deviation_for
from iqloop.recipes.bench.rank.page import summary
from tests.agents.agents_fakes import FakeCritic

from .helpers import lines, run


def levels(count: int) -> list[Tensor]:
    """Flat images, the brightest first."""
    return [torch.full((3, 8, 8), 1 - place / 255) for place in range(count)]


class ByBrightness(FakeCritic):
    """Prefers the brighter image."""

    def __init__(self, compares: bool) -> None:
        super().__init__(
            lambda image: float(image.mean()),
            compare=(lambda a, b, _: float(a.mean() > b.mean())) if compares else None,
        )

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        return super().compare(a, b, reference or a)


@pytest.mark.parametrize("accuracy", [0.8, 0.95])
def test_a_simulated_critic_is_right_as_often_as_it_is_told(accuracy: float) -> None:
    right = {"comparisons": 0.0, "scores": 0.0}
    images = levels(12)
    pairs = list(combinations(range(12), 2))
    for seed in range(30):
        critic = SimulatedCritic(images, accuracy, seed)
        said = critic.compare([images[a] for a, _ in pairs], [images[b] for _, b in pairs])
        right["comparisons"] += float(np.mean([one.probability > 0.5 for one in said if isinstance(one, Preference)]))
        scores = [one.mean for one in critic.score(images) if isinstance(one, Rating)]
        right["scores"] += float(np.mean([scores[a] > scores[b] for a, b in pairs]))
    for total in right.values():
        assert total / 30 == pytest.approx(accuracy, abs=0.02)


def test_a_simulated_critic_repeats_itself_and_turns_round() -> None:
    images = levels(5)
    critic, twin = (SimulatedCritic(images, 0.8, 3) for _ in range(2))
    there, again = critic.compare(images[:4], images[1:]), twin.compare(images[:4], images[1:])
    back = critic.compare(images[1:], images[:4])
    assert there == again and critic.score(images) == twin.score(images)
    for one, other in zip(there, back, strict=True):
        assert isinstance(one, Preference) and isinstance(other, Preference)
        assert one.probability == pytest.approx(1 - other.probability)
        assert one.position_bias == pytest.approx(other.position_bias)
    assert isinstance(critic, Critic)
    assert SimulatedCritic(images, 0.8, 4).compare(images[:4], images[1:]) != there


def test_less_noise_is_more_often_right() -> None:
    assert deviation_for(16, 0.95) < deviation_for(16, 0.9) < deviation_for(16, 0.6)


def test_every_way_of_a_critic_that_is_always_right() -> None:
    rows = measure(levels(8), ByBrightness(compares=True), 0, "none", seed=0)
    assert [row.way for row in rows] == list(WAYS)
    by_way = {row.way: row for row in rows}
    assert [by_way[way].comparisons for way in ("score", "knockout", "swiss", "all pairs")] == [0, 7, 16, 28]
    assert all(row.best and row.unparsed == 0 for row in rows)
    for way in ("score", "hybrid", "all pairs"):
        assert by_way[way].tau_truth == pytest.approx(1) and by_way[way].tau_all == pytest.approx(1)


def test_a_critic_without_comparisons_has_one_way() -> None:
    (row,) = measure(levels(5), ByBrightness(compares=False), 0, "none", seed=0)
    assert (row.way, row.tau_all, row.comparisons) == ("score", None, 0) and row.tau_truth == pytest.approx(1)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_severities_differ_and_begin_with_the_mildest(distortion: str) -> None:
    from skimage import data

    photograph = np.asarray(data.astronaut())[:96, 100:196]
    images = severities(photograph, distortion, 16, seed=1)
    clean = torch.from_numpy(photograph).permute(2, 0, 1) / 255
    errors = [float((image - clean).square().mean()) for image in images]
    assert len(images) >= 14 and errors[0] < errors[len(errors) // 2] < errors[-1]


def test_severities_of_equal_pixels_are_one() -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    images = severities(photograph, "compression_jpeg", 40, seed=0)
    assert len(images) == len({pixel_hash(image) for image in images}) == 21  # qualities 25 to 5
    with pytest.raises(UsageError, match="take another"):
        severities(np.zeros((64, 64, 3), np.uint8), "blur_gaussian", 4, seed=0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ByBrightness(compares=False)
    monkeypatch.setattr(known, "create_critic", lambda name, **options: scripted)
    page = tmp_path / "rank.md"
    options = ["--count", 2, "--side", 64, "--images", 6, "--simulate", 0.9]
    some = ["--distortion", "noise_gaussian_RGB,brightness_darken_gamma_RGB"]
    told = lines(run("bench", "rank", *options, *some, "-o", page, "--json"))
    assert len(told) == 2 * 2 * (1 + len(WAYS))
    text, document = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert document["rows"] == told
    assert "fake has no comparisons but of its two scores" in text and "are no models" in text
    assert "iqloop bench rank --count 2 --side 64 --images 6" in text
    for figure in document["figures"]:
        own = [row for row in told if (row["critic"], row["way"]) == (figure["critic"], figure["way"])]
        value, low, high = figure["tau_truth"]
        assert value == pytest.approx(np.mean([row["tau_truth"] for row in own])) and low <= value <= high
        assert figure["orders"] == 4 and f"| {figure['way']} |" in text
    again = lines(run("bench", "rank", *options, *some, "--json"))
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in told]


def test_means_are_over_photographs() -> None:
    rows = measure(levels(5), ByBrightness(compares=False), 0, "none", seed=0)
    worst = measure(levels(5)[::-1], ByBrightness(compares=False), 1, "none", seed=0)
    (figure,) = summary([*rows, *worst])
    assert figure["tau_truth"] == pytest.approx([0, -1, 1])
    assert figure["best"][0] == 0.5 and figure["position_bias"] is None


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    assert run("bench", "rank", "--simulate", 0.5).exit_code == 2
    assert run("bench", "rank", "-o", tmp_path / "page.txt").exit_code == 2
