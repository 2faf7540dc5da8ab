"""Train `qinsight-mini` from nothing: `iqloop train mini --stage vision|warmstart|export|all --data DATA --run RUN`.

    vision     the vision tower learns to perceive distortions (`iqloop.critic.training.vision`)
    warmstart  the whole model learns to reason and answer in the published format (`...training.warmstart`)
    export     half precision and the model card's figures, into a checkpoint folder

``DATA`` holds ``photos/train`` and ``photos/val`` (clean photographs) and, if human scores are to be learned,
``rated/*.csv`` with columns ``file`` and ``mos_1_5``. Stages resume from ``RUN`` when they are started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iqloop.errors import UsageError

Stage = Literal["vision", "warmstart", "export"]
STAGES: tuple[Stage, ...] = ("vision", "warmstart", "export")


@dataclass(frozen=True)
class MiniRun:
    """Where a run reads and writes, and how long it is."""

    data: Path
    run: Path
    vision_steps: int = 3400
    warmstart_steps: int = 900
    seed: int = 0
    fold: int | None = 0
    """Every fifth rated photograph, starting at this one, is kept for measuring; None trains on all."""
    workers: int = 1
    threads: int = 1


def run_stage(stage: Stage, run: MiniRun, say: Callable[[str], None]) -> None:
    """Run one stage; raises `UsageError` when its input is missing."""
    {"vision": _vision, "warmstart": _warmstart, "export": _export}[stage](run, say)


def _new_model(seed: int) -> tuple[Any, Any]:
    from iqloop.critic.fast import speed_up
    from iqloop.critic.mini import build_model, build_processor, build_tokenizer
    from iqloop.critic.training.reasoning import corpus

    processor = build_processor(build_tokenizer(corpus()))
    model = build_model(processor.tokenizer, seed=seed)
    speed_up(model.model.visual)
    return model, processor


def _data(run: MiniRun) -> tuple[list[Any], list[Any], list[Any]]:
    from iqloop.critic.training.crops import load_photographs, load_rated, well_rated

    for part in ("photos/train", "photos/val"):
        if not (run.data / part).is_dir():
            raise UsageError(f"{run.data / part} is missing: expected clean photographs there")
    rated = [row for table in sorted((run.data / "rated").glob("*.csv")) for row in load_rated(table, run.fold)]
    photographs = [*load_photographs(run.data / "photos/train"), *well_rated(rated)]
    return photographs, rated, load_photographs(run.data / "photos/val")


def _logger(run: MiniRun, stage: str, say: Callable[[str], None]) -> Callable[[dict[str, float]], None]:
    run.run.mkdir(parents=True, exist_ok=True)

    def log(row: dict[str, float]) -> None:
        with (run.run / "log.jsonl").open("a") as handle:
            handle.write(json.dumps({"stage": stage, **row}) + "\n")
        say(f"{stage} " + " ".join(f"{key}={value:.4g}" for key, value in row.items()))

    return log


def _vision(run: MiniRun, say: Callable[[str], None]) -> None:
    import torch

    from iqloop.critic.training.vision import VisionSettings, train_vision

    torch.set_num_threads(run.threads)
    model, _ = _new_model(run.seed)
    photographs, rated, held_out = _data(run)
    settings = VisionSettings(steps=run.vision_steps, seed=run.seed)
    log = _logger(run, "vision", say)
    train_vision(model.model.visual, photographs, rated, held_out, settings, run.run, log, run.workers)


def _warmstart(run: MiniRun, say: Callable[[str], None]) -> None:
    import torch

    from iqloop.critic.training.warmstart import WarmstartSettings, train_warmstart

    torch.set_num_threads(run.threads)
    vision = run.run / "vision.pt"
    if not vision.exists():
        raise UsageError(f"{vision} is missing: run  iqloop train mini --stage vision --run {run.run}  first")
    checkpoint = _as_checkpoint(*_new_model(run.seed))
    checkpoint.model.model.visual.load_state_dict(torch.load(vision, weights_only=True)["visual"])
    photographs, rated, held_out = _data(run)
    settings = WarmstartSettings(steps=run.warmstart_steps, seed=run.seed)
    log = _logger(run, "warmstart", say)
    train_warmstart(checkpoint, photographs, rated, held_out, settings, run.run, log, run.workers)


def _export(run: MiniRun, say: Callable[[str], None]) -> None:
    import torch

    from iqloop.critic.mini import save

    state = run.run / "warmstart.pt"
    if not state.exists():
        raise UsageError(f"{state} is missing: run  iqloop train mini --stage warmstart --run {run.run}  first")
    model, processor = _new_model(run.seed)
    saved = torch.load(state, weights_only=True)
    model.load_state_dict(saved["model"])
    folder = run.run / "qinsight-mini"
    save(model.half(), processor, folder)
    say(f"export {folder} steps={saved['step']} bytes={sum(file.stat().st_size for file in folder.iterdir())}")


def _as_checkpoint(model: Any, processor: Any) -> Any:
    from iqloop.critic.checkpoint import Checkpoint, CheckpointSource
    from iqloop.critic.mini import VIEWS
    from iqloop.critic.prompts import TaskName

    tasks: tuple[TaskName, ...] = ("score", "degradation", "describe")
    return Checkpoint(CheckpointSource("qinsight-mini", "", tasks=tasks), model, processor, VIEWS, tasks, "training")
