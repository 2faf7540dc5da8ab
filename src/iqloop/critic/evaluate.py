"""How well a critic sees: perception of synthetic distortions, severity ladders, agreement with people.

The protocol of perception is Q-Insight's as far as it is published: one distortion per photograph from DQ-495K's
functions, short side 224, the paper's class counts (noise 226, blur 205, compression 222, darken 226, null 121 of 1,000,
inferred from its printed fractions); class accuracy counts the class, level accuracy class and severity, and both are
macro means over classes (Li et al. 2025, Table 4). Its own 1,000 images are not released, so these are others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iqloop import distort
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, DistortionClass, Rating, Severity

Bytes = NDArray[np.uint8]

SHARES: dict[DistortionClass, float] = {
    "noise": 0.226,
    "blur": 0.205,
    "compression": 0.222,
    "darken": 0.226,
    "null": 0.121,
}
"""Share of each class among the test images."""

LADDERS = {
    "noise": "noise_gaussian_RGB",
    "blur": "blur_gaussian",
    "compression": "compression_jpeg",
    "darken": "brightness_darken_gamma_RGB",
}
"""The function whose five severities make the class's ladder."""


@dataclass(frozen=True)
class Case:
    """One test image and the truth about it."""

    image: Bytes
    distortion_class: DistortionClass
    severity: Severity


@dataclass(frozen=True)
class Perception:
    """Figures of perception."""

    cases: int
    class_accuracy: float
    """Macro mean over the classes."""
    level_accuracy: float
    """Macro mean over the classes but null: class and severity right."""
    by_class: dict[str, float]
    level_by_class: dict[str, float]
    confusion: dict[str, dict[str, int]]
    """Truth, then what was said (``"unparsed"`` among it)."""
    unparsed: float
    """Share of answers that did not parse."""


def cases(photographs: Sequence[Bytes], count: int, seed: int = 0, native: int | None = None) -> Iterator[Case]:
    """Test images: photographs in turn, classes by `SHARES`, functions and severities drawn.

    ``native`` takes square crops of that side at native resolution instead of short side 224.
    """
    rng = np.random.default_rng(seed)
    counts = {kind: round(share * count) for kind, share in SHARES.items()}
    kinds = [kind for kind in CLASSES for _ in range(counts[kind])]
    rng.shuffle(kinds)
    for i, kind in enumerate(kinds):
        image = photographs[i % len(photographs)]
        if native is None:
            image = distort.short_side(image, 224)
        else:
            side = min(native, *image.shape[:2])
            y, x = (int(rng.integers(edge - side + 1)) for edge in image.shape[:2])
            image = np.ascontiguousarray(image[y : y + side, x : x + side])
        if kind == "null":
            yield Case(image, kind, "null")
            continue
        drawn = distort.draw(kind, rng)
        severity = SEVERITIES[int(drawn.severity) - 1]
        yield Case(distort.apply(image, drawn.name, drawn.severity, seed=int(rng.integers(2**31))), kind, severity)


def perception(
    critic: Critic, test: Sequence[Case], progress: Callable[[int], None] = lambda done: None, batch: int = 16
) -> Perception:
    """Ask the critic about every case and count."""
    said: list[tuple[str, str]] = []
    for start in range(0, len(test), batch):
        piece = [_tensor(case.image) for case in test[start : start + batch]]
        for verdict in critic.perceive(piece):
            known = isinstance(verdict, Degradation)
            said.append((verdict.distortion_class, verdict.severity) if known else ("unparsed", "unparsed"))  # type: ignore[union-attr]
        progress(len(said))
    confusion: dict[str, dict[str, int]] = {kind: dict.fromkeys((*CLASSES, "unparsed"), 0) for kind in CLASSES}
    levels: dict[str, list[bool]] = {kind: [] for kind in CLASSES if kind != "null"}
    for case, (kind, severity) in zip(test, said, strict=True):
        confusion[case.distortion_class][kind] += 1
        if case.distortion_class != "null":
            levels[case.distortion_class].append((kind, severity) == (case.distortion_class, case.severity))
    by_class: dict[str, float] = {k: row[k] / max(1, sum(row.values())) for k, row in confusion.items() if sum(row.values())}
    level = {kind: float(np.mean(hits)) for kind, hits in levels.items() if hits}
    return Perception(
        len(test),
        float(np.mean(list(by_class.values()))),
        float(np.mean(list(level.values()))),
        by_class,
        level,
        confusion,
        sum(kind == "unparsed" for kind, _ in said) / max(1, len(said)),
    )


def severity_ladders(critic: Critic, photographs: Sequence[Bytes], side: int = 224) -> dict[str, list[float]]:
    """Mean score of the photographs at severity 0 (clean) to 5, for each class of `LADDERS`."""
    small = [distort.short_side(photograph, side) for photograph in photographs]
    clean = _mean_score(critic, small)
    return {
        kind: [clean]
        + [_mean_score(critic, [distort.apply(p, name, s, seed=i) for i, p in enumerate(small)]) for s in range(1, 6)]
        for kind, name in LADDERS.items()
    }


def correlation(scores: Sequence[float], opinions: Sequence[float]) -> tuple[float, float]:
    """Spearman's and Pearson's (raw, without a fitted curve) correlation with mean opinions."""
    from scipy import stats

    rank: Any = stats.spearmanr(scores, opinions)
    linear: Any = stats.pearsonr(scores, opinions)
    return float(rank.statistic), float(linear.statistic)


def _mean_score(critic: Critic, images: Sequence[Bytes]) -> float:
    ratings = critic.score([_tensor(image) for image in images])
    return float(np.mean([rating.mean for rating in ratings if isinstance(rating, Rating)]))


def _tensor(image: Bytes) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
