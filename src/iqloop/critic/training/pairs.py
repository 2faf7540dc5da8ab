"""Pairs of images of which it is known which one is better: to train a comparison with a reference, and to measure it.

Two kinds. Of one function at two severities the milder is better, whatever the numbers of pixels say. Of two results of
restoration tools on the same degraded photograph the one nearer to the clean original is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
import torch

from iqloop import distort
from iqloop.critic.training.crops import ALIGNED_SHARE, Batch, Bytes, Crops, Plan, cut, scene
from iqloop.critic.verdicts import CLASSES, Choice
from iqloop.critic.views import GRID


class Treats(Protocol):
    """What is known of a tool."""

    @property
    def treats(self) -> Sequence[str]:
        """The classes of distortions that it is made for."""


class Tool(Protocol):
    """What makes candidates; `iqloop.restorers.Tool` is one. A critic knows no more of restorers than this."""

    @property
    def info(self) -> Treats:
        """What it treats."""

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """``(1, 3, H, W)`` in [0, 1] to the same."""


Kind = Literal["severity", "tools"]
"""How it is known which image is better."""

TIE_BAND = 0.25
"""Two results whose PSNR differs by no more, in dB, are ``"similar"``."""
MIXED_SHARE = 0.25
"""Fraction of the inputs of tools that have two distortions of different classes."""
INPUT_SHARE = 0.5
"""Fraction of tool pairs in which one of the two is the degraded input itself: to leave an image alone is a choice."""
FIRST_SHARE = 0.5
"""Fraction of tool pairs that begin with the first tool made for a distortion: what an agent tries first."""
MISTAKEN_SHARE = 0.25
"""Fraction of tool pairs with a tool that is made for something else, as far as its result is another image."""
ROUNDING = 1 / 12
"""Mean squared error of rounding to 8 bits, in grey levels squared: no image counts as nearer to another than this."""

_PERCEIVED: tuple[str, ...] = tuple(name for name in CLASSES if name != "null")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and the truth about them; three arrays ``(H, W, 3)`` uint8 RGB of one size."""

    reference: Bytes
    """The degraded input: of severities the scene with the same distortion, of tools what they were given."""
    a: Bytes
    b: Bytes
    choice: Choice
    """Which one is better."""
    difference: float
    """By how much A is better: severity of B less that of A (-4 to 4), or PSNR of A less that of B in dB."""
    kind: Kind
    distortion: str
    """Name of the function of `iqloop.distort`; of a mixture both, joined by ``+``."""

    @property
    def distortion_class(self) -> str:
        """``"noise"``, ``"blur"``, ``"compression"`` or ``"darken"``; ``"mixture"`` for two of them."""
        return "mixture" if "+" in self.distortion else _class_of(self.distortion)

    def swapped(self) -> Pair:
        """The same pair in the other order."""
        turned: dict[Choice, Choice] = {"A": "B", "B": "A", "similar": "similar"}
        return replace(self, a=self.b, b=self.a, choice=turned[self.choice], difference=-self.difference)


def severity_pair(photograph: Bytes, side: int, rng: np.random.Generator) -> Pair:
    """The same crop with one distortion at two different whole severities; the milder one is better.

    The reference has the same distortion at any severity, drawn again: were it the worse image itself, to find the
    copy would be to know the answer. Where both came out the same (a codec that meets its target anyway) another pair
    is drawn.

    Args:
        photograph: clean, ``(H, W, 3)`` uint8 RGB, of any size.
        side: of the three images, in pixels.
        rng: draws everything; the same state gives the same pair.
    """
    clean = scene(photograph, side, rng)
    function = distort.draw(_PERCEIVED[int(rng.integers(len(_PERCEIVED)))], rng, severity=1).name
    mild, strong = sorted(int(level) for level in rng.choice(5, 2, replace=False) + 1)
    # Each has its own grain: what differs between two shots of one scene is not only how much of it there is.
    levels = (mild, strong, int(rng.integers(1, 6)))
    made = [distort.apply(clean, function, level, seed=int(rng.integers(2**31))) for level in levels]
    better, worse, reference = _cut_alike(made, side, rng)
    if np.array_equal(better, worse):
        return severity_pair(photograph, side, rng)
    gap = strong - mild
    if rng.random() < 0.5:
        return Pair(reference, better, worse, "A", gap, "severity", function)
    return Pair(reference, worse, better, "B", -gap, "severity", function)


