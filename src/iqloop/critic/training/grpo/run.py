"""A run of reinforcement from its newest checkpoint, or the start, to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iqloop.critic.training.grpo.journal import Say, steps_told


def train_grpo(made: Any, output: Path, say: Say) -> dict[str, float]:
    """Train from the newest checkpoint in ``output``, or from the start; writes ``output/final``. Returns the last
    step's figures."""
    checkpoint = newest(output)
    if checkpoint is not None:
        say(f"resuming from {checkpoint}")
    made.add_callback(steps_told(say))
    made.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    final = output / "final"
    made.save_model(str(final))
    if made.is_world_process_zero():
        made.processing_class.save_pretrained(str(final))
        (final / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nothing here reads
    steps = [row for row in made.state.log_history if "reward" in row]
    return {key: float(value) for key, value in (steps[-1] if steps else {}).items() if isinstance(value, int | float)}


def newest(output: Path) -> Path | None:
    """The last checkpoint of a run that was written to its end."""
    found = [
        folder
        for folder in output.glob("checkpoint-*")
        if folder.name.removeprefix("checkpoint-").isdigit() and (folder / "trainer_state.json").is_file()
    ]
    return max(found, key=lambda folder: int(folder.name.removeprefix("checkpoint-")), default=None)
