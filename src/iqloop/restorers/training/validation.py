"""How good a net is on held-out photographs, damaged in the fixed ways that its task names."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from iqloop.restorers.full_reference import PERFECT, psnr, ssim
from iqloop.restorers.training.damage import Bytes
from iqloop.restorers.training.stream import inner, to_tensor
from iqloop.restorers.training.tasks import Task

Judges = Mapping[str, Callable[[Tensor], float]]
"""Scores of an image ``(3, H, W)`` in [0, 1], by the judge's name."""


@dataclass(frozen=True)
class Check:
    """Held-out photographs with one fixed damage."""

    name: str
    given: tuple[Bytes, ...]
    """Damaged, ``(H, W, 3)`` uint8 RGB."""
    target: tuple[Bytes, ...]
    """Clean, ``scale`` times as large."""

    def before(self) -> float:
        """Mean PSNR in dB without any net; a smaller input is enlarged by Pillow's bicubic."""
        return mean_psnr([enlarged(image, like) for image, like in self.pairs()], self.target)

    def pairs(self) -> list[tuple[Bytes, Bytes]]:
        """Each damaged image with its clean one."""
        return list(zip(self.given, self.target, strict=True))


def checks(task: Task, held_out: Sequence[Bytes], side: int, count: int) -> list[Check]:
    """The fixed checks of a task on the middles of the first ``count`` photographs.

    Args:
        task: whose checks.
        held_out: clean photographs ``(H, W, 3)`` uint8, never trained on.
        side: of a middle, in pixels of the clean image; smaller where a photograph is smaller.
        count: how many photographs.
    """
    around = task.margin * task.scale
    whole = [middle(photograph, side + 2 * around, 8 * task.scale) for photograph in held_out[:count]]
    found = []
    for name, degrade in task.checks:
        given = []
        for i, clean in enumerate(whole):
            # Not hash(): it differs from process to process.
            rng = np.random.default_rng([zlib.crc32(name.encode()), i])
            given.append(inner(degrade(clean, rng), task.margin))
        found.append(Check(name, tuple(given), tuple(inner(clean, around) for clean in whole)))
    return found


def middle(photograph: Bytes, side: int, multiple: int) -> Bytes:
    """The middle of a photograph, at most ``side`` pixels high and wide, its sides multiples of ``multiple``."""
    height, width = (min(side, length) // multiple * multiple for length in photograph.shape[:2])
    y, x = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
    return np.ascontiguousarray(photograph[y : y + height, x : x + width])


def apply(net: nn.Module, image: Bytes) -> Bytes:
    """A net's answer to one image ``(H, W, 3)`` uint8, rounded to 8 bits; float32, whatever the training runs in."""
    device = next(net.parameters()).device
    x = to_tensor([image]).to(device).float() / 255
    # Not inference_mode: `span` folds its weights in its forward, and would keep tensors that training cannot touch.
    with torch.no_grad():
        y = net(x)[0].float().clamp(0, 1)
    result: Bytes = (y * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()
    return result


def figures(net: nn.Module, found: Sequence[Check], judges: Judges | None = None) -> dict[str, float]:
    """``psnr/NAME/input`` and ``psnr/NAME/output`` in dB: the mean over the photographs, RGB, rounded to 8 bits.

    With judges also the means of their scores, ``JUDGE/NAME/output``, and of SSIM, ``ssim/NAME/output``.
    """
    result: dict[str, float] = {}
    for check in found:
        outputs = [apply(net, image) for image in check.given]
        result[f"psnr/{check.name}/input"] = check.before()
        result[f"psnr/{check.name}/output"] = mean_psnr(outputs, check.target)
        if judges is not None:
            alike = [ssim(image, target) for image, target in zip(outputs, check.target, strict=True)]
            result[f"ssim/{check.name}/output"] = float(np.mean(alike))
            for name, judge in judges.items():
                scores = [judge(to_tensor([image])[0].float() / 255) for image in outputs]
                result[f"{name}/{check.name}/output"] = float(np.mean(scores))
    return result


def mean_psnr(images: Sequence[Bytes], targets: Sequence[Bytes]) -> float:
    """Mean PSNR in dB, each at most `PERFECT`."""
    return float(np.mean([min(psnr(image, target), PERFECT) for image, target in zip(images, targets, strict=True)]))


def enlarged(image: Bytes, like: Bytes) -> Bytes:
    """An input at the size of its target, by Pillow's bicubic."""
    if image.shape == like.shape:
        return image
    size = (like.shape[1], like.shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)


def strip(net: nn.Module, found: Sequence[Check]) -> Bytes:
    """Clean, input and output of the first photograph side by side, a row for each check."""
    rows = []
    for check in found:
        given, target = check.pairs()[0]
        rows.append(np.concatenate([target, enlarged(given, target), apply(net, given)], axis=1))
    return np.concatenate(rows, axis=0)
