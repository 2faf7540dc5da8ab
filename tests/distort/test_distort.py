"""The synthesiser: published numbers, seeded, monotone, any size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqloop import distort
from iqloop.distort.synthesise import _CODECS, _PLAIN, _SEEDED
from iqloop.errors import UsageError
from tests.conftest import Photograph


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


def test_every_row_of_the_table_has_a_function() -> None:
    assert {*_SEEDED, *_PLAIN, *_CODECS} == set(distort.NAMES)
    assert len(distort.CATEGORIES) == 12
    listed = [name for functions in distort.CATEGORIES.values() for name in functions]
    assert len(listed) == len(set(listed)) == 35
    assert set(distort.NAMES) - set(listed) == {"blur_gaussian_lensmask", "brightness_vignette"}


@pytest.mark.parametrize("name", distort.NAMES)
def test_shape_dtype_and_seed(name: str, photograph: Photograph) -> None:
    image = photograph(side=96)
    before = image.copy()
    out = distort.apply(image, name, 3, seed=5)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert np.array_equal(image, before), "the input is not changed"
    assert np.array_equal(out, distort.apply(image, name, "obvious", seed=5))
    assert not np.array_equal(out, image)
    if name in _SEEDED:
        assert not np.array_equal(out, distort.apply(image, name, 3, seed=6))


# Zoom, median and motion change their pattern with severity, so a single photograph may step back a little.
@pytest.mark.parametrize("name", distort.NAMES)
def test_damage_grows_with_severity(name: str, photograph: Photograph) -> None:
    images = [photograph(n, 160) for n in ("astronaut", "chelsea", "coffee")]
    ladder = [np.mean([psnr(distort.apply(i, name, s, seed=1), i) for i in images]) for s in range(1, 6)]
    assert all(later < earlier + 0.2 for earlier, later in pairwise(ladder)), ladder
    assert ladder[4] < ladder[0] - 1


@pytest.mark.parametrize("name", distort.NAMES)
def test_whole_severities_are_the_published_numbers_and_others_lie_between(name: str) -> None:
    rows = distort.PARAMETERS[name]
    for severity in range(1, 6):
        assert distort.parameters(name, severity) == pytest.approx([row[severity - 1] for row in rows])
    middle = distort.parameters(name, 2.5)
    assert middle == pytest.approx([(row[1] + row[2]) / 2 for row in rows])


def test_published_numbers_as_measured() -> None:
    """The numbers on a flat grey card, where the distortion can be read back."""
    grey = np.full((256, 256, 3), 128, np.uint8)
    sigma = distort.apply(grey, "noise_gaussian_RGB", 2, seed=0).astype(float).std() / 255
    assert sigma == pytest.approx(0.10, rel=0.02)
    impulse = distort.apply(grey, "noise_impulse", 5, seed=0)
    assert np.mean(impulse != 128) == pytest.approx(0.10, rel=0.05)
    assert distort.apply(grey, "brightness_darken_shfit_RGB", 2)[0, 0, 0] == round(128 - 0.15 * 255)
    assert distort.apply(grey, "brightness_darken_gamma_RGB", 3)[0, 0, 0] == round((128 / 255) ** 2.1 * 255)
    point = np.zeros((65, 65, 3), np.uint8)
    point[32, 32] = 255
    assert (distort.apply(point, "blur_lens", 1)[32] > 0).any(-1).sum() == 5  # a disk of radius 2


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(distort.NAMES),
    severity=st.floats(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_size_and_severity(name: str, severity: float, height: int, width: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert distort.apply(image, name, severity, seed=1).shape == image.shape


def test_mixtures_run_in_a_cameras_order_and_repeat(photograph: Photograph) -> None:
    mixture = distort.draw_mixture(("compression", "noise", "blur"), np.random.default_rng(0))
    assert [d.name.split("_")[0] for d in mixture] == ["blur", "noise", "compression"]
    image = photograph(side=64)
    assert np.array_equal(distort.apply_all(image, mixture, 3), distort.apply_all(image, mixture, 3))


def test_severity_zero_is_a_copy(photograph: Photograph) -> None:
    image = photograph(side=64)
    out = distort.apply(image, "blur_gaussian", 0)
    assert np.array_equal(out, image) and out is not image


def test_the_other_spelling_is_understood(photograph: Photograph) -> None:
    image = photograph(side=64)
    a = distort.apply(image, "brightness_darken_shift_RGB", 2)
    assert np.array_equal(a, distort.apply(image, "brightness_darken_shfit_RGB", 2))


def test_resampling(photograph: Photograph) -> None:
    image = photograph(side=96)
    assert distort.downsample(image, 4).shape == (24, 24, 3)
    assert distort.down_up(image, 2).shape == image.shape
    assert min(distort.short_side(image, 48).shape[:2]) == 48
    assert distort.short_side(image, 500) is image


def test_wrong_input_says_what_was_expected(photograph: Photograph) -> None:
    image = photograph(side=32)
    for arguments, message in (
        ((image, "fog", 2), "unknown distortion 'fog'"),
        ((image, "blur_gaussian", 0.5), r"severity must be 0 or in \[1, 5\]"),
        ((image, "blur_gaussian", 9), "got 9"),
        ((image.astype(float), "blur_gaussian", 2), "uint8"),
        ((image[..., 0], "blur_gaussian", 2), r"\(H, W, 3\)"),
    ):
        with pytest.raises(UsageError, match=message):
            distort.apply(*arguments)
    with pytest.raises(UsageError, match="unknown category"):
        distort.draw("fog", np.random.default_rng(0))
