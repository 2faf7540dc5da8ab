"""How well a critic names distortions that are known, and whether its scores fall with them.

The protocol is Q-Insight's as far as it is published: one distortion per photograph from DQ-495K's functions, short
side 224, the paper's class counts (noise 226, blur 205, compression 222, darken 226, null 121 of 1,000, inferred from
its printed fractions); class accuracy counts the class, level accuracy class and severity, and both are macro means
over classes (Li et al. 2025, Table 4). Its own 1,000 images are not released, so these are others.

Beside it stand mixtures of two and three distortions, of which any present class counts as right (`mixtures`).

Asking is the caller's: `figures`, `mixed` and `ladders` count answers, whether they were given now or were kept on
disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iqloop import distort
from iqloop.critic.verdicts import CLASSES, SEVERITIES, DistortionClass, Severity

Bytes = NDArray[np.uint8]
Label = tuple[str, str]
"""Class and severity: of the truth, or of an answer."""

SHORT_SIDE = 224
"""Pixels of the short side in DQ-495K."""
UNPARSED = "unparsed"
"""What stands for class and severity of an answer that could not be read."""
SHARES: dict[DistortionClass, float] = {
    "noise": 0.226,
    "blur": 0.205,
    "compression": 0.222,
    "darken": 0.226,
    "null": 0.121,
}
"""Share of each class among the test images."""
MIXED: tuple[DistortionClass, ...] = tuple(kind for kind in CLASSES if kind != "null")
"""The classes that mixtures are made of."""
LADDERS = {
    "noise": "noise_gaussian_RGB",
    "blur": "blur_gaussian",
    "compression": "compression_jpeg",
    "darken": "brightness_darken_gamma_RGB",
}
"""The function whose five severities make the class's ladder."""


