"""Encode the N copies of an image once.

GRPO answers every question N times, and trl repeats the prompt, image and all: a vision tower would see each image 3 N
times a step (generation, reference, loss). Here equal images of a batch are encoded once and their visual tokens
indexed back; the gradient of the N copies adds up at the one encoding, which is what it is without sharing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def share_vision(model: Any) -> Callable[[], None]:
    """Make a Qwen2-VL or Qwen2.5-VL (plain, or wrapped by peft) encode equal images of a batch once.

    Returns a function that undoes it. Works in ``generate``, with and without gradient; nothing global is patched.
    """
    core = core_of(model)
    original = core.get_image_features

    @wraps(original)
    def shared(pixel_values: Tensor, image_grid_thw: Tensor, **options: Any) -> Any:
        first, place = distinct(pixel_values, image_grid_thw)
        if len(first) == len(place):
            return original(pixel_values, image_grid_thw, **options)
        parts = pixel_values.split(image_grid_thw.prod(-1).tolist())
        pixels = torch.cat([parts[i] for i in first])
        options["return_dict"] = True
        encoded = original(pixels, image_grid_thw[first], **options)
        encoded.pooler_output = tuple(encoded.pooler_output[k] for k in place)
        encoded.last_hidden_state = None
        return encoded

    core.get_image_features = shared

    def undo() -> None:
        core.get_image_features = original

    return undo


def core_of(model: Any) -> Any:
    """The part with the vision tower: without the language model's head, and out of peft's wrapping."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.model if hasattr(base, "lm_head") else base


@contextmanager
def shared_vision(model: Any) -> Iterator[None]:
    """`share_vision` for the length of a block."""
    undo = share_vision(model)
    try:
        yield
    finally:
        undo()


def distinct(pixel_values: Tensor, image_grid_thw: Tensor) -> tuple[list[int], list[int]]:
    """Which images of a batch are equal.

    Args:
        pixel_values: patches ``(sum of t h w, channels)`` of all images, one after the other.
        image_grid_thw: ``(B, 3)`` grids.

    Returns:
        The first of each kind (K indices), and for each of the B images its kind (in 0 ... K - 1). A few sums make
        candidates, every pixel decides.
    """
    parts = pixel_values.detach().split(image_grid_thw.prod(-1).tolist())
    first: list[int] = []
    place: list[int] = []
    seen: dict[tuple[Any, ...], list[int]] = {}
    for i, (part, grid) in enumerate(zip(parts, image_grid_thw.tolist(), strict=True)):
        key = (*grid, float(part.double().sum()), float(part.flatten()[::97].double().square().sum()))
        kinds = seen.setdefault(key, [])
        kind = next((k for k in kinds if torch.equal(parts[first[k]], part)), None)
        if kind is None:
            kind = len(first)
            first.append(i)
            kinds.append(kind)
        place.append(kind)
    return first, place
