"""An endless, seeded stream of labelled crops: distorted photographs, clean ones, and photographs that people rated.

Every batch is a function of (seed, step), so a run that is resumed sees what an unbroken run would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from iqloop import distort
from iqloop.critic.labels import ONE_TO_FIVE, read_ratings, root_of
from iqloop.critic.training.opinion import CLEAN, FUNCTIONS, mean_opinion
from iqloop.critic.verdicts import CLASSES
from iqloop.critic.views import GRID
from iqloop.distort import compression
from iqloop.errors import UsageError

Bytes = NDArray[np.uint8]

RATED_SHARE = 0.12
"""Fraction of a batch that are photographs with a human score (when there are any)."""
RECODED_SHARE = 0.25
"""Fraction of images that are saved as a good JPEG (quality 88 to 97) afterwards, as files in the wild are."""
EXPOSED_SHARE = 0.4
"""Fraction of images whose exposure is changed before anything else."""
ALIGNED_SHARE = 0.75
"""Fraction of crops that start at a corner of JPEG's grid, as the views of a whole file do."""
SOFTEST = 1.5
"""Largest enlargement of a photograph before it is distorted."""
SMALLEST_SHARE, NATIVE_SHARE = 0.3, 0.2
"""Fractions of crops at the scale of DQ-495K (short side 224) and at the photograph's own, where nothing is resampled;
the others are anywhere between."""
DEVELOPED_SHARE = 0.5
"""Fraction of images that get another camera's white balance, colours, tone curve, sharpening or smoothing."""
CLEAN_SHARE = 0.2
"""Of what is not rated: as many clean crops as of each distortion."""
MIXED_SHARE = 0.15
"""Fraction of the distorted images that get two or three distortions of different classes."""
CLEAN_OPINION, FAIR_OPINION = 3.7, 3.0
"""Rated photographs from the first score on serve as clean ones too, those from the second on at half their size, where
what is wrong with them hardly shows: they widen what a clean photograph looks like."""


@dataclass(frozen=True)
class Label:
    """What is known of a crop; None where it is not."""

    distortion_class: int | None
    """Index into `CLASSES`; of a mixture, the class of the strongest distortion."""
    function: int | None
    """Index into `FUNCTIONS`; None for clean and rated photographs."""
    severity: int | None
    """1 to 5; None for clean and rated photographs."""
    score: float
    """In [1, 5]."""
    also: tuple[int, ...] = ()
    """The other classes of a mixture."""


@dataclass(frozen=True)
class Batch:
    """Crops ``(B, H, W, 3)`` uint8 and their labels."""

    pixels: Tensor
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Plan:
    """What one step draws: crops of ``side`` pixels, ``count`` of them."""

    side: int
    count: int


def decode(path: Path) -> Bytes | None:
    """An image file as ``(H, W, 3)`` uint8 RGB; None when it is none."""
    image = cv2.imread(str(path))
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def load_photographs(folder: Path, pattern: str = "*") -> list[Bytes]:
    """All images of a folder as ``(H, W, 3)`` uint8 RGB, sorted by name."""
    images = [decode(path) for path in sorted(folder.glob(pattern)) if path.is_file()]
    photographs = [image for image in images if image is not None]
    if not photographs:
        raise UsageError(f"no images in {folder}: expected a folder of photographs")
    return photographs


def load_rated(
    table: Path, fold: int | None = None, folds: int = 5, held_out: bool = False
) -> list[tuple[Bytes, float]]:
    """Photographs with their mean opinion in [1, 5], from any label file on that scale (`iqloop.critic.labels`).

    Every ``folds``-th row from ``fold`` on is left out; with ``held_out`` just these are given.
    """
    ratings = read_ratings(table)
    if ratings.scale != ONE_TO_FIVE:
        raise UsageError(f"{table}: expected opinions on [1, 5], in a CSV the columns file and mos_1_5")
    kept = [row for i, row in enumerate(ratings.rows) if fold is None or (i % folds == fold) == held_out]
    base = root_of(table, (row.image for row in kept))
    rated = []
    for row in kept:
        image = decode(base / row.image)
        if image is None:
            raise UsageError(f"{base / row.image}: named in {table.name} but cannot be read")
        rated.append((image, row.mos))
    return rated


