"""How often a critic orders two images as people do.

Two protocols. SRIQA-Bench (Chen et al., "Toward Generalized Image Quality Assessment: Relaxing the Perfect Reference
Quality Assumption", 2025): super-resolution of the same scene by many methods, every pair inside a scene, decided by
mean opinions. And the labels of Q-Insight's comparison task (Li et al. 2025): Image A, Image B or Similar.

SRIQA-Bench scales its opinions scene by scene, so only their order inside a scene means something. Its published
percentages fit 300 pairs of regression methods, 3,600 of generative ones and 5,500 overall in 100 scenes; hence the
original is taken as a contestant in all three. Asking is the caller's: answers are counted here, whenever given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from iqloop.critic.verdicts import Choice
from iqloop.errors import UsageError

Subset = Literal["regression", "generative", "overall"]
SUBSETS: tuple[Subset, ...] = ("regression", "generative", "overall")
CHOICES: tuple[Choice, ...] = ("A", "B", "similar")
UNPARSED = "unparsed"
"""What stands for an answer that could not be read."""

DELTA = 0.1
"""Two scores that differ by no more are a tie, in the critic's own units: SRIQA-Bench's default."""
REGRESSION = frozenset({"swinir", "realesrnet", "rrdb"})
"""Methods trained without an adversary or a diffusion prior, simplified by `_simple`; RRDB is RealESRNet's network."""
GENERATIVE = frozenset({"realesrgan", "bsrgan", "hggt", "stablesr", "supir", "seesr", "sinsr", "osediff"})
"""SRIQA-Bench's other methods; any method that is not in `REGRESSION` counts as one."""
ORIGINAL = "original"
"""The photograph that was degraded, a contestant of every subset."""


@dataclass(frozen=True)
class Contestant:
    """One image of a scene."""

    key: str
    """What tells it from all others."""
    scene: str
    method: str
    """The method that made it, or the original; case, blanks and punctuation do not matter."""
    mos: float
    """Mean opinion, higher is better; comparable inside the scene only."""
    subset: str | None = None
    """``"regression"``, ``"generative"`` or ``"overall"`` (neither), or their beginnings; else the method decides."""


@dataclass(frozen=True)
class Pair:
    """Two contestants of one scene, in the table's order."""

    a: Contestant
    b: Contestant

    @property
    def truth(self) -> Choice:
        """Which one people prefer; ``"similar"`` for equal opinions."""
        return "similar" if self.a.mos == self.b.mos else "A" if self.a.mos > self.b.mos else "B"

    def within(self, subset: Subset) -> bool:
        """Whether both belong to the subset."""
        return _belongs(self.a, subset) and _belongs(self.b, subset)


def pairs(contestants: Iterable[Contestant]) -> list[Pair]:
    """All pairs inside each scene, scenes in order of appearance.

    Raises `UsageError` when no scene has two images, or when one method stands twice in a scene.
    """
    scenes: dict[str, list[Contestant]] = {}
    for one in contestants:
        if any(_simple(one.method) == _simple(other.method) for other in scenes.get(one.scene, ())):
            raise UsageError(f"scene {one.scene}: expected one image of each method, got two of {one.method}")
        scenes.setdefault(one.scene, []).append(one)
    found = [Pair(a, b) for members in scenes.values() for a, b in combinations(members, 2)]
    if not found:
        raise UsageError("expected two images or more of the same scene, got none")
    return found


def method_in(image: str) -> str | None:
    """The SRIQA-Bench method that a path names, as a folder or as a part of the file's name; None for none.

    >>> method_in("Real-ESRGAN/0001.png"), method_in("images/0001_SwinIR.png"), method_in("images/0001.png")
    ('realesrgan', 'swinir', None)
    """
    *folders, file = image.replace("\\", "/").split("/")
    stem = file.rpartition(".")[0] or file
    for part in (stem, *stem.split("_"), *reversed(folders)):
        if _simple(part) in REGRESSION | GENERATIVE | {ORIGINAL}:
            return _simple(part)
    return None


def by_scores(a: float, b: float, delta: float = DELTA, lower_better: bool = False) -> Choice:
    """Which of two scores is better; ``"similar"`` when they differ by no more than ``delta``.

    >>> by_scores(3.5, 3.25), by_scores(3.5, 3.45), by_scores(3.5, 3.25, lower_better=True)
    ('A', 'similar', 'B')
    """
    difference = b - a if lower_better else a - b
    return "similar" if abs(difference) <= delta else "A" if difference > 0 else "B"


