"""An endless, seeded stream of damaged patches with their clean originals.

Every batch is a function of (seed, step), so a run that is resumed sees what an unbroken run would have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from iqloop.errors import UsageError
from iqloop.restorers.training.damage import Bytes
from iqloop.restorers.training.tasks import Task

SMALLEST = 0.5
"""Least scale that a photograph is shrunk to before a patch is cut, so that textures vary in size."""
NATIVE_SHARE = 0.4
"""Fraction of patches cut at the photograph's own scale, where nothing is resampled."""


class Batch(NamedTuple):
    """What one step sees; both uint8 RGB."""

    given: Tensor
    """Damaged patches ``(B, 3, patch, patch)``."""
    target: Tensor
    """The clean ones, ``(B, 3, patch * scale, patch * scale)``."""


class Patches(IterableDataset[Batch]):
    """The batches of the steps from ``start`` to ``steps``."""

    def __init__(
        self,
        task: Task,
        photographs: Sequence[Bytes],
        patch: int,
        count: int,
        steps: int,
        seed: int,
        start: int = 0,
    ) -> None:
        super().__init__()
        self.task, self.photographs, self.patch, self.count = task, photographs, patch, count
        self.steps, self.seed, self.start = steps, seed, start

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(0)
        info = torch.utils.data.get_worker_info()
        if info is not None:
            torch.set_num_threads(1)
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        for step in range(self.start + worker, self.steps, workers):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        chosen = [self.photographs[int(rng.integers(len(self.photographs)))] for _ in range(self.count)]
        pairs = [pair(photograph, self.task, self.patch, rng) for photograph in chosen]
        return Batch(*(to_tensor([both[i] for both in pairs]) for i in (0, 1)))


def stream(patches: Patches, workers: int, pin: bool = False) -> Iterator[Batch]:
    """The batches, made by ``workers`` processes ahead of their use (0: made here).

    Call this before the first tensor is computed: the processes are forked at once, and a fork that carries the
    locks of running compute threads can wait for ever. ``pin`` puts them into memory that a GPU reads faster.
    """
    cv2.setNumThreads(0)
    ahead = 4 if workers else None
    return iter(DataLoader(patches, batch_size=None, num_workers=workers, prefetch_factor=ahead, pin_memory=pin))


def pair(photograph: Bytes, task: Task, patch: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """A damaged patch ``(patch, patch, 3)`` and its clean original, ``task.scale`` times as large.

    More is cut, damaged, and cut off again: what blurs or codes sees the surroundings of a patch, not a border.
    """
    clean = turned(scene(photograph, side_of(task, patch), rng), rng)
    return inner(task.degrade(clean, rng), task.margin), inner(clean, task.margin * task.scale)


def side_of(task: Task, patch: int) -> int:
    """Pixels that a photograph must have at least, on its short side, for a patch of a task."""
    return (patch + 2 * task.margin) * task.scale


def scene(photograph: Bytes, side: int, rng: np.random.Generator) -> Bytes:
    """A random square of ``side`` pixels, at the photograph's scale or down to half of it."""
    shortest = min(photograph.shape[:2])
    scale = 1.0 if rng.random() < NATIVE_SHARE else float(rng.uniform(max(SMALLEST, side / shortest), 1))
    cut = min(round(side / scale), shortest)
    y, x = (int(rng.integers(room - cut + 1)) for room in photograph.shape[:2])
    square = photograph[y : y + cut, x : x + cut]
    if cut == side:
        return square
    filters = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
    chosen = filters[int(rng.integers(3))]
    return np.asarray(Image.fromarray(square).resize((side, side), chosen), dtype=np.uint8)


def turned(image: Bytes, rng: np.random.Generator) -> Bytes:
    """One of the eight ways to turn and mirror a square, as an array of its own."""
    way = int(rng.integers(8))
    image = np.rot90(image, way % 4)
    return np.ascontiguousarray(image[:, ::-1] if way >= 4 else image)


def inner(image: Bytes, margin: int) -> Bytes:
    """The image without ``margin`` pixels on each side."""
    height, width = image.shape[:2]
    return image[margin : height - margin, margin : width - margin]


def to_tensor(images: Sequence[Bytes]) -> Tensor:
    """Equal images ``(H, W, 3)`` as one tensor ``(B, 3, H, W)`` uint8."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))


def load_photographs(folders: Iterable[Path], side: int) -> tuple[list[Bytes], list[Path]]:
    """All images of some folders, and below them, as ``(H, W, 3)`` uint8 RGB in natural order of their names.

    Returns:
        the photographs of at least ``side`` pixels on their short side, and the files that are smaller.

    Raises:
        UsageError: a folder is missing or without images, or all photographs are too small.
        ImageReadError: a file cannot be read.
    """
    from iqloop.io import find_images, read

    photographs: list[Bytes] = []
    small: list[Path] = []
    named = list(folders)
    for folder in named:
        if not folder.is_dir():
            raise UsageError(f"{folder} is missing: expected clean photographs there")
    for found in find_images(named):
        pixels = read(found.path).pixels
        image = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        if min(image.shape[:2]) < side:
            small.append(found.path)
        else:
            photographs.append(image)
    if not photographs:
        where = ", ".join(map(str, named))
        raise UsageError(f"{where}: no photograph has the {side} pixels on its short side that a patch needs")
    return photographs, small
