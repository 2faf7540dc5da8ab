"""What a run tells: a line and a row of figures for each step, and an answer of each batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[[str], None]


def steps_told(say: Say) -> Any:
    """One line for each step, and all figures into ``log.jsonl``."""
    from transformers import TrainerCallback

    shown = ("reward", "reward_std", "kl", "answers/unparsed", "frac_reward_zero_std", "completions/mean_length")

    class Told(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if not state.is_world_process_zero or logs is None or "reward" not in logs:
                return
            row = {key: value for key, value in logs.items() if isinstance(value, int | float)}
            with (Path(args.output_dir) / "log.jsonl").open("a") as handle:
                handle.write(json.dumps({"step": state.global_step, **row}) + "\n")
            figures = " ".join(f"{key.split('/')[-1]}={row[key]:.4g}" for key in shown if key in row)
            tasks = " ".join(
                f"{key.split('/')[1]}={row[key]:.3f}" for key in row if key.startswith("rewards/") and "mean" in key
            )
            say(f"step {state.global_step}/{state.max_steps} {figures} {tasks} seconds={row.get('step_time', 0):.1f}")

    return Told()


def answers_into(output: Path) -> Callable[[dict[str, Any]], None]:
    """Writes an answer of each batch to ``completions.jsonl``."""
    from accelerate import PartialState

    def write(row: dict[str, Any]) -> None:
        if PartialState().is_main_process:
            output.mkdir(parents=True, exist_ok=True)
            with (output / "completions.jsonl").open("a") as handle:
                handle.write(json.dumps(row) + "\n")

    return write