def well_rated(rated: Sequence[tuple[Bytes, float]]) -> list[Bytes]:
    """The rated photographs that people found good, and the fair ones at half their size, to be distorted as well."""
    good = [image for image, score in rated if score >= CLEAN_OPINION]
    fair = [image for image, score in rated if FAIR_OPINION <= score < CLEAN_OPINION]
    return good + [np.asarray(Image.fromarray(image).reduce(2), dtype=np.uint8) for image in fair]


class Crops(IterableDataset[Batch]):
    """Batches for the steps of a plan, from ``start`` on."""

    def __init__(
        self,
        photographs: Sequence[Bytes],
        rated: Sequence[tuple[Bytes, float]],
        plans: Sequence[Plan],
        seed: int,
        start: int = 0,
        rated_share: float = RATED_SHARE,
        clean_share: float = CLEAN_SHARE,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.photographs, self.rated, self.plans = photographs, rated, plans
        self.seed, self.start = seed, start
        self.rated_share, self.clean_share, self.shares = rated_share, clean_share, shares

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        info = torch.utils.data.get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        for step in range(self.start + worker, len(self.plans), workers):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        plan = self.plans[step]
        rows = [self._row(plan.side, rng) for _ in range(plan.count)]
        pixels = torch.from_numpy(np.stack([image for image, _ in rows]))
        return Batch(pixels, tuple(label for _, label in rows))

    def _row(self, side: int, rng: np.random.Generator) -> tuple[Bytes, Label]:
        if self.rated and rng.random() < self.rated_share:
            image, score = self.rated[int(rng.integers(len(self.rated)))]
            return flip(cut(image, side, rng), rng), Label(None, None, None, score)
        photograph = self.photographs[int(rng.integers(len(self.photographs)))]
        return distorted(photograph, side, rng, self.clean_share, self.shares)


def stream(crops: Crops, workers: int) -> Iterator[Batch]:
    """The batches, made by ``workers`` processes ahead of their use (0: made here).

    Call this before the first tensor is computed: the processes are forked at once, and a fork that carries the
    locks of running compute threads can wait for ever.
    """
    cv2.setNumThreads(0)
    return iter(DataLoader(crops, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None))


def distorted(
    photograph: Bytes,
    side: int,
    rng: np.random.Generator,
    clean_share: float = CLEAN_SHARE,
    shares: Mapping[str, float] | None = None,
) -> tuple[Bytes, Label]:
    """A crop of a photograph at a random scale, distorted or clean.

    The scale goes from short side 224, as in DQ-495K, to `SOFTEST` times native: photographs differ in how sharp they
    are at their pixels, and a critic that knows only crisp ones calls every other one blurred. ``shares`` say how often
    each class of damage is drawn, relative to the others; all alike by default.
    """
    image = scene(photograph, side, rng)
    if rng.random() < clean_share:
        label = Label(CLASSES.index("null"), None, None, CLEAN)
    else:
        several = int(rng.integers(1, 3)) if rng.random() < MIXED_SHARE else 0
        damages = [name for name in CLASSES if name != "null"]
        order = rng.permutation(len(damages)) if shares is None else _drawn([shares[name] for name in damages], rng)
        chosen = [damages[i] for i in order[: 1 + several]]
        mixture = distort.draw_mixture(chosen, rng)
        image = distort.apply_all(image, mixture, seed=int(rng.integers(2**31)))
        label = label_of(mixture)
    image = cut(image, side, rng, GRID if rng.random() < ALIGNED_SHARE else 1)
    if rng.random() < RECODED_SHARE:
        image = compression.jpeg(image, int(rng.integers(88, 98)))
    return image, label


def _drawn(weights: Sequence[float], rng: np.random.Generator) -> NDArray[np.int64]:
    """All indices in a random order, the heavier ones rather first."""
    p = np.asarray(weights, dtype=np.float64)
    return rng.choice(len(p), len(p), replace=False, p=p / p.sum())


def scene(photograph: Bytes, side: int, rng: np.random.Generator) -> Bytes:
    """A clean square of a photograph at a random scale, a little larger than ``side``, as some camera might show it."""
    shortest = min(photograph.shape[:2])
    smallest = min((side + 8) / shortest, 1.0) if side >= 224 else min(max(side + 8, 224) / shortest, 1.0)
    kind = rng.random()
    if kind < SMALLEST_SHARE:
        scale = smallest
    elif kind < SMALLEST_SHARE + NATIVE_SHARE:
        scale = 1.0
    else:
        scale = float(np.exp(rng.uniform(np.log(smallest), np.log(SOFTEST))))
    size = side + (24 if side >= 200 else 16)
    image = sharpest(photograph, round(size / scale), rng)
    if rng.random() < DEVELOPED_SHARE:
        image = developed(image, rng)
    if image.shape[:2] != (size, size):
        filters = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
        chosen = filters[int(rng.integers(3))] if scale < 1 else Image.Resampling.BICUBIC
        image = np.asarray(Image.fromarray(image).resize((size, size), chosen), dtype=np.uint8)
    return exposed(flip(image, rng), rng)


def label_of(mixture: Sequence[distort.Distortion]) -> Label:
    """What is known of an image with these distortions: the strongest names it, all of them cost quality.

    Each distortion leaves a share of the distance between a bad image and a clean one; the shares multiply.
    """
    strongest = max(mixture, key=lambda one: one.severity)
    left = np.prod([(mean_opinion(one.name, one.severity) - 1) / (CLEAN - 1) for one in mixture])
    return Label(
        _class_of(strongest.name),
        FUNCTIONS.index(strongest.name),
        int(strongest.severity),
        float(1 + (CLEAN - 1) * left),
        tuple(_class_of(one.name) for one in mixture if one is not strongest),
    )


def _class_of(function: str) -> int:
    return next(i for i, name in enumerate(CLASSES) if name in function)


def developed(image: Bytes, rng: np.random.Generator) -> Bytes:
    """As another camera might have developed it: white balance, colours and tone, then sharpened, smoothed or neither.

    A few hundred photographs come from few cameras, and what is the same in all of them would pass for what clean is.
    """
    x = image.astype(np.float32) / 255
    x = x * np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    grey = x.mean(2, keepdims=True)
    x = np.clip(grey + (x - grey) * float(rng.uniform(0.6, 1.4)), 0, 1)
    bend = float(rng.uniform(-0.25, 0.35))
    x = x + bend * x * (1 - x) * (2 * x - 1)
    finish = rng.random()
    if finish < 0.35:
        soft = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.6, 1.2)))
        x = x + float(rng.uniform(0.2, 0.9)) * (x - soft)
    elif finish < 0.6:
        x = cv2.bilateralFilter(x, 5, float(rng.uniform(0.02, 0.06)), 2)
    return np.asarray(np.rint(np.clip(x, 0, 1) * 255), dtype=np.uint8)