@dataclass(frozen=True)
class Accuracy:
    """Pairs that were ordered as people order them."""

    pairs: int
    ties: int
    """Pairs of equal opinions."""
    correct: int
    accuracy: float | None
    """Share of all pairs, in [0, 1]; None without pairs."""
    scene_mean: float | None
    """The mean of the scenes' own shares."""
    by_scene: dict[str, float]
    unparsed: int
    """Pairs without an answer that could be read; they count as wrong."""


def subsets(judged: Sequence[tuple[Pair, str]]) -> dict[Subset, Accuracy]:
    """Accuracy on regression methods, generative ones, and overall.

    Args:
        judged: each pair and the answer about it: one of `CHOICES`, or `UNPARSED`.
    """
    return {subset: _accuracy([(pair, said) for pair, said in judged if pair.within(subset)]) for subset in SUBSETS}


@dataclass(frozen=True)
class Agreement:
    """Answers A, B or similar against labels of the same kind."""

    pairs: int
    accuracy: float | None
    """Share of all pairs, in [0, 1]; None without pairs."""
    by_truth: dict[str, float]
    """The same for each label that occurs."""
    confusion: dict[str, dict[str, int]]
    """Truth, then what was said (``"unparsed"`` among it)."""
    unparsed: int
    """Answers that could not be read; they count as wrong."""


def agreement(answers: Iterable[tuple[str, str]]) -> Agreement:
    """Count pairs of (truth, answer): truth one of `CHOICES`, the answer one of them or `UNPARSED`.

    >>> agreement([("A", "A"), ("A", "similar"), ("B", "B"), ("similar", "unparsed")]).by_truth
    {'A': 0.5, 'B': 1.0, 'similar': 0.0}
    """
    confusion: dict[str, dict[str, int]] = {truth: dict.fromkeys((*CHOICES, UNPARSED), 0) for truth in CHOICES}
    for truth, said in answers:
        confusion[truth][said] += 1
    totals = {truth: sum(row.values()) for truth, row in confusion.items()}
    right = {truth: row[truth] for truth, row in confusion.items()}
    total = sum(totals.values())
    return Agreement(
        total,
        sum(right.values()) / total if total else None,
        {truth: right[truth] / n for truth, n in totals.items() if n},
        confusion,
        sum(row[UNPARSED] for row in confusion.values()),
    )


@dataclass(frozen=True)
class Manner:
    """How the preferences came about."""

    position_bias: float | None
    """Mean of `Preference.position_bias` where it is told, in [-0.5, 0.5]; None when it never is."""
    position_bias_pairs: int
    """Pairs that told it."""
    thurstone: float | None
    """Share of preferences made of two scores; None without preferences."""


def manner(preferences: Iterable[tuple[str, float | None]]) -> Manner:
    """Of each preference its `Preference.method` and its `Preference.position_bias`."""
    known = list(preferences)
    biases = [bias for _, bias in known if bias is not None]
    scored = [method == "thurstone" for method, _ in known]
    return Manner(float(np.mean(biases)) if biases else None, len(biases), float(np.mean(scored)) if scored else None)


def _accuracy(judged: Sequence[tuple[Pair, str]]) -> Accuracy:
    hits: dict[str, list[bool]] = {}
    for pair, said in judged:
        hits.setdefault(pair.a.scene, []).append(said == pair.truth)
    by_scene = {scene: float(np.mean(row)) for scene, row in hits.items()}
    correct = sum(sum(row) for row in hits.values())
    return Accuracy(
        len(judged),
        sum(pair.truth == "similar" for pair, _ in judged),
        correct,
        correct / len(judged) if judged else None,
        float(np.mean(list(by_scene.values()))) if by_scene else None,
        by_scene,
        sum(said == UNPARSED for _, said in judged),
    )


def _belongs(one: Contestant, subset: Subset) -> bool:
    name = _simple(one.method)
    if subset == "overall" or name == ORIGINAL:
        return True
    named = next((known for known in SUBSETS if one.subset and known.startswith(_simple(one.subset))), None)
    if named is not None:
        return named == subset
    return (name in REGRESSION) == (subset == "regression")


def _simple(method: str) -> str:
    return "".join(character for character in method.casefold() if character.isalnum())
