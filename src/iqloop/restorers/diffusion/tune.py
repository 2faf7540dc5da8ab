"""Train an adapter on any objective: seeded, resumable to the same weights, the best by a held-out judge kept.

A run's folder holds ``settings.json`` (what it is), ``log.jsonl`` and ``runs/`` (its figures, for people and for
TensorBoard) and ``last.pt`` (all that is needed to go on); `iqloop.restorers.diffusion.results` adds what came out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from iqloop.errors import UsageError
from iqloop.restorers.diffusion.held_out import Measured, means, preferable
from iqloop.restorers.diffusion.lora import restore, state_of, trained
from iqloop.restorers.training.guard import Guard
from iqloop.restorers.training.record import Record, Say

Figures = dict[str, Tensor]
"""What is logged of a step: scalars without a gradient."""


class Objective(Protocol):
    """What is made smaller."""

    def __call__(self, step: int, rows: range) -> tuple[Tensor, Figures]:
        """Mean loss of some rows of a step's batch, and means that are logged; a function of both arguments."""
        ...


@dataclass(frozen=True)
class TuneSettings:
    """Hyper-parameters of a run. Raises `UsageError` when one is out of range."""

    steps: int = 200
    batch: int = 4
    """Inputs, or pairs, of a step."""
    at_once: int = 4
    """Of them in memory together."""
    rate: float = 4e-4
    """Learning rate after the warm-up, that of DRaFT; constant, for nobody knows when the guard will end the run."""
    warmup: int = 10
    """Steps in which it rises linearly."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    seed: int = 0
    log_every: int = 10
    save_every: int = 50
    measure_every: int = 25

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "at_once", "log_every", "save_every", "measure_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be at least 0, got {getattr(self, name)}")


class Kept(NamedTuple):
    """An adapter, and what it did to the held-out images."""

    step: int
    """After which it was measured; 0 is the untouched network."""
    measured: Measured
    weights: dict[str, Tensor]


class Tuned(NamedTuple):
    """What came of a run; the network has the weights of ``best``."""

    first: Measured
    """Of the untouched network."""
    best: Kept
    steps: int
    """That were done."""
    stopped: Literal["steps", "patience"]
    """Why there were no more."""


class _Run:
    """What changes while training goes on; all of it goes to a file and back."""

    def __init__(self, network: nn.Module, settings: TuneSettings) -> None:
        self.network = network
        self.optimiser = torch.optim.AdamW(trained(network).values(), settings.rate, weight_decay=settings.weight_decay)
        self.step = 0
        self.first: Measured = {}
        self.best = Kept(0, {}, {})
        self.stale = 0
        """Measurements since the best."""

    def save(self, path: Path) -> None:
        state = {
            "adapter": state_of(self.network),
            "optimiser": self.optimiser.state_dict(),
            "first": self.first,
            "best": self.best._asdict(),
            "counts": [self.step, self.stale],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote; nothing in the file is executed. Raises `UsageError` for a damaged file."""
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            restore(self.network, state["adapter"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.first, self.best = state["first"], Kept(**state["best"])
            self.step, self.stale = state["counts"]
        except Exception as error:  # a damaged archive raises whatever its bytes provoke
            raise UsageError(f"{path}: damaged or of another kind; remove it to begin again") from error


def tune(
    network: nn.Module,
    objective: Objective,
    measure: Callable[[], Measured],
    settings: TuneSettings,
    guard: Guard,
    folder: Path,
    say: Say = lambda line: None,
) -> Tuned:
    """Train the adapter of a network (`iqloop.restorers.diffusion.lora.attach`), from the folder's checkpoint if any.

    A run that was interrupted ends with the same weights as an unbroken one: on a CPU with the same number of threads
    to the bit (tested). The folder was begun with `iqloop.restorers.training.record.begin`. Raises `UsageError` when
    the checkpoint is damaged or the loss is no number any more.
    """
    run, checkpoint = _Run(network, settings), folder / "last.pt"
    if checkpoint.is_file():
        run.resume(checkpoint)
    record = Record(folder, run.step, settings.steps, say)
    clock = time.monotonic()
    rows: list[Figures] = []
    try:
        if not run.first:
            run.first = measure()
            run.best = Kept(0, run.first, state_of(network))
            record.write(0, _held_out(run.first))
            run.save(checkpoint)
        while run.step < settings.steps and run.stale < guard.patience:
            rows.append(_advance(run, objective, settings))
            run.step += 1
            due = {name for name in DUE if run.step % getattr(settings, name) == 0 or run.step == settings.steps}
            if "log_every" in due:
                figures = {name: float(torch.stack([row[name] for row in rows]).mean()) for name in rows[0]}
                record.write(run.step, {**figures, "seconds": round(time.monotonic() - clock, 1)})
                rows.clear()
            if "measure_every" in due:
                _compare(run, measure(), guard, record)
            if "save_every" in due or run.stale >= guard.patience:
                run.save(checkpoint)
    finally:
        record.close()
    restore(network, run.best.weights)
    stopped: Literal["steps", "patience"] = "patience" if run.stale >= guard.patience else "steps"
    return Tuned(run.first, run.best, run.step, stopped)


DUE = ("log_every", "measure_every", "save_every")
"""What is done every so many steps, and at the end."""


def _advance(run: _Run, objective: Objective, settings: TuneSettings) -> Figures:
    """One step of AdamW; the batch in parts whose gradients add up."""
    total: Figures = {}
    for start in range(0, settings.batch, settings.at_once):
        rows = range(start, min(settings.batch, start + settings.at_once))
        share = len(rows) / settings.batch
        loss, figures = objective(run.step, rows)
        (loss * share).backward()
        for name, value in {"loss": loss.detach(), **figures}.items():
            total[name] = total.get(name, torch.zeros_like(value)) + value * share
    for group in run.optimiser.param_groups:
        group["lr"] = settings.rate * min(1.0, (run.step + 1) / max(1, settings.warmup))
    total["gradient"] = nn.utils.clip_grad_norm_(trained(run.network).values(), settings.clip)
    if not math.isfinite(float(total["loss"] + total["gradient"])):
        raise UsageError(f"the loss is no number any more at step {run.step + 1}: use another folder, a lower rate")
    run.optimiser.step()
    run.optimiser.zero_grad()
    return total


def _compare(run: _Run, measured: Measured, guard: Guard, record: Record) -> None:
    """Keep the adapter if it is the best so far."""
    run.stale += 1
    if preferable(means(measured), means(run.best.measured), means(run.first), guard):
        run.best, run.stale = Kept(run.step, measured, state_of(run.network)), 0
    record.write(run.step, {**_held_out(measured), "best": run.best.step})


def _held_out(measured: Measured) -> dict[str, float]:
    return {f"held-out/{name}": value for name, value in means(measured).items()}