def exposed(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Part of the time another exposure, as a photographer might have chosen it: scaled in linear light.

    Without it a few hundred photographs are learned by heart, light included, and every darker one seems darkened.
    Highlights fall and blacks are not crushed, which sets it apart from the distortions of the class ``darken``.
    """
    if rng.random() >= EXPOSED_SHARE:
        return image
    gain = float(np.exp(rng.uniform(np.log(0.3), np.log(1.3))))
    levels = (np.clip((np.arange(256) / 255) ** 2.2 * gain, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)
    return np.asarray(levels[image], dtype=np.uint8)


def sharpest(photograph: Bytes, size: int, rng: np.random.Generator, tries: int = 2) -> Bytes:
    """Of a few random crops the one with most detail: a patch of sky says nothing of the camera's focus."""
    crops = [cut(photograph, min(size, *photograph.shape[:2]), rng) for _ in range(tries)]
    return max(crops, key=lambda crop: float(cv2.Laplacian(crop[..., 1], cv2.CV_32F).var()))


def cut(image: Bytes, side: int, rng: np.random.Generator, grid: int = 1) -> Bytes:
    """A random square, its corner at a multiple of ``grid``; an image that is too small is enlarged by reflection."""
    height, width = image.shape[:2]
    if min(height, width) < side:
        image = np.pad(image, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="symmetric")
        height, width = image.shape[:2]
    y, x = (int(rng.integers(room // grid + 1)) * grid for room in (height - side, width - side))
    return np.ascontiguousarray(image[y : y + side, x : x + side])


def flip(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Mirrored left to right half of the time."""
    return np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image
