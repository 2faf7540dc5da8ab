"""What a tool gains on a known degradation: quality before and after, and time.

PSNR and SSIM need the undamaged photograph, so these figures choose and check tools; the loop itself has none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from iqloop import distort
from iqloop.errors import UsageError
from iqloop.restorers.tool import Tool

Degradation = tuple[str, float]
"""Name and severity: of `iqloop.distort.NAMES`; ``("clean", 0)``; ``("low-resolution", n)``, ``n`` times smaller."""


@dataclass(frozen=True)
class Row:
    """One tool on one degradation, the mean over the photographs."""

    tool: str
    degradation: str
    severity: float
    psnr_before: float
    """dB; inf for ``clean``; for ``low-resolution`` that of Pillow's bicubic enlargement."""
    psnr_after: float
    """dB of the tool's output, rounded to 8 bits, to the photograph; a perfect image counts as 60."""
    ssim: float
    """Of the output (Wang et al., 2004, Gaussian window), mean over channels."""
    worst: float
    """The smallest gain over the photographs in dB (for ``clean``: the smallest PSNR)."""
    seconds_per_megapixel: float
    """Of output, on this machine."""


def measure(
    tools: Sequence[Tool],
    photographs: Sequence[NDArray[np.uint8]],
    degradations: Iterable[Degradation],
    seed: int = 0,
) -> list[Row]:
    """Degrade each photograph, restore it with each tool, compare.

    Args:
        tools: what to measure; a tool of another scale than the degradation is left out.
        photographs: undamaged, ``(H, W, 3)`` uint8 RGB; at least one.
        degradations: see `Degradation`.
        seed: photograph ``i`` is degraded with ``seed + i``.

    Raises:
        UsageError: no photograph, or an unknown degradation.
    """
    if not photographs:
        raise UsageError("no photographs to measure on: expected at least one (H, W, 3) uint8 array")
    rows = []
    for name, severity in degradations:
        scale = int(severity) if name == "low-resolution" else 1
        fitting = [tool for tool in tools if tool.info.scale == scale]
        pairs = [_degrade(photo, name, severity, seed + i) for i, photo in enumerate(photographs)] if fitting else []
        rows += [_measure_one(tool, name, severity, pairs) for tool in fitting]
    return rows


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def _degrade(photo: NDArray[np.uint8], name: str, severity: float, seed: int) -> Pair:
    """The input of the tool, what it is compared with before, and the truth."""
    if name == "clean":
        return photo, photo, photo
    if name != "low-resolution":
        damaged = distort.apply(photo, name, severity, seed)
        return damaged, damaged, photo
    from PIL import Image

    scale = int(severity)
    truth = photo[: photo.shape[0] // scale * scale, : photo.shape[1] // scale * scale]
    size = (truth.shape[1], truth.shape[0])
    small = Image.fromarray(truth).resize((size[0] // scale, size[1] // scale), Image.Resampling.BICUBIC)
    return np.array(small), np.array(small.resize(size, Image.Resampling.BICUBIC)), truth


def _measure_one(tool: Tool, name: str, severity: float, pairs: Sequence[Pair]) -> Row:
    before, after, similarity, seconds, pixels = [], [], [], 0.0, 0
    for given, baseline, truth in pairs:
        tensor = torch.from_numpy(given.copy()).permute(2, 0, 1)[None].float() / 255
        start = time.perf_counter()
        restored = tool.restore(tensor)
        seconds += time.perf_counter() - start
        result = np.rint(restored[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        pixels += result.shape[0] * result.shape[1]
        before.append(psnr(baseline, truth))
        after.append(min(psnr(result, truth), 60.0))
        similarity.append(_ssim(result, truth))
    gains = [a if math.isinf(b) else a - b for a, b in zip(after, before, strict=True)]
    means = [float(np.mean(values)) for values in (before, after, similarity)]
    return Row(tool.info.name, name, severity, means[0], means[1], means[2], min(gains), seconds / pixels * 1e6)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images over all values; inf when they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    from skimage.metrics import structural_similarity

    if min(a.shape[:2]) < 11:
        return math.nan
    value = structural_similarity(
        a, b, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(value)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown: gain, its worst case, SSIM, time."""
    lines = [
        "| tool | degradation | severity | PSNR before | after | gain | worst | SSIM | s/MP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gain = "" if math.isinf(row.psnr_before) else f"{row.psnr_after - row.psnr_before:+.2f}"
        lines.append(
            f"| {row.tool} | {row.degradation} | {row.severity:g} | {row.psnr_before:.2f} | {row.psnr_after:.2f} "
            f"| {gain} | {row.worst:+.2f} | {row.ssim:.3f} | {row.seconds_per_megapixel:.2f} |"
        )
    return "\n".join(lines)
