"""What an adapter does to images that it was not trained on, and whether it is kept for that.

An adapter is never chosen by the reward that it was trained on, which it may have learned to deceive, but by another
judge, and only where photographs stay as near to their originals as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from iqloop.restorers.diffusion.models import DiffusionModel, Given
from iqloop.restorers.diffusion.pairs import seeds_of
from iqloop.restorers.diffusion.sampling import eight_bits, inconsistency, noise_of, sample
from iqloop.restorers.full_reference import PERFECT, psnr, ssim
from iqloop.restorers.training.damage import Bytes
from iqloop.restorers.training.guard import Guard, is_better, is_near

Judges = Mapping[str, Callable[[Tensor], float]]
"""Scores of an image ``(3, H, W)`` in [0, 1], by the judge's name."""
Measured = dict[str, list[float]]
"""By figure, one value for each image."""


@dataclass(frozen=True)
class HeldOut:
    """Images to draw, each with noise of its own that never changes."""

    given: tuple[Given, ...]
    """Each tensor begins with 1."""
    targets: tuple[Bytes, ...] = ()
    """What they should look like, ``(H, W, 3)`` uint8, where that is known."""
    seed: int = 0

    def __len__(self) -> int:
        return len(self.given)


def measure(model: DiffusionModel, held_out: HeldOut, judges: Judges, sample_steps: int) -> Measured:
    """Draw each image, rounded to 8 bits, and measure it.

    Returns:
        the judges' scores by their names; ``drift`` (`iqloop.restorers.diffusion.sampling.Sample.drift`, over all
        steps); ``psnr`` in dB and ``ssim`` where there are targets; for super-resolution ``inconsistency``
        (`iqloop.restorers.diffusion.sampling.inconsistency`).
    """
    place = next(model.network.parameters()).device
    found: Measured = {}
    for i, known in enumerate(held_out.given):
        given = {name: value.to(place) for name, value in known.items()}
        noise = noise_of(model.shape(given), seeds_of(1, held_out.seed, i), place)
        drawn = sample(model, given, noise, sample_steps, drift=True)
        assert drawn.drift is not None
        images = eight_bits(drawn.images)
        figures = {name: judge(images[0]) for name, judge in judges.items()}
        if held_out.targets:
            figures |= _nearness(images[0], held_out.targets[i])
        if "image" in given:
            figures["inconsistency"] = float(inconsistency(images, given["image"]))
        figures["drift"] = float(drawn.drift)
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return found


def _nearness(image: Tensor, target: Bytes) -> dict[str, float]:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return {"psnr": min(psnr(pixels, target), PERFECT), "ssim": ssim(pixels, target)}


def means(measured: Mapping[str, list[float]]) -> dict[str, float]:
    """The mean of each figure over the images."""
    return {name: fmean(values) for name, values in measured.items()}


def preferable(found: Mapping[str, float], best: Mapping[str, float], first: Mapping[str, float], guard: Guard) -> bool:
    """Whether an adapter with these means takes the place of the best one so far; ``first`` are those of none."""
    near = is_near(found.get("psnr", 0.0), first.get("psnr", 0.0), guard)
    return is_better(found[guard.figure], best[guard.figure], guard) and near
