"""Training the generator: what standardising and the code book do, resuming, and what is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iqloop.errors import UsageError
from iqloop.restorers.diffusers_tool import load_pipeline_tool
from iqloop.restorers.diffusion import autoencoder, denoiser
from iqloop.restorers.diffusion.parts import (
    SIZES,
    Sizes,
    build_autoencoder,
    build_denoiser,
    build_scheduler,
    parameters,
)
from iqloop.restorers.diffusion.train import GeneratorSettings, signed, train_generator

diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TINY = Sizes(autoencoder=(8, 8), codes=64, denoiser=(8, 8), sample=16)
SETTINGS = GeneratorSettings(
    autoencoder_steps=4,
    denoiser_steps=6,
    autoencoder_batch=2,
    denoiser_batch=2,
    log_every=1,
    save_every=2,
    validate_every=100,
    validate_on=1,
    validate_side=48,
)


@pytest.fixture
def photographs(photograph: Callable[..., NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [photograph("astronaut", 128), photograph("coffee", 128)]


@pytest.fixture
def images(photographs: list[NDArray[np.uint8]]) -> torch.Tensor:
    return signed(torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: Any = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    return {**loaded.unet.state_dict(), **{f"coder.{k}": v for k, v in loaded.vqvae.state_dict().items()}}


def test_the_package_s_sizes_fit() -> None:
    for sizes in SIZES.values():
        assert 2 * parameters(build_autoencoder(sizes), build_denoiser(sizes)) <= 4 * 2**20
    with pytest.raises(UsageError, match="scale 2"):
        Sizes(scale=4)
    with pytest.raises(UsageError, match="multiples of 8"):
        Sizes(denoiser=(32, 50))
    with pytest.raises(UsageError, match="halved"):
        Sizes(sample=18)


def test_standardising_changes_latents_and_no_picture(images: torch.Tensor) -> None:
    model = build_autoencoder(TINY).eval()
    with torch.no_grad():
        before = model.decode(model.encode(images).latents, force_not_quantize=True).sample
        autoencoder.standardise(model, images)
        latents = model.encode(images).latents
        after = model.decode(latents, force_not_quantize=True).sample
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_codes_are_where_the_latents_are(images: torch.Tensor) -> None:
    """Far nearer than codes drawn at random, and nearer the more there are."""

    def error(codes: int, filled: bool) -> float:
        model = build_autoencoder(replace(TINY, codes=codes)).eval()
        autoencoder.standardise(model, images)
        if filled:
            autoencoder.fill_codes(model, images, torch.Generator().manual_seed(0))
        with torch.no_grad():
            latents = model.encode(images).latents
            return float((model.quantize(latents)[0] - latents).square().mean())

    assert error(256, True) < 0.6 * error(64, True) < 0.3 * error(64, False)


def test_the_velocity_of_a_perfect_model_costs_nothing(images: torch.Tensor) -> None:
    scheduler = build_scheduler()
    latents, given = images[:, :, ::8, ::8], images[:, :, 1::8, 1::8]
    noise, times = denoiser.drawn(latents, 1000, torch.Generator().manual_seed(0))
    assert times.shape == (2,) and 0 <= int(times[0]) < 500 <= int(times[1]) < 1000

    class Perfect:
        def __call__(self, shown: torch.Tensor, when: torch.Tensor) -> Any:
            assert torch.equal(shown[:, 3:], given) and torch.equal(when, times)
            return type("Answer", (), {"sample": scheduler.get_velocity(latents, noise, times)})

    assert float(denoiser.loss_of(Perfect(), scheduler, latents, given, noise, times)) == 0
    model = build_denoiser(TINY)
    with torch.no_grad():
        each = denoiser.loss_of(model, scheduler, latents, given, noise, times, each=True)
        whole = denoiser.loss_of(model, scheduler, latents, given, noise, times)
    assert each.shape == (2,) and float(each.mean()) == pytest.approx(float(whole))


def test_resumes_to_the_same_weights_and_loads(
    photographs: list[NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in either stage; what is written is a pipeline for diffusers and a tool for iqloop."""
    torch.set_num_threads(1)

    def train(folder: str, stop: int | None = None) -> None:
        told: list[str] = []

        def say(line: str) -> None:
            told.append(line)
            if stop is not None and len(told) == stop:
                raise KeyboardInterrupt

        train_generator(photographs, photographs[:1], SETTINGS, tmp_path / folder, say, sizes=TINY)

    train("whole")
    for stop in (3, 10):
        with pytest.raises(KeyboardInterrupt):
            train("broken", stop)
    train("broken")
    one, other = weights(tmp_path / "whole/pipeline"), weights(tmp_path / "broken/pipeline")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    tool = load_pipeline_tool(tmp_path / "whole/pipeline", steps=2)
    assert tool.info.scale == 2
    assert tool.restore(torch.rand(1, 3, 13, 18), seed=1).shape == (1, 3, 26, 36)
    with pytest.raises(UsageError, match="other settings"):
        train_generator(photographs, photographs[:1], replace(SETTINGS, rate=1e-4), tmp_path / "whole", sizes=TINY)


def test_goes_on_from_an_autoencoder(photographs: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    """With another number of codes too; what is no autoencoder is refused."""
    train_generator(photographs, photographs[:1], SETTINGS, tmp_path / "one", sizes=TINY)
    source = tmp_path / "one/autoencoder/vqvae"
    more = replace(TINY, codes=128)
    once = replace(SETTINGS, rate=1e-9, autoencoder_steps=1, denoiser_steps=1)
    train_generator(photographs, photographs[:1], once, tmp_path / "two", sizes=more, source=source)
    before = diffusers.VQModel.from_pretrained(source).encoder.conv_in.weight
    after = diffusers.VQModel.from_pretrained(tmp_path / "two/autoencoder/vqvae").encoder.conv_in.weight
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="expected the folder of a VQModel"):
        train_generator(
            photographs, photographs[:1], once, tmp_path / "three", sizes=TINY, source=tmp_path / "one/pipeline/unet"
        )