def tool_pair(photograph: Bytes, side: int, rng: np.random.Generator, tools: Sequence[Tool]) -> Pair:
    """A degraded crop and what tools made of it; the one nearer to the clean crop is better, by PSNR.

    The tools are those for the class of the distortion, half of the time the first of them first, sometimes one for
    another class. Only different images are
    compared: a tool that changes nothing, fails or enlarges is passed over for another one. Where none is left both
    images are the input, hence similar.

    Args:
        photograph: clean, ``(H, W, 3)`` uint8 RGB, of any size.
        side: of the three images, in pixels.
        rng: draws everything; the same state and the same tools give the same pair.
        tools: what may be used, such as `iqloop.restorers.registry.package_tools`, the preferred ones first.
    """
    clean = scene(photograph, side, rng)
    several = 2 if rng.random() < MIXED_SHARE else 1
    classes = [_PERCEIVED[i] for i in rng.permutation(len(_PERCEIVED))[:several]]
    mixture = distort.draw_mixture(classes, rng)
    degraded = distort.apply_all(clean, mixture, seed=int(rng.integers(2**31)))
    clean, degraded = _cut_alike((clean, degraded), side, rng)
    wanted = 1 if rng.random() < INPUT_SHARE else 2
    results = list(islice(_results(degraded, _in_turn(tools, classes, rng)), wanted))
    a, b = results if len(results) == 2 else (degraded, *(results or [degraded]))
    if rng.random() < 0.5:
        a, b = b, a
    difference = psnr(a, clean) - psnr(b, clean)
    choice: Choice = "similar" if abs(difference) <= TIE_BAND else "A" if difference > 0 else "B"
    return Pair(degraded, a, b, choice, difference, "tools", "+".join(one.name for one in mixture))


@dataclass(frozen=True)
class PairPlan(Plan):
    """A step of pairs: ``count`` pairs of ``side`` pixels, half of them of tools."""


class CropsAndPairs(Crops):
    """`Crops` whose plan has steps of pairs too; such a step's batch is a tuple of `Pair`.

    Args:
        tools: for the pairs of tools.
        crops: as `Crops` takes them.
    """

    def __init__(self, tools: Sequence[Tool], *crops: Any, **shares: Any) -> None:
        super().__init__(*crops, **shares)
        self.tools = tools

    def batch(self, step: int) -> Batch | tuple[Pair, ...]:  # type: ignore[override]  # what a plan asks for
        """The batch of one step."""
        plan = self.plans[step]
        if not isinstance(plan, PairPlan):
            return super().batch(step)
        rng = np.random.default_rng([self.seed, step])
        pairs = []
        for i in range(plan.count):
            photograph = self.photographs[int(rng.integers(len(self.photographs)))]
            if i % 2 or not self.tools:
                pairs.append(severity_pair(photograph, plan.side, rng))
            else:
                pairs.append(tool_pair(photograph, plan.side, rng, self.tools))
        return tuple(pairs)


def psnr(image: Bytes, clean: Bytes) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images of one size; at most 58.9, that of rounding."""
    error = np.square(image.astype(np.float32) - clean).mean(dtype=np.float64)
    return float(10 * np.log10(255**2 / max(error, ROUNDING)))


def _class_of(function: str) -> str:
    return next(name for name in _PERCEIVED if name in function)


def _cut_alike(images: Sequence[Bytes], side: int, rng: np.random.Generator) -> list[Bytes]:
    """The same square of each, mostly on JPEG's grid: cut from the images laid on top of each other."""
    stack = cut(np.concatenate(images, axis=2), side, rng, GRID if rng.random() < ALIGNED_SHARE else 1)
    return [np.ascontiguousarray(stack[..., 3 * i : 3 * i + 3]) for i in range(len(images))]


def _in_turn(tools: Sequence[Tool], classes: Sequence[str], rng: np.random.Generator) -> list[Tool]:
    """The tools in a random order: those that treat a class first, and sometimes one before them that does not.

    Of those that treat a class the one that stands first in ``tools`` leads in `FIRST_SHARE` of the orders.
    """
    drawn = [tools[i] for i in rng.permutation(len(tools))]
    if rng.random() < FIRST_SHARE:
        leading = next((tool for tool in tools if classes[0] in tool.info.treats), None)
        drawn.sort(key=lambda tool: tool is not leading)
    fitting = [tool for tool in drawn if not set(tool.info.treats).isdisjoint(classes)]
    others = [tool for tool in drawn if tool not in fitting]
    mistaken = 1 if rng.random() < MISTAKEN_SHARE else 0
    return [*others[:mistaken], *fitting, *others[mistaken:]]


def _results(degraded: Bytes, tools: Sequence[Tool]) -> Iterator[Bytes]:
    """What the tools make of an image, one by one, each unlike the image and all before."""
    known = [degraded]
    for tool in tools:
        result = _restored(tool, degraded)
        if result is not None and not any(np.array_equal(result, one) for one in known):
            known.append(result)
            yield result


def _restored(tool: Tool, degraded: Bytes) -> Bytes | None:
    """The image as the tool restores it; None when it fails or gives another size."""
    try:
        restored = tool.restore(torch.from_numpy(degraded).permute(2, 0, 1)[None].float() / 255)[0]
    except Exception:  # a tool may be anyone's code, and there are others
        return None
    result = (restored.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return result if result.shape == degraded.shape else None
