"""What `nss-mini` learns from: statistics of photographs that people rated, and of scenes with faults of known cost.

A scene is one crop of a clean photograph and several damaged versions of it: only the differences within it are known
well, for nobody was asked how good the photographs are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqloop.critic.natural_scene import COUNT, features
from iqloop.critic.training.artefacts import ADDED, COMMON, ENLARGING, Likeness, Maker
from iqloop.critic.training.crops import cut, exposed, flip, sharpest
from iqloop.critic.training.opinion import CLEAN
from iqloop.critic.training.opinion_curves import together
from iqloop.distort import compression
from iqloop.distort.image import Bytes

SIDES = (96, 160, 224, 256, 320, 400)
"""Sides of a scene in pixels, to be drawn from."""
VERSIONS = 6
"""Images of a scene, the clean one among them."""
ENLARGED_SCENES = 1 / 3
"""Fraction of the scenes whose faults are those of enlarging."""
ADDED_SHARE = 0.45
"""Fraction of the damaged images that are an earlier image of the scene with something on top."""
RECODED_SHARE = 0.2
"""Fraction of the images that are saved as a good JPEG (quality 88 to 97) afterwards, as files in the wild are."""
SMALLEST_SHARE, NATIVE_SHARE = 0.25, 0.25
"""Fractions of the scenes at the smallest scale and at the photograph's own; the others are between."""
RATED_CROP = (224, 400)
"""Least and largest side of the crop of a rated photograph that is learned beside the whole."""


@dataclass(frozen=True)
class Examples:
    """N images: figures ``(N, COUNT)``, scores in [1, 5] ``(N,)``, and the photograph or scene of each ``(N,)``."""

    figures: Tensor
    scores: Tensor
    groups: Tensor

    def chosen(self, which: Tensor) -> Examples:
        """Those for which ``which`` ``(N,)`` is true."""
        return Examples(self.figures[which], self.scores[which], self.groups[which])


def look(image: Bytes) -> Tensor:
    """Figures ``(COUNT,)`` of an image ``(H, W, 3)`` uint8."""
    with torch.no_grad():
        return features(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255)


def rated_examples(rated: Sequence[tuple[Bytes, float]], seed: int = 0) -> Examples:
    """Photographs with their mean opinions: all of them whole, then a random crop of each with the same score."""
    rng = np.random.default_rng([seed, 1])
    crops = [cut(image, min(int(rng.integers(*RATED_CROP)), *image.shape[:2]), rng) for image, _ in rated]
    figures = [look(image) for image in (*(image for image, _ in rated), *crops)]
    scores = torch.tensor([score for _, score in rated])
    return Examples(torch.stack(figures), scores.repeat(2), torch.arange(len(rated)).repeat(2))


def scene_examples(
    photographs: Sequence[Bytes],
    count: int,
    likeness: Likeness,
    seed: int = 0,
    tell: Callable[[int], object] = lambda done: None,
) -> Examples:
    """``count`` scenes of `VERSIONS` images each; scene i is a function of the seed and i.

    Args:
        photographs: clean ones, ``(H, W, 3)`` uint8.
        count: scenes.
        likeness: GMSD of two images.
        seed: of all that is drawn.
        tell: called with the number of scenes that are done.
    """
    cv2.setNumThreads(0)
    figures, scores = torch.empty(count * VERSIONS, COUNT), torch.empty(count * VERSIONS)
    for i in range(count):
        for k, (image, score) in enumerate(scene(photographs, likeness, np.random.default_rng([seed, 2, i]))):
            figures[i * VERSIONS + k], scores[i * VERSIONS + k] = look(image), score
        tell(i + 1)
    return Examples(figures, scores, torch.arange(count).repeat_interleave(VERSIONS))


def scene(photographs: Sequence[Bytes], likeness: Likeness, rng: np.random.Generator) -> list[tuple[Bytes, float]]:
    """One scene: a clean crop, then damaged versions of it, each with its score."""
    clean = clean_crop(photographs[int(rng.integers(len(photographs)))], int(rng.choice(SIDES)), rng)
    table = ENLARGING if rng.random() < ENLARGED_SCENES else COMMON
    versions = [(clean, CLEAN)]
    while len(versions) < VERSIONS:
        if rng.random() < ADDED_SHARE:
            base, known = versions[int(rng.integers(len(versions)))]
            image, score = _drawn(ADDED, rng)(base, rng, likeness)
            versions.append((image, together(known, score)))
        else:
            versions.append(_drawn(table, rng)(clean, rng, likeness))
    return [(_recoded(image, rng), score) for image, score in versions]


def _drawn(table: Mapping[Maker, int], rng: np.random.Generator) -> Maker:
    shares = np.array(list(table.values()), float)
    return list(table)[int(rng.choice(len(table), p=shares / shares.sum()))]


def clean_crop(photograph: Bytes, side: int, rng: np.random.Generator) -> Bytes:
    """A square of a photograph at a random scale, never enlarged: an enlarged photograph is not clean."""
    smallest = min(side / min(photograph.shape[:2]), 1.0)
    kind = rng.random()
    if kind < SMALLEST_SHARE:
        scale = smallest
    elif kind < SMALLEST_SHARE + NATIVE_SHARE:
        scale = 1.0
    else:
        scale = float(np.exp(rng.uniform(np.log(smallest), 0)))
    image = sharpest(photograph, round(side / scale), rng)
    if image.shape[:2] != (side, side):
        filters = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
        image = np.asarray(Image.fromarray(image).resize((side, side), filters[int(rng.integers(3))]), dtype=np.uint8)
    return exposed(flip(image, rng), rng)


def _recoded(image: Bytes, rng: np.random.Generator) -> Bytes:
    return compression.jpeg(image, int(rng.integers(88, 98))) if rng.random() < RECODED_SHARE else image
