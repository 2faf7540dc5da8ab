"""Which pixels are looked at: native within the budget, crops and the whole above it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqloop.critic.pixels import UNIT
from iqloop.critic.views import ViewPolicy, single_view, views_of
from iqloop.errors import CriticError

NATIVE = ViewPolicy("native", pixels=112 * 112, crop=84, crops=4, whole_weight=0.25)


def test_within_the_budget_the_pixels_are_the_images_own() -> None:
    image = torch.rand(3, 100, 90)
    (view,) = views_of(image, NATIVE)
    assert view.pixels.shape == (3, 84, 84) and view.weight == 1
    assert torch.equal(view.pixels, image[:, 8:92, 0:84]), "cut at a corner of JPEG's grid"


def test_above_the_budget_there_are_native_crops_and_the_whole() -> None:
    image = torch.rand(3, 300, 400)
    views = views_of(image, NATIVE)
    assert [view.weight for view in views] == [1, 1, 1, 1, 0.25]
    flat = image.unfold(1, 84, 1).unfold(2, 84, 1)
    for view in views[:4]:
        assert view.pixels.shape == (3, 84, 84)
        place = (flat[0] == view.pixels[0]).all(-1).all(-1)
        assert place.sum() == 1, "a crop is a piece of the image"
    tall, wide = views[4].pixels.shape[-2:]
    assert tall * wide <= NATIVE.pixels and tall % UNIT == wide % UNIT == 0


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), kind=st.sampled_from(["native", "processor"]))
def test_any_size_fits_the_budget(height: int, width: int, kind: str) -> None:
    policy = ViewPolicy(kind, pixels=112 * 112, crop=84, crops=4)  # type: ignore[arg-type]
    image = torch.rand(3, height, width)
    for view in (*views_of(image, policy), *views_of(single_view(image, policy), policy)):
        tall, wide = view.pixels.shape[-2:]
        assert tall % UNIT == 0 and wide % UNIT == 0 and 0 < tall * wide <= policy.pixels
        assert view.pixels.min() >= 0 and view.pixels.max() <= 1


@pytest.mark.parametrize("shape", [(20000, 10), (10, 20000), (1, 1)])
def test_strips_are_seen(shape: tuple[int, int]) -> None:
    for view in views_of(torch.rand(3, *shape), NATIVE):
        assert view.pixels.numel() <= 3 * NATIVE.pixels


def test_the_policy_is_read_from_a_configuration() -> None:
    assert ViewPolicy.from_dict(NATIVE.to_dict()) == NATIVE
    with pytest.raises(CriticError, match=r"unknown fields.*zoom"):
        ViewPolicy.from_dict({"zoom": 2})
    with pytest.raises(CriticError, match="'native'"):
        ViewPolicy.from_dict({"kind": "other"})
    with pytest.raises(CriticError, match="out of range"):
        ViewPolicy(crop=3)
