"""Does the judge decide as the clean photograph would? The loop is given one net at a time, whatever it suspects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from iqloop.agents.baselines import Outputs
from iqloop.agents.budget import Budget
from iqloop.agents.cache import Cache
from iqloop.agents.loop import restore
from iqloop.agents.settings import RestoreSettings
from iqloop.restorers.tool import Tool, ToolInfo, Treatment

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic

CLEAR = 0.5
"""Least difference in PSNR, in dB, that the judge is expected to see."""
UNLIMITED = Budget(None, None, None, None)


@dataclass(frozen=True)
class Judged:
    """One net's output beside the input, and whether the loop took it."""

    tool: str
    gain: float
    """PSNR in dB over the input; at least `CLEAR` away from 0."""
    accepted: bool
    reason: str
    """The judge's sentence; the stop reason where it was not asked."""
    asked: bool = True
    """False when the loop did not come to it, because the input looks clean."""

    @property
    def right(self) -> bool:
        """Taken when it is nearer to the truth, refused when it is farther."""
        return self.accepted == (self.gain > 0)


@dataclass(frozen=True)
class OneNet:
    """A toolbox of one tool, whose outputs are known already."""

    info: ToolInfo
    outputs: Outputs

    def tools_for(self, treatment: Treatment, scale: int = 1) -> list[OneNet]:
        """Itself, when it is for that."""
        return [self] if treatment in self.info.treats and scale == self.info.scale else []

    def load(self) -> Tool:
        """Itself."""
        return self

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        """The known output, or a new one."""
        return self.outputs.run(image[0], self.info.name)[0][None].clone()


def judge_nets(
    image: Tensor, outputs: Outputs, critic: Critic, psnr: Callable[[Tensor], float], settings: RestoreSettings
) -> list[Judged]:
    """Judge what each net makes of an input ``(3, H, W)``, where its PSNR differs clearly from the input's."""
    answers = Cache()
    before = psnr(image)
    found = []
    for name, tool in outputs.tools.items():
        output, _ = outputs.run(image, name)
        gain = psnr(output) - before
        if abs(gain) <= CLEAR:
            continue
        treatment = tool.info.treats[0]
        alone = replace(settings, search="greedy", only=(treatment,), judge=replace(settings.judge, min_severity=0.0))
        toolbox = OneNet(tool.info, outputs)
        outcome = restore(image, critic, toolbox, settings=alone, seed=outputs.seed, budget=UNLIMITED, cache=answers)
        tries = [attempt for step in outcome.trace.steps for attempt in step.tries]
        reason = tries[0].reason if tries else outcome.stop_reason
        found.append(Judged(name, gain, outcome.improved, reason, bool(tries)))
    return found
