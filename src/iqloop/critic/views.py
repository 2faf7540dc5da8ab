"""Which pixels of an image a critic looks at.

Published checkpoints get exactly their processor's resize (`kind` "processor"). A small critic that judges by the
pixels' own texture must not see resampled pixels: within its budget it gets the image as it is, cut to whole visual
tokens; above it, several crops at native resolution and the whole, shrunk to the budget, each a view of its own whose
answers are combined. The policy is a field of the checkpoint's configuration (``config.iqloop["views"]``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from iqloop.critic.pixels import MERGE, UNIT, fitted_size, resize
from iqloop.errors import CriticError

GRID = 8
"""Native views start at multiples of this many pixels: JPEG's blocks start at the file's corner, and keep one phase."""


@dataclass(frozen=True)
class ViewPolicy:
    """How an image becomes views."""

    kind: Literal["processor", "native"] = "processor"
    unit: int = UNIT
    """Sides of views are multiples of this, in pixels: a visual token, two patches."""
    pixels: int = 12_845_056
    """Budget per view, in pixels; the default is Qwen2-VL's."""
    pair_pixels: int | None = None
    """The same for each image of a comparison; None is `pixels`."""
    pair_crops: int = 0
    """How many native crops of `pair_pixels` larger images of equal size are compared in, two or more; 0 compares
    them shrunk."""
    pair_side: int = 196
    """Least side in pixels of an image that is compared, within the budget: for `kind` "native" smaller ones are
    continued by their reflections. With less to look at a small critic knows next to nothing of pairs (docs/log.md)."""
    min_pixels: int = 3136
    """Smallest view for `kind` "processor", in pixels."""
    crop: int = 336
    """Side of a native crop, in pixels."""
    crops: int = 4
    """How many native crops an image over the budget gets."""
    whole_weight: float = 0.25
    """Weight of the shrunk whole in the combined answer; each crop weighs 1."""
    reflections: int = 1
    """What is wrong with an image that fits one view is asked of so many of its mirror images, itself the first: 1; 2,
    with left and right exchanged; or 4, with up and down exchanged as well."""

    def __post_init__(self) -> None:
        if self.kind not in ("processor", "native"):
            raise CriticError(f"views.kind must be 'processor' or 'native', got {self.kind!r}")
        budgets = (self.pixels, self.pixels if self.pair_pixels is None else self.pair_pixels)
        if (
            min(self.crop, *(side**0.5 for side in budgets)) < self.unit
            or self.unit < MERGE
            or self.unit % MERGE
            or self.crops < 1
            or self.pair_crops < 0
            or self.pair_side < 1
            or self.pair_crops == 1  # a look at a crop must not be taken for one at the whole
            or not 0 <= self.whole_weight <= 1
            or self.reflections not in (1, 2, 4)
        ):
            raise CriticError(f"the checkpoint's view policy is out of range: {self}")

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a configuration file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ViewPolicy:
        """From a configuration file; unknown fields are refused by name."""
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise CriticError(f"unknown fields in the checkpoint's view policy: {', '.join(unknown)}")
        return cls(**fields)


@dataclass(frozen=True)
class View:
    """Pixels ``(3, H, W)`` in [0, 1], sides multiples of the policy's unit, and their weight in the combined answer."""

    pixels: Tensor
    weight: float = 1.0


