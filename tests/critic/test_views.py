"""Which pixels are looked at: native within the budget, crops and the whole above it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iqloop.critic.pixels import UNIT
from iqloop.critic.views import ViewPolicy, single_view, views_of, views_together
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
@example(height=1, width=65, kind="processor")  # a strip that is enlarged to the least number of pixels
def test_any_size_fits_the_budget(height: int, width: int, kind: str) -> None:
    policy = ViewPolicy(kind, pixels=112 * 112, crop=84, crops=4)  # type: ignore[arg-type]
    image = torch.rand(3, height, width)
    for view in (*views_of(image, policy), *views_of(single_view(image, policy), policy)):
        tall, wide = view.pixels.shape[-2:]
        assert tall % UNIT == 0 and wide % UNIT == 0 and 0 < tall * wide <= policy.pixels
        assert view.pixels.min() >= 0 and view.pixels.max() <= 1


def test_an_image_of_a_comparison_has_its_own_budget() -> None:
    large = torch.rand(3, 140, 150)
    assert views_together([large], NATIVE)[0][0].shape[-2:] == (84, 112), "shrunk to the budget of a view"
    wider = replace(NATIVE, pair_pixels=168 * 168)
    wide = replace(wider, pair_side=140)
    assert torch.equal(views_together([large], wide)[0][0], large[:, :, :140]), "as it is"
    assert views_together([torch.rand(3, 200, 200)], wider)[0][0].shape[-2:] == (168, 168)
    assert torch.equal(single_view(large, wider), single_view(large, NATIVE)), "alone it is seen as before"


def test_small_images_of_a_comparison_are_continued_by_reflections() -> None:
    small = torch.rand(3, 50, 60)
    ((view,),) = views_together([small], replace(NATIVE, pair_pixels=168 * 168, pair_side=150))
    assert view.shape == (3, 140, 140), "whole visual tokens"
    assert torch.equal(view[:, :50, :60], small)
    assert torch.equal(view[:, 50:100, :60], small.flip(-2)) and torch.equal(view[:, :50, 60:120], small.flip(-1))
    ((view,),) = views_together([small], replace(NATIVE, pixels=84 * 84))
    assert view.shape == (3, 84, 84), "never beyond the budget"
    ((view,),) = views_together([torch.rand(3, 1, 70)], NATIVE)
    assert view.shape == (3, 112, 112)
    strip = torch.rand(3, 50, 224)
    ((view,),) = views_together([strip], NATIVE)
    assert view.shape == (3, 56, 224) and torch.equal(view[:, :50], strip), "nothing is shrunk to make room"
    ((view,),) = views_together([small], ViewPolicy())
    assert view.shape[-2:] == (56, 56), "published critics get what their processor gives them"


@pytest.mark.parametrize("wrong", [{"pair_side": 0}, {"pair_crops": 1}, {"pair_crops": -1}, {"pair_pixels": 27 * 27}])
def test_a_budget_of_pairs_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(CriticError, match="out of range"):
        replace(NATIVE, **wrong)


CROPPED = replace(NATIVE, pair_pixels=84 * 84, pair_crops=4)


def test_large_images_are_compared_in_the_same_places() -> None:
    a, b = torch.rand(3, 200, 300), torch.rand(3, 200, 300)
    looks = views_together([a, b], CROPPED)
    assert len(looks) == 4 and {tuple(view.shape) for look in looks for view in look} == {(3, 84, 84)}
    for (one, other), (y, x) in zip(looks, [(8, 32), (8, 176), (104, 32), (104, 176)], strict=True):
        assert torch.equal(one, a[:, y : y + 84, x : x + 84]) and torch.equal(other, b[:, y : y + 84, x : x + 84])


@pytest.mark.parametrize(
    ("policy", "shapes"),
    [
        (CROPPED, [(200, 300), (200, 301)]),  # places would not be the same
        (CROPPED, [(84, 84), (84, 84)]),
        (NATIVE, [(200, 300), (200, 300)]),
        (ViewPolicy(pixels=84 * 84, pair_crops=4), [(200, 300), (200, 300)]),
    ],
)
def test_other_images_are_compared_whole(policy: ViewPolicy, shapes: list[tuple[int, int]]) -> None:
    images = [torch.rand(3, *shape) for shape in shapes]
    (look,) = views_together(images, policy)
    alone = replace(policy, pixels=policy.pair_pixels or policy.pixels)
    for view, image in zip(look, images, strict=True):
        assert torch.equal(view, single_view(image, alone))


@pytest.mark.parametrize("shape", [(20, 900), (2000, 10), (60, 600), (85, 84)])
def test_strips_are_compared(shape: tuple[int, int]) -> None:
    for look in views_together([torch.rand(3, *shape)] * 2, CROPPED):
        for view in look:
            tall, wide = view.shape[-2:]
            assert tall % UNIT == wide % UNIT == 0 and 0 < tall * wide <= 84 * 84


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
    with pytest.raises(CriticError, match="out of range"):
        ViewPolicy(reflections=3)