class Photographs(Protocol):
    """Images ``(H, W, 3)`` uint8 RGB: a list, or whatever decodes them one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Bytes: ...


@dataclass(frozen=True, eq=False)
class Case:
    """One test image and the truth about it; the image is made when it is asked for."""

    clean: Bytes
    """``(H, W, 3)`` uint8 RGB."""
    distortion_class: DistortionClass
    severity: Severity
    function: str | None = None
    """Name of `iqloop.distort`; None for a clean image."""
    seed: int = 0

    @property
    def truth(self) -> Label:
        """Class and severity."""
        return self.distortion_class, self.severity

    @property
    def image(self) -> Bytes:
        """``(H, W, 3)`` uint8 RGB, distorted."""
        if self.function is None:
            return self.clean
        return distort.apply(self.clean, self.function, SEVERITIES.index(self.severity) + 1, seed=self.seed)


def cases(photographs: Photographs, count: int, seed: int = 0, native: int | None = None) -> Iterator[Case]:
    """Test images: photographs in turn, classes by `SHARES`, functions and severities drawn.

    Args:
        photographs: clean images, of which one at a time is taken.
        count: how many images; the five classes are rounded one by one, so that it may be missed by one or two.
        seed: draws everything.
        native: takes square crops of that side at native resolution instead of short side 224.
    """
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in CLASSES for _ in range(round(SHARES[kind] * count))]
    rng.shuffle(kinds)
    for i, kind in enumerate(kinds):
        image = photographs[i % len(photographs)]
        if native is None:
            image = distort.short_side(image, SHORT_SIDE)
        else:
            side = min(native, *image.shape[:2])
            y, x = (int(rng.integers(edge - side + 1)) for edge in image.shape[:2])
            image = np.ascontiguousarray(image[y : y + side, x : x + side])
        if kind == "null":
            yield Case(image, kind, "null")
            continue
        drawn = distort.draw(kind, rng)
        yield Case(image, kind, SEVERITIES[int(drawn.severity) - 1], drawn.name, int(rng.integers(2**31)))


@dataclass(frozen=True)
class Perception:
    """Figures of perception; accuracies in [0, 1]."""

    cases: int
    class_accuracy: float | None
    """Macro mean over the classes that occur; None without cases."""
    level_accuracy: float | None
    """Class and severity right: macro mean over the classes that occur, null left out; None without such cases."""
    by_class: dict[str, float]
    level_by_class: dict[str, float]
    confusion: dict[str, dict[str, int]]
    """Truth, then what was said (``"unparsed"`` among it)."""
    unparsed: float
    """Share of answers that could not be read; they count as wrong."""


def figures(answers: Iterable[tuple[Label, Label]]) -> Perception:
    """Count pairs of (truth, answer).

    >>> grain, soft = ("noise", "slight"), ("blur", "slight")
    >>> seen = figures([(grain, grain), (grain, ("noise", "obvious")), (soft, grain)])
    >>> seen.class_accuracy, seen.level_accuracy
    (0.5, 0.25)
    """
    confusion: dict[str, dict[str, int]] = {kind: dict.fromkeys((*CLASSES, UNPARSED), 0) for kind in CLASSES}
    level_hits: dict[str, int] = dict.fromkeys((kind for kind in CLASSES if kind != "null"), 0)
    for truth, answer in answers:
        confusion[truth[0]][answer[0]] += 1
        if truth[0] in level_hits:
            level_hits[truth[0]] += truth == answer
    totals = {kind: sum(row.values()) for kind, row in confusion.items()}
    total = sum(totals.values())
    by_class = {kind: confusion[kind][kind] / n for kind, n in totals.items() if n}
    level_by_class = {kind: hits / totals[kind] for kind, hits in level_hits.items() if totals[kind]}
    return Perception(
        total,
        _mean(by_class.values()),
        _mean(level_by_class.values()),
        by_class,
        level_by_class,
        confusion,
        sum(row[UNPARSED] for row in confusion.values()) / max(1, total),
    )


@dataclass(frozen=True, eq=False)
class Mixture:
    """One photograph with distortions of two or three classes; the image is made when it is asked for."""

    clean: Bytes
    """``(H, W, 3)`` uint8 RGB."""
    distortions: tuple[distort.Distortion, ...]
    """One of each class of ``present``, in the order in which they are applied."""
    present: tuple[DistortionClass, ...]
    """Two or three of `MIXED`, all different, in its order."""
    seed: int = 0

    @property
    def image(self) -> Bytes:
        """``(H, W, 3)`` uint8 RGB, distorted."""
        return distort.apply_all(self.clean, self.distortions, seed=self.seed)


def mixtures(photographs: Photographs, count: int, seed: int = 0) -> Iterator[Mixture]:
    """Photographs in turn, half with two distortions and half with three, all of different classes.

    Args:
        photographs: clean images, of which one at a time is taken, at short side 224.
        count: how many images, at least 0; an odd one has two distortions.
        seed: draws which are two-fold, classes (uniformly, without replacement), functions and severities.
    """
    rng = np.random.default_rng(seed)
    sizes = [2] * (count - count // 2) + [3] * (count // 2)
    rng.shuffle(sizes)
    for i, size in enumerate(sizes):
        image = distort.short_side(photographs[i % len(photographs)], SHORT_SIDE)
        present = tuple(MIXED[j] for j in sorted(rng.choice(len(MIXED), size, replace=False)))
        yield Mixture(image, distort.draw_mixture(present, rng), present, int(rng.integers(2**31)))


@dataclass(frozen=True)
class Mixed:
    """Figures of mixtures; all but ``cases`` in [0, 1], None where there are no such cases."""

    cases: int
    accuracy: float | None
    """Share of answers that name any class that is present."""
    two: float | None
    """The same of images with two distortions."""
    three: float | None
    """The same of images with three distortions."""
    null: float
    """Share of answers that see no distortion; they count as wrong."""
    unparsed: float
    """Share of answers that could not be read; they count as wrong."""
    named: dict[str, float]
    """How often a class was the one that was named where it was present, for the classes that occur."""


def mixed(answers: Iterable[tuple[Sequence[str], str]]) -> Mixed:
    """Count pairs of (classes that are present, class that was said or `UNPARSED`).

    >>> seen = mixed([(("noise", "blur"), "blur"), (("noise", "blur", "darken"), "null")])
    >>> seen.accuracy, seen.two, seen.three, seen.null, seen.named
    (0.5, 1.0, 0.0, 0.5, {'noise': 0.0, 'blur': 0.5, 'darken': 0.0})
    """
    known = list(answers)
    hits = [(len(present), said in present) for present, said in known]
    named = {kind: _mean(said == kind for present, said in known if kind in present) for kind in MIXED}
    total = max(1, len(known))
    return Mixed(
        len(known),
        _mean(hit for _, hit in hits),
        _mean(hit for size, hit in hits if size == 2),
        _mean(hit for size, hit in hits if size == 3),
        sum(said == "null" for _, said in known) / total,
        sum(said == UNPARSED for _, said in known) / total,
        {kind: share for kind, share in named.items() if share is not None},
    )


@dataclass(frozen=True, eq=False)
class Rung:
    """One image of a ladder."""

    clean: Bytes
    """``(H, W, 3)`` uint8 RGB."""
    distortion_class: str
    """A class of `LADDERS`; ``"null"`` for the clean image, where all ladders begin."""
    severity: int
    """0 (clean) to 5."""
    photograph: int
    """Number of the photograph; seeds the distortion."""

    @property
    def image(self) -> Bytes:
        """``(H, W, 3)`` uint8 RGB, distorted."""
        if not self.severity:
            return self.clean
        return distort.apply(self.clean, LADDERS[self.distortion_class], self.severity, seed=self.photograph)


def rungs(photographs: Sequence[Bytes], side: int = SHORT_SIDE) -> Iterator[Rung]:
    """Every photograph at short side ``side``: clean, then at severity 1 to 5 of each class of `LADDERS`."""
    small = [distort.short_side(photograph, side) for photograph in photographs]
    for kind, severity in [("null", 0), *((kind, severity) for kind in LADDERS for severity in range(1, 6))]:
        for i, photograph in enumerate(small):
            yield Rung(photograph, kind, severity, i)


def ladders(scores: Mapping[tuple[str, int], Sequence[float]]) -> dict[str, list[float | None]]:
    """Mean score at severity 0 (clean) to 5, for each class of `LADDERS`.

    Args:
        scores: those of the photographs by (class, severity), the clean ones under ``("null", 0)``; a rung of which
            none could be read has the mean None.
    """
    clean = _mean(scores.get(("null", 0), ()))
    return {kind: [clean, *(_mean(scores.get((kind, level), ())) for level in range(1, 6))] for kind in LADDERS}


def falls(ladder: Sequence[float | None], lower_better: bool = False) -> bool | None:
    """Whether each step down the ladder is judged worse than the one before; None when a rung has no mean."""
    known = [value for value in ladder if value is not None]
    if len(known) < len(ladder):
        return None
    return all(b > a if lower_better else b < a for a, b in pairwise(known))


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return float(np.mean(known)) if known else None
