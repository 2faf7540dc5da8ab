"""A scripted critic that knows the clean photograph, and a way to run the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner, Result
from torch import Tensor
from torch.nn import functional

from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Preference, Provenance, Rating, Unparsed
from iqloop.recipes.cli import cli

SIDE = 96


@dataclass
class ScriptedCritic:
    """Scores by the distance to a clean photograph; sees obvious noise in everything unless told otherwise."""

    clean: Tensor
    kind: str = "noise"
    capabilities: frozenset[Capability] = frozenset({"score", "perceive"})
    lower_better: bool = False
    fault: Callable[[Tensor], None] | None = None
    """Called with every image that is scored; may raise."""
    unparsed: bool = False
    name: str = "scripted"
    version: str = "1"
    score_range: tuple[float, float] = (1.0, 5.0)
    batches: list[int] = field(default_factory=list)

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self.batches.append(len(images))
        for image in images:
            if self.fault is not None:
                self.fault(image)
        if self.unparsed:
            return [Unparsed("hm", "expected a number")] * len(images)
        return [Rating(self._value(image), 0.05, provenance=Provenance("scripted")) for image in images]

    def _value(self, image: Tensor) -> float:
        clean = functional.interpolate(self.clean[None], size=tuple(image.shape[-2:]), mode="bicubic")[0]
        return min(5.0, max(1.0, float(-torch.log10((image - clean).square().mean() + 1e-6))))

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        if self.unparsed:
            return [Unparsed("hm", "expected JSON")] * len(images)
        severity = "null" if self.kind == "null" else "obvious"
        sure = {name: float(name == self.kind) for name in CLASSES}
        ladder: dict[str, float] = {word: float(word == severity) for word in SEVERITIES}
        found: Any = Degradation(self.kind, severity, sure, {self.kind: ladder}, "grain in the sky")  # type: ignore[arg-type]
        return [found] * len(images)

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        if self.unparsed:
            return [Unparsed("hm", "expected A or B")] * len(a)
        better = [self._value(x) - self._value(y) for x, y in zip(a, b, strict=True)]
        return [Preference("A" if d > 0 else "B" if d < 0 else "similar", 0.5 + 0.4 * np.sign(d), "so") for d in better]

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        return ["a photograph"] * len(images)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run the command line in this process; a real traceback fails the test."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin, prog_name="iqloop")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    return result


def lines(result: Result) -> list[dict[str, Any]]:
    """Standard output as JSON Lines; anything else there fails the test."""
    return [json.loads(line) for line in result.stdout.splitlines()]
