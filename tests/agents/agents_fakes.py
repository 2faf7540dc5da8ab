"""Scripted critics and tools: a small world in which every image is a known state with a known score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional

from iqloop.agents.candidate import pixel_hash
from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import SEVERITIES, Degradation, Preference, Provenance, Rating, Severity, Unparsed
from iqloop.restorers.tool import Tool, ToolInfo, Treatment

Scorer = Callable[[Tensor], "float | Unparsed"]
Perceiver = Callable[[Tensor], "Degradation | Unparsed"]
Comparer = Callable[[Tensor, Tensor, Tensor], "float | Unparsed"]


def photograph(name: str = "astronaut", top: int = 0, left: int = 100, size: int = 128) -> Tensor:
    """A crop of a photograph bundled with scikit-image: ``(3, size, size)`` in [0, 1]."""
    array = getattr(skimage.data, name)()[top : top + size, left : left + size, :3]
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))).float() / 255


def degradation(**levels: float) -> Degradation:
    """A diagnosis with these expected severities (each at most 5); the rest of the probability is null."""
    probabilities = {name: level / 5 for name, level in levels.items()}
    probabilities["null"] = 1 - sum(probabilities.values())
    worst = max(levels, key=lambda name: levels[name], default="null")
    label = worst if levels and levels[worst] > 0 else "null"
    ladder: dict[str, float] = {word: float(word == "catastrophic") for word in SEVERITIES}
    severity: Severity = "null" if label == "null" else "catastrophic"
    return Degradation(
        label,  # type: ignore[arg-type]
        severity,
        probabilities,
        {name: ladder for name in levels},
        reasoning="it looks so",
        raw="{}",
        provenance=Provenance("fake", "fake/perceive/1", "expected"),
    )


CLEAN = degradation()


class FakeCritic:
    """A critic made of functions of the image; every question is written down in ``asked``."""

    def __init__(
        self,
        score: Scorer,
        perceive: Perceiver | None = None,
        compare: Comparer | None = None,
        *,
        std: float = 0.1,
        score_range: tuple[float, float] = (1.0, 5.0),
        lower_better: bool = False,
    ) -> None:
        self.name, self.version = "fake", "1"
        self.score_range, self.lower_better, self.std = score_range, lower_better, std
        self._score, self._perceive, self._compare = score, perceive, compare
        self.asked: list[str] = []

    @property
    def capabilities(self) -> frozenset[Capability]:
        found: set[Capability] = {"score"}
        if self._perceive is not None:
            found.add("perceive")
        if self._compare is not None:
            found.add("compare")
        return frozenset(found)

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self.asked += ["score"] * len(images)
        found = [self._score(image) for image in images]
        origin = Provenance("fake", "fake/score/1", "expected")
        return [value if isinstance(value, Unparsed) else Rating(value, self.std, provenance=origin) for value in found]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        assert self._perceive is not None
        self.asked += ["perceive"] * len(images)
        return [self._perceive(image) for image in images]

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        assert self._compare is not None and reference is not None
        self.asked += ["compare"] * len(a)
        verdicts: list[Preference | Unparsed] = []
        for x, y, z in zip(a, b, reference, strict=True):
            found = self._compare(x, y, z)
            if isinstance(found, Unparsed):
                verdicts.append(found)
            else:
                verdicts.append(Preference("A" if found > 0.5 else "similar", found, raw=("A", "B")))
        return verdicts

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        return ["a photograph"] * len(images)


@dataclass
class FakeTool:
    """A tool, and its own registry entry."""

    info: ToolInfo
    change: Callable[[Tensor], Tensor]
    """``(3, H, W)`` to ``(3, H * scale, W * scale)``; may raise."""
    calls: int = 0
    seeds: list[int] = field(default_factory=list)

    def load(self) -> Tool:
        return self

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        self.calls += 1
        self.seeds.append(seed)
        return self.change(image[0])[None]


def tool(
    name: str, treats: Treatment, change: Callable[[Tensor], Tensor], scale: int = 1, strength: float = 0.5
) -> FakeTool:
    """A fake tool for one treatment."""
    return FakeTool(ToolInfo(name, (treats,), "fake", scale=scale, strength=strength), change)


class Tools:
    """A registry of fake tools."""

    def __init__(self, *entries: FakeTool) -> None:
        self.entries = entries

    def tools_for(self, treatment: Treatment, scale: int = 1) -> list[FakeTool]:
        return [e for e in self.entries if treatment in e.info.treats and e.info.scale == scale]

    @property
    def calls(self) -> int:
        return sum(entry.calls for entry in self.entries)


class World:
    """Images that look the same to the fidelity gate and are told apart by hash, each with a score and a diagnosis."""

    def __init__(self, states: Mapping[str, tuple[float | Unparsed, Degradation | Unparsed]]) -> None:
        base = 0.2 + 0.6 * photograph(size=64)
        self.images = {name: base + 0.001 * number for number, name in enumerate(states)}
        self.names = {pixel_hash(image): name for name, image in self.images.items()}
        self.states = dict(states)

    def name(self, image: Tensor) -> str:
        return self.names[pixel_hash(image)]

    def critic(self, compare: Callable[[str, str, str], float | Unparsed] | None = None) -> FakeCritic:
        comparer: Comparer | None = None
        if compare is not None:

            def comparer(a: Tensor, b: Tensor, reference: Tensor) -> float | Unparsed:
                return compare(self.name(a), self.name(b), self.name(reference))

        return FakeCritic(
            lambda image: self.states[self.name(image)][0], lambda image: self.states[self.name(image)][1], comparer
        )

    def tool(self, name: str, treats: Treatment, ways: Mapping[str, str], strength: float = 0.5) -> FakeTool:
        """A tool that leads from state to state; a state without a way gives the image back unchanged."""

        def change(image: Tensor) -> Tensor:
            here = self.name(image)
            return self.images[ways.get(here, here)].clone()

        return tool(name, treats, change, strength=strength)


def psnr(image: Tensor, clean: Tensor) -> float:
    return float(-10 * torch.log10(((image - clean) ** 2).mean().clamp_min(1e-6)))


def psnr_critic(clean: Tensor, perceive: Perceiver | None = None) -> FakeCritic:
    """Scores by PSNR to a hidden clean image (10 dB is 1, 50 dB is 5); other sizes are compared at the image's own."""

    def score(image: Tensor) -> float:
        target = clean
        if target.shape != image.shape:
            target = functional.interpolate(clean[None], size=image.shape[-2:], mode="bicubic", antialias=True)[0]
        return min(5.0, max(1.0, psnr(image, target) / 10))

    return FakeCritic(score, perceive)


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
