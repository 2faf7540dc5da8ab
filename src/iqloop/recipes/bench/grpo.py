"""How long a step of GRPO takes beside stock trl's: ``iqloop bench grpo``.

Both train the same model on the same questions from the same seed, in turn, run after run; the first step of a run, in
which everything is warmed up, is not counted. The losses stand beside the times: sharing must not change them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

STOCK, OURS = "stock trl", "iqloop"


@dataclass(frozen=True)
class Run:
    """One run of a few steps."""

    name: str
    seconds: tuple[float, ...]
    """Of each step but the first."""
    losses: tuple[float, ...]
    """Of each step."""
    gradients: tuple[float, ...]
    """Norms, of each step."""


def measure(
    folder: Path,
    photographs: list[Any],
    *,
    side: int,
    questions: int,
    generations: int,
    steps: int,
    rounds: int,
    max_new_tokens: int,
    say: Callable[[str], None],
) -> list[Run]:
    """Runs of both, in turn.

    Args:
        folder: the critic's checkpoint.
        photographs: clean, ``(H, W, 3)`` uint8, to be distorted.
        side: of the crops, in pixels.
        questions: per step.
        generations: answers to each question.
        steps: per run, the first of which only warms up.
        rounds: runs of each.
        max_new_tokens: longest answer.
        say: takes a line for each run.
    """
    from iqloop.critic.training.grpo import PRESETS, Machine, trainer
    from iqloop.critic.training.synthetic import Source, examples, rows

    settings = replace(
        PRESETS["q-insight"],
        steps=steps,
        generations=generations,
        prompts_per_step=questions,
        prompts_per_device=questions,
        max_new_tokens=max_new_tokens,
        rate=1e-5,
    )
    asked = examples(("score", "degradation"), steps * questions)
    runs = []
    for i in range(2 * rounds):
        name = (STOCK, OURS)[i % 2]
        ours = name == OURS
        machine = Machine(share_vision=ours, share_prompts=ours, fast_vision=ours)
        with tempfile.TemporaryDirectory() as output:
            made = trainer(
                folder, Path(output), asked, settings, machine, rows(Source(photographs, (), side=side), asked)
            )
            made.train()
        log = [row for row in made.state.log_history if "step_time" in row]
        run = Run(
            name,
            tuple(row["step_time"] for row in log[1:]),
            tuple(row["loss"] for row in log),
            tuple(row["grad_norm"] for row in log),
        )
        say(f"{name}: {statistics.median(run.seconds):.2f} s a step")
        runs.append(run)
    return runs


def markdown(runs: list[Run]) -> str:
    """The table, and how far the losses are apart."""
    seconds = {name: [s for run in runs if run.name == name for s in run.seconds] for name in (STOCK, OURS)}
    ratios = [
        statistics.median(stock.seconds) / statistics.median(ours.seconds)
        for stock, ours in zip(runs[::2], runs[1::2], strict=True)
    ]
    loss = max(
        abs(a - b) for x, y in zip(runs[::2], runs[1::2], strict=True) for a, b in zip(x.losses, y.losses, strict=True)
    )
    norm = max(
        abs(a - b) / a
        for x, y in zip(runs[::2], runs[1::2], strict=True)
        for a, b in zip(x.gradients, y.gradients, strict=True)
    )
    lines = [
        "| trainer | seconds a step (median) | fastest | slowest |",
        "|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} | {max(found):.2f} |"
            for name, found in seconds.items()
        ),
        "",
        f"{statistics.median(ratios):.2f} times as fast (median of {len(ratios)} rounds: "
        f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}).",
        f"Largest difference of a step's loss {loss:.1e}, of its gradient's norm {norm:.1e} of it.",
    ]
    return "\n".join(lines)
