"""The gate keeps true restorations of photographs and refuses everything that is another picture."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from iqloop.agents.candidate import Candidate, pixel_hash
from iqloop.agents.fidelity import measure_fidelity
from iqloop.agents.judge import JudgeSettings, check_fidelity
from iqloop.agents.resize import at_size, enlarge
from iqloop.agents.sanity import find_fault
from iqloop.critic.verdicts import Degradation
from iqloop.restorers.tool import Treatment
from tests.agents.agents_fakes import degradation, photograph

NAMES = ("astronaut", "coffee", "chelsea")


def picture(name: str) -> Tensor:
    return photograph(name, top=0 if name == "astronaut" else 60, left=100, size=224)


def array(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().clamp(0, 1)


def blur(image: Tensor, sigma: float) -> Tensor:
    return tensor(cv2.GaussianBlur(array(image), (0, 0), sigma))


def noisy(image: Tensor, deviation: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (image + deviation * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def jpeg(image: Tensor, quality: int) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray((array(image) * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return tensor(np.asarray(Image.open(buffer)) / 255)


def denoise(image: Tensor, strength: float) -> Tensor:
    levels = (array(image) * 255).astype(np.uint8)
    return tensor(cv2.fastNlMeansDenoisingColored(levels, None, strength, strength, 5, 11) / 255)


def refusal(candidate: Tensor, given: Tensor, treated: Treatment, perceived: Degradation | None) -> str | None:
    made = Candidate("c1", candidate, pixel_hash(candidate), ("tool",), (treated,))
    return check_fidelity(made, Candidate("c0", given, pixel_hash(given)), perceived, JudgeSettings())[1]


@pytest.mark.parametrize("name", NAMES)
def test_denoising_is_kept(name: str) -> None:
    clean = picture(name)
    for deviation, level in ((0.04, 1.5), (0.1, 3.0), (0.2, 4.5)):
        given = noisy(clean, deviation)
        perceived = degradation(noise=level)
        assert refusal(clean, given, "noise", perceived) is None
        assert refusal(denoise(given, 200 * deviation), given, "noise", perceived) is None


@pytest.mark.parametrize("name", NAMES)
def test_deblurring_and_deblocking_are_kept(name: str) -> None:
    clean = picture(name)
    for sigma, level in ((1.0, 1.5), (2.0, 3.0), (4.0, 5.0)):
        given = blur(clean, sigma)
        sharpened = (given + 1.5 * (given - blur(given, sigma))).clamp(0, 1)
        assert refusal(clean, given, "blur", degradation(blur=level)) is None
        assert refusal(sharpened, given, "blur", degradation(blur=level)) is None
    for quality, level in ((40, 1.0), (15, 3.0), (5, 5.0)):
        assert refusal(clean, jpeg(clean, quality), "compression", degradation(compression=level)) is None


@pytest.mark.parametrize("name", NAMES)
def test_brightening_is_kept(name: str) -> None:
    clean = picture(name)
    for gamma, level in ((2.0, 2.0), (3.0, 4.0)):
        given = noisy(0.8 * clean**gamma, 0.01)
        assert refusal(clean, given, "darken", degradation(darken=level)) is None
        assert refusal(given**0.5, given, "darken", degradation(darken=level)) is None
        # The same change is not what a denoiser may do.
        assert refusal(clean, given, "noise", degradation(darken=level)) is not None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("perceived", [None, degradation(noise=1.5), degradation(noise=4.5)])
def test_other_pictures_are_refused(name: str, perceived: Degradation | None) -> None:
    clean = picture(name)
    given = noisy(clean, 0.1)
    other = picture(NAMES[(NAMES.index(name) + 1) % 3])
    patched = clean.clone()
    patched[:, 80:136, 80:136] = other[:, 80:136, 80:136]
    bad = {
        "another photograph": other,
        "blurred away": blur(clean, 10),
        "shifted": clean.roll((8, 8), (1, 2)),
        "mirrored": clean.flip(2),
        "negative": 1 - clean,
        "one part replaced": patched,
        "channels swapped": clean.flip(0)
        if name != "astronaut"
        else clean * torch.tensor([1.0, 0.4, 0.4])[:, None, None],
    }
    for what, candidate in bad.items():
        assert refusal(candidate, given, "noise", perceived) is not None, what


@pytest.mark.parametrize("name", NAMES)
def test_hazy_pictures_are_judged_by_their_own_contrast(name: str) -> None:
    hazy = 0.6 + 0.15 * (picture(name) - 0.5)
    assert refusal(blur(hazy, 10), hazy, "blur", degradation(blur=1.0)) is not None
    assert refusal(hazy.roll(10, 2), hazy, "blur", degradation(blur=1.0)) is not None
    assert refusal(hazy, blur(hazy, 2), "blur", degradation(blur=3.0)) is None
    given = noisy(hazy, 0.05)
    assert refusal(hazy, given, "noise", degradation(noise=2.0)) is None


def test_a_denoised_sky_is_kept() -> None:
    sky = torch.linspace(0.6, 0.8, 224)[None, :, None] * torch.tensor([0.8, 0.9, 1.1])[:, None, None].expand(3, 1, 224)
    for deviation, level in ((0.05, 2.0), (0.1, 3.0), (0.15, 4.0)):
        assert refusal(sky, noisy(sky, deviation), "noise", degradation(noise=level)) is None


def test_upscaled_candidates_are_compared_at_the_input_size() -> None:
    clean = picture("astronaut")
    small = at_size(clean, (112, 112))
    assert refusal(clean, small, "low-resolution", None) is None
    assert refusal(enlarge(small, 2), small, "low-resolution", None) is None
    assert refusal(enlarge(at_size(picture("coffee"), (112, 112)), 2), small, "low-resolution", None) is not None


def test_identity_is_one_and_small_images_work() -> None:
    image = picture("coffee")
    kept = measure_fidelity(image, image)
    assert (kept.mean, kept.worst, kept.colour_shift) == pytest.approx((1, 1, 0), abs=1e-4)
    tiny = image[:, :5, :9]
    assert measure_fidelity(tiny, tiny).mean == pytest.approx(1, abs=1e-4)
    assert measure_fidelity(tiny[:, :1, :1], tiny[:, :1, :1]).mean == pytest.approx(1, abs=1e-4)


def test_sanity() -> None:
    start = picture("chelsea")
    good = start[None]
    assert find_fault(good, start) is None
    assert find_fault(torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4)) is None
    faults = {
        "wrong shape": start,
        "not finite": torch.full_like(good, float("nan")),
        "outside": good * 2,
        "flat": torch.full_like(good, 0.5),
        "wrong type": (good * 255).byte(),
        "expected a tensor": None,
    }
    for words, output in faults.items():
        assert words in (find_fault(output, start) or ""), words
    assert "wrong shape" in (find_fault(good, start, scale=2) or "")
