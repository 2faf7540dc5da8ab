"""Natural scene statistics and the critic that scores by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

import iqloop
from iqloop import distort
from iqloop.critic import gaussian_fits, natural_scene
from iqloop.critic.checkpoint import load as load_checkpoint
from iqloop.critic.fingerprint import fingerprint
from iqloop.critic.known import KNOWN, NSS_FOLDER, create_critic, source_of
from iqloop.critic.metric import create_metric, list_metrics
from iqloop.critic.natural_scene import COUNT, features
from iqloop.critic.natural_scene_net import NaturalSceneNet, load, save
from iqloop.critic.nss_critic import NaturalSceneCritic
from iqloop.critic.protocol import Critic
from iqloop.critic.training import artefacts
from iqloop.critic.training.opinion import CLEAN
from iqloop.critic.training.opinion_curves import opinion_of, together
from iqloop.critic.verdicts import Rating
from iqloop.distort.image import Bytes
from iqloop.errors import CriticError, PrerequisiteError, UsageError
from iqloop.restorers.full_reference import gmsd
from tests.conftest import Photograph

AsTensor = Callable[[NDArray[np.uint8]], Tensor]
PICTURES = (("astronaut", 192, 60, 130), ("coffee", 192, 100, 200), ("chelsea", 192, 60, 120))


@pytest.fixture(scope="module")
def critic() -> NaturalSceneCritic:
    made = create_critic("nss-mini", device="cpu")
    assert isinstance(made, NaturalSceneCritic)
    return made


@pytest.fixture(scope="module")
def pictures(photograph: Photograph) -> list[Bytes]:
    return [photograph(*picture) for picture in PICTURES]


@pytest.fixture(scope="module")
def mean_score(critic: NaturalSceneCritic, as_tensor: AsTensor) -> Callable[[Sequence[Bytes]], float]:
    return lambda images: float(np.mean([one.mean for one in rated(critic, map(as_tensor, images))]))


def rated(critic: NaturalSceneCritic, images: Any) -> list[Rating]:
    found = critic.score(list(images))
    assert all(isinstance(one, Rating) for one in found)
    return found  # type: ignore[return-value]


# -- distributions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0, 4.0])
def test_the_shape_of_a_distribution_is_found(shape: float) -> None:
    drawn = torch.from_numpy(stats.gennorm.rvs(shape, scale=3.0, size=200_000, random_state=0)).float()
    log, variance = gaussian_fits.symmetric(drawn)
    assert float(log.exp()) == pytest.approx(shape, rel=0.05)
    assert float(variance.exp()) == pytest.approx(stats.gennorm.var(shape, scale=3.0), rel=0.03)


def test_the_two_sides_of_a_distribution_are_found() -> None:
    drawn = np.abs(stats.gennorm.rvs(1.5, size=200_000, random_state=0))
    # Of an asymmetric one, a side holds a share of the values in proportion to its width.
    left = np.random.default_rng(1).random(len(drawn)) < 1 / 4
    values = torch.from_numpy(np.where(left, -1.0 * drawn, 3.0 * drawn)).float()
    log, mean, below, above = gaussian_fits.asymmetric(values)
    assert float(log.exp()) == pytest.approx(1.5, rel=0.05)
    assert float((above - below).exp()) == pytest.approx(9, rel=0.05)
    assert float(mean) == pytest.approx(float(values.mean()), rel=0.05)
    even = torch.from_numpy(stats.gennorm.rvs(0.8, size=200_000, random_state=2)).float()
    assert float(gaussian_fits.asymmetric(even)[0]) == pytest.approx(float(gaussian_fits.symmetric(even)[0]), abs=0.02)


def test_beyond_the_table_is_its_end() -> None:
    ratios = torch.tensor([-1.0, 0.0, 0.5, 0.99, 7.0])
    shapes = gaussian_fits.log_shape(ratios).exp()
    assert bool((shapes.diff() >= 0).all())
    assert (float(shapes[0]), float(shapes[-1])) == pytest.approx(gaussian_fits.SHAPES, rel=1e-4)


# -- statistics --------------------------------------------------------------------------------------------------------


def test_coefficients_are_those_of_the_paper(pictures: list[Bytes]) -> None:
    plane = pictures[0].astype(np.float64) @ (0.299, 0.587, 0.114)
    # The other way to the same numbers: a window in two dimensions, double precision, nothing subtracted first.
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(line, line) / line.sum() ** 2
    mean = ndimage.correlate(plane, window, mode="nearest")
    contrast = np.sqrt(np.abs(ndimage.correlate(plane**2, window, mode="nearest") - mean**2))
    expected = (plane - mean) / (contrast + 1)
    normal, deviation = natural_scene.mscn(torch.from_numpy(plane).float()[None])
    assert np.abs(normal[0].numpy() - expected).max() < 0.02 and np.abs(normal[0].numpy() - expected).mean() < 1e-3
    assert np.abs(deviation[0].numpy() - contrast).mean() < 1e-2


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (32, 32), (33, 47), (64, 64)])
def test_any_size_has_all_figures(size: tuple[int, int]) -> None:
    found = features(torch.rand(3, *size))
    assert found.shape == (COUNT,) and bool(found.isfinite().all())


def test_small_images_go_on_in_mirrors() -> None:
    image = torch.rand(3, 5, 40)
    expected = np.pad(image.numpy(), ((0, 0), (0, 27), (0, 0)), mode="symmetric")
    assert np.array_equal(natural_scene.at_least(image, 32).numpy(), expected)
    assert natural_scene.at_least(torch.rand(3, 32, 40), 32).shape == (3, 32, 40)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_flat_images_have_figures_and_gradients(level: float) -> None:
    image = torch.full((3, 48, 48), level, requires_grad=True)
    features(image).sum().backward()
    assert image.grad is not None and bool(image.grad.isfinite().all())


@pytest.mark.parametrize("start", [0, 3])
def test_the_grid_of_jpeg_is_found_at_any_phase(pictures: list[Bytes], as_tensor: AsTensor, start: int) -> None:
    def of(image: Bytes) -> float:
        return float(natural_scene.blocks(natural_scene.opponents(as_tensor(image) * 255)[0]).min())

    coded = distort.apply(pictures[0], "compression_jpeg", 4)
    assert of(coded[start:, start:]) > of(pictures[0][start:, start:]) + 0.3


# -- what is learned from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    list(dict.fromkeys([*artefacts.COMMON, *artefacts.ENLARGING, *artefacts.ADDED])),
    ids=lambda make: make.__name__,
)
def test_every_fault_has_an_image_and_a_score(make: artefacts.Maker, pictures: list[Bytes]) -> None:
    clean = pictures[1].copy()
    made = [make(clean, np.random.default_rng(seed), gmsd) for seed in range(6)]
    assert np.array_equal(clean, pictures[1])
    assert all(image.shape == clean.shape and image.dtype == np.uint8 for image, _ in made)
    scores = [score for _, score in made]
    assert all(1 < score <= CLEAN for score in scores) and len(set(scores)) > 1
    again, score = make(clean, np.random.default_rng(0), gmsd)
    assert np.array_equal(again, made[0][0]) and score == made[0][1]


def test_worse_images_of_a_fault_score_less(pictures: list[Bytes]) -> None:
    for make in (artefacts.sharpened, artefacts.grained, artefacts.pixelated):
        made = [make(pictures[1], np.random.default_rng(seed), gmsd) for seed in range(20)]
        found = stats.spearmanr([score for _, score in made], [-gmsd(image, pictures[1]) for image, _ in made])
        assert found.statistic > 0.5, make


def test_opinions_fall_with_strength_and_multiply() -> None:
    assert opinion_of("sharpening", 0) == CLEAN > opinion_of("sharpening", 1) == 3.58 > opinion_of("sharpening", 50)
    assert opinion_of("noise", 30) == 3.8 > opinion_of("noise", 25)
    assert together(CLEAN, 3.0) == pytest.approx(3.0) and together(3.0, 3.0) < 3.0 and together(1.0, 4.0) == 1.0


# -- the critic --------------------------------------------------------------------------------------------------------


def test_it_is_a_critic_that_scores(critic: NaturalSceneCritic) -> None:
    assert isinstance(critic, Critic)
    assert (critic.name, critic.score_range, critic.lower_better) == ("nss-mini", (1.0, 5.0), False)
    assert critic.capabilities == {"score"}
    weights = (NSS_FOLDER / "model.safetensors").read_bytes()
    assert critic.version == hashlib.sha256(weights).hexdigest()[:16] and len(weights) < 200_000
    image = torch.rand(3, 40, 40)
    for ask in (critic.perceive, critic.describe, lambda images: critic.compare(images, images)):
        with pytest.raises(CriticError, match=r"nss-mini cannot .* only scores"):
            ask([image])


def test_the_same_image_has_the_same_score_in_any_company(
    critic: NaturalSceneCritic, pictures: list[Bytes], as_tensor: AsTensor
) -> None:
    images = [as_tensor(picture) for picture in pictures] + [torch.rand(3, 33, 70)]
    before = [image.clone() for image in images]
    together = rated(critic, images)
    assert [rated(critic, [image])[0] for image in images] == together == rated(critic, images)
    assert all(torch.equal(a, b) for a, b in zip(images, before, strict=True))
    assert all(1 <= one.mean <= 5 and one.std >= 0 and one.provenance.model == "nss-mini" for one in together)


@pytest.mark.parametrize(
    "name", ["noise_gaussian_RGB", "blur_gaussian", "compression_jpeg", "brightness_darken_gamma_RGB", "oversharpen"]
)
def test_scores_fall_with_severity(
    name: str, pictures: list[Bytes], mean_score: Callable[[Sequence[Bytes]], float]
) -> None:
    ladder = [mean_score([distort.apply(picture, name, level) for picture in pictures]) for level in (0, 1, 3, 5)]
    assert all(worse < better for better, worse in pairwise(ladder)), ladder


def test_no_invention_passes_for_detail(pictures: list[Bytes], mean_score: Callable[[Sequence[Bytes]], float]) -> None:
    from iqloop.recipes.train.nss_figures import enlarged

    outputs = [enlarged(picture, seed) for seed, picture in enumerate(pictures)]
    score = {name: mean_score([output[name] for output in outputs]) for name in outputs[0]}
    assert score["original"] > score["bicubic"] > score["bicubic, blurred"]
    assert score["upscale-x2"] > max(score["bicubic"], score["nearest"], score["lanczos, oversharpened"])
    for fault in ("noise 0.03", "grain 0.05", "checkerboard 0.02", "oversharpened"):
        assert score["upscale-x2"] > score[f"upscale-x2, {fault}"], score


def test_the_gradient_is_true(critic: NaturalSceneCritic, pictures: list[Bytes], as_tensor: AsTensor) -> None:
    loss = create_metric("nss-mini", as_loss=True, device="cpu")
    image = as_tensor(distort.apply(pictures[0], "blur_gaussian", 1))[:, 40:120, 40:120].requires_grad_(True)
    value = loss(image)
    (gradient,) = torch.autograd.grad(value, image)
    assert bool(gradient.isfinite().all())
    step = 2e-3 / float(gradient.norm())
    with torch.no_grad():
        risen, fallen = (float(loss(image + side * step * gradient)) for side in (1, -1))
    assert (risen - fallen) / (2 * step) == pytest.approx(float(gradient.square().sum()), rel=0.1)


def test_it_works_wherever_a_metric_does(pictures: list[Bytes], as_tensor: AsTensor, tmp_path: Path) -> None:
    assert "nss-mini" in list_metrics() and "nss-mini" in KNOWN
    metric = iqloop.create_metric("nss-mini", device="cpu")
    assert (metric.score_range, metric.lower_better, metric.range) == ("1, 5", False, (1.0, 5.0))
    assert not any(parameter.requires_grad for parameter in metric.parameters())
    batch = torch.stack([as_tensor(picture) for picture in pictures])
    scores = metric(batch)
    assert scores.shape == (3, 1) and float(metric(pictures[1])) == pytest.approx(float(scores[1]), abs=1e-6)
    moved = metric.to("meta").net
    assert isinstance(moved, torch.nn.Module)
    assert {parameter.device.type for parameter in moved.parameters()} == {"meta"}


def test_answers_are_kept_by_the_weights(critic: NaturalSceneCritic) -> None:
    assert critic.version in (fingerprint(critic, "score") or "") and fingerprint(critic, "compare") is None


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"decoding": "reason"}, {"base": "qinsight"}])
def test_an_option_that_does_not_fit_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=rf"nss-mini .* takes no option {next(iter(options))}"):
        create_critic("nss-mini", **options)
    assert create_critic("nss-mini", device="cpu", seed=3, batch_size=2).name == "nss-mini"


def test_it_is_no_checkpoint_to_ask_or_to_train() -> None:
    with pytest.raises(UsageError, match="no language model"):
        source_of("nss-mini")
    with pytest.raises(CriticError, match="nss-mini"):
        load_checkpoint(KNOWN["nss-mini"].source)


# -- weights of one's own ----------------------------------------------------------------------------------------------


def test_a_folder_is_a_critic(tmp_path: Path, as_tensor: AsTensor, pictures: list[Bytes]) -> None:
    torch.manual_seed(3)
    save(NaturalSceneNet(), tmp_path / "mine", {"source": "a test"})
    made = create_critic(tmp_path / "mine", device="cpu")
    assert made.name == "mine" and made.version != create_critic("nss-mini", device="cpu").version
    assert isinstance(made.score([as_tensor(pictures[0])])[0], Rating)
    before = (tmp_path / "mine" / "model.safetensors").read_bytes()
    save(load(tmp_path / "mine")[0], tmp_path / "mine", {"source": "a test"})
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == before


def test_weights_that_are_none_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(NaturalSceneNet(), tmp_path / "cut", {})
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CriticError, match=r"model\.safetensors.*train it again"):
        create_critic(tmp_path / "cut")
    save(NaturalSceneNet(), tmp_path / "other", {})
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"model_type": "brisque"}))
    with pytest.raises(CriticError, match="brisque"):
        load(tmp_path / "other")
    gone = KNOWN["nss-mini"]
    source = type(gone.source)(**{**vars(gone.source), "location": str(tmp_path / "nowhere")})
    monkeypatch.setitem(KNOWN, "nss-mini", type(gone)(source, gone.summary))
    with pytest.raises(PrerequisiteError, match="iqloop train nss"):
        create_critic("nss-mini")