def views_of(image: Tensor, policy: ViewPolicy) -> list[View]:
    """The views of an image ``(3, H, W)`` in [0, 1]; differentiable."""
    unit = policy.unit
    height, width = image.shape[-2:]
    if policy.kind == "processor":
        return [View(_fitted(image, policy))]
    image = _at_least_one_token(image, policy.unit)
    height, width = image.shape[-2:]
    if height * width <= policy.pixels:
        return [View(_cut(image, height // unit * unit, width // unit * unit, 0.5, 0.5))]
    side = policy.crop // unit * unit
    tall, wide = min(side, height // unit * unit), min(side, width // unit * unit)
    centres = _centres(policy.crops, height, width)
    crops = [View(_cut(image, tall, wide, y, x)) for y, x in centres]
    if policy.whole_weight == 0:
        return crops
    return [*crops, View(_fitted(image, policy), policy.whole_weight)]


def reflections_of(views: Sequence[View], policy: ViewPolicy) -> list[View]:
    """The mirror images of an image that has one view; none of any other."""
    if len(views) > 1:
        return []
    axes = [(-1,), (-2,), (-1, -2)][: policy.reflections - 1]
    return [View(views[0].pixels.flip(*which)) for which in axes]


def single_view(image: Tensor, policy: ViewPolicy) -> Tensor:
    """One view of the whole image: native within the budget, shrunk above it."""
    if policy.kind == "native" and _area(image, policy.unit) <= policy.pixels:
        return views_of(image, policy)[0].pixels
    return _fitted(image, policy)


def views_together(images: Sequence[Tensor], policy: ViewPolicy) -> list[list[Tensor]]:
    """The views of images that are compared: one row for each look, with a view of every image.

    Images of one size beyond the budget are seen crop by crop, the same places in all; what differs in size, or fits,
    in one look, whole.
    """
    if policy.pair_pixels is not None:
        policy = replace(policy, pixels=policy.pair_pixels)
    first = images[0]
    alike = all(image.shape == first.shape for image in images)
    unit = policy.unit
    if policy.kind != "native" or not policy.pair_crops or not alike or _area(first, unit) <= policy.pixels:
        if policy.kind == "native":
            images = [_continued(image, policy) for image in images]
        return [[single_view(image, policy) for image in images]]
    height, width = (max(unit, side) for side in first.shape[-2:])
    square = int(policy.pixels**0.5)
    # A strip gives up width for what it has of length.
    tall = min(height, max(square, policy.pixels // min(width, square))) // unit * unit
    wide = min(width, policy.pixels // tall) // unit * unit
    return [
        [_cut(_at_least_one_token(image, unit), tall, wide, y, x) for image in images]
        for y, x in _centres(policy.pair_crops, height, width)
    ]


def _area(image: Tensor, unit: int) -> int:
    """Pixels, once sides under a token are filled."""
    height, width = image.shape[-2:]
    return max(height, unit) * max(width, unit)


def _centres(count: int, height: int, width: int) -> list[tuple[float, float]]:
    """Centres of a grid of at least ``count`` cells, as fractions; the cells' aspect follows the image's."""
    rows = max(1, round((count * height / width) ** 0.5))
    rows = min(rows, count)
    columns = -(-count // rows)
    grid = [((r + 0.5) / rows, (c + 0.5) / columns) for r in range(rows) for c in range(columns)]
    return grid[:count] if len(grid) == count else [grid[i * len(grid) // count] for i in range(count)]


def _cut(image: Tensor, tall: int, wide: int, y: float, x: float) -> Tensor:
    height, width = image.shape[-2:]
    top = min(max(0, round(y * height - tall / 2)), height - tall) // GRID * GRID
    left = min(max(0, round(x * width - wide / 2)), width - wide) // GRID * GRID
    return image[:, top : top + tall, left : left + wide]


def _fitted(image: Tensor, policy: ViewPolicy) -> Tensor:
    height, width = image.shape[-2:]
    return resize(image, *fitted_size(height, width, policy.min_pixels, policy.pixels, policy.unit))


def _continued(image: Tensor, policy: ViewPolicy) -> Tensor:
    """Sides under ``pair_side`` are filled by reflections, which have its texture, as far as the budget goes."""
    height, width = image.shape[-2:]
    least = min(policy.pair_side, int(policy.pixels**0.5))
    tall, wide = (min(least, policy.pixels // max(other, least)) for other in (width, height))

    def places(length: int, wanted: int) -> Tensor:
        index = torch.arange(max(length, wanted // policy.unit * policy.unit), device=image.device) % (2 * length)
        return torch.where(index < length, index, 2 * length - 1 - index)

    if height >= tall and width >= wide:
        return image
    return image[:, places(height, tall)][:, :, places(width, wide)]


def _at_least_one_token(image: Tensor, unit: int) -> Tensor:
    """Sides under a token are filled by repeating the border: enlarging would look like blur."""
    height, width = image.shape[-2:]
    down, right = max(0, unit - height), max(0, unit - width)
    if not (down or right):
        return image
    return torch.as_tensor(F.pad(image[None], (0, right, 0, down), mode="replicate")[0])
