"""Train one small restoration net: seeded, resumable to the same weights, measured on held-out photographs.

A run's folder holds ``settings.json`` (what it is), ``log.jsonl`` and ``runs/`` (its figures, for people and for
TensorBoard), ``validation.png`` (clean, input, output), ``last.pt`` (all that is needed to go on) and, at its end,
``final.safetensors``: the moving average of the weights, a model file for `iqloop.restorers.load_tool`.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import iqloop
from iqloop.errors import UsageError
from iqloop.restorers.checksum import file_sha256
from iqloop.restorers.receptive import receptive_radius
from iqloop.restorers.training.damage import Bytes
from iqloop.restorers.training.export import Precision, export
from iqloop.restorers.training.guard import Keeper
from iqloop.restorers.training.guidance import Guidance, guided_step
from iqloop.restorers.training.learner import Learner, Loss, rate_at, read_checkpoint
from iqloop.restorers.training.nets import Sizes, build_net, kind_of, load_weights, multiple_of, sizes_of
from iqloop.restorers.training.record import Record, Say, begin
from iqloop.restorers.training.stream import Batch, Patches, side_of, stream
from iqloop.restorers.training.tasks import Task
from iqloop.restorers.training.validation import checks, figures, strip

SMALLEST_PATCH = 16
MIDDLE = 32
"""Input pixels of a held-out photograph that must be left when the margins are cut off."""


@dataclass(frozen=True)
class RestorerSettings:
    """Hyper-parameters of a run. Raises `UsageError` when one is out of range."""

    steps: int = 20_000
    batch: int = 16
    patch: int | None = None
    """Side of the input patches in pixels; None takes the task's."""
    rate: float | None = None
    """Peak learning rate; None takes the net's."""
    warmup: float = 0.02
    """Fraction of the steps in which the rate rises linearly; then it falls as a cosine (`rate_at`)."""
    weight_decay: float = 1e-4
    """Of convolution weights only."""
    loss: Loss = "charbonnier"
    """``charbonnier`` is a mean absolute error that is smooth below a quarter of a grey level; ``l1`` is not."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is measured and exported; less in the first steps."""
    clip: float = 0.5
    """Largest norm of a step's gradient."""
    bf16: bool = False
    """Autocast the training's forward; weights, average and validation stay float32. Nearly twice as fast on a CPU with
    ``avx512_bf16`` or ``amx_bf16``."""
    channels_last: bool = True
    """Memory layout of the net; up to a fifth faster on a CPU."""
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    validate_every: int = 500
    validate_on: int = 8
    """Held-out photographs that are measured."""
    validate_side: int = 256
    """Side of their middles that are measured, in pixels of the clean image."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "log_every", "save_every", "validate_every", "validate_on", "validate_side")
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patch is not None and self.patch < SMALLEST_PATCH:
            raise UsageError(f"patch must be at least {SMALLEST_PATCH} pixels, got {self.patch}")
        for name in ("rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise UsageError(f"{name} must be positive, got {value}")
        if not 0 <= self.ema < 1 or not 0 <= self.warmup < 1 or not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                f"expected ema and warmup in [0, 1) and weight_decay of at least 0, got {self.ema}, {self.warmup} "
                f"and {self.weight_decay}"
            )
        if self.loss not in ("charbonnier", "l1"):
            raise UsageError(f"unknown loss {self.loss!r}: expected charbonnier or l1")


def train_restorer(
    task: Task,
    net: str,
    photographs: Sequence[Bytes],
    held_out: Sequence[Bytes],
    settings: RestorerSettings,
    folder: Path,
    say: Say = lambda line: None,
    *,
    sizes: Sizes | None = None,
    source: Path | None = None,
    data: str = "",
    licence: str = "unknown",
    precision: Precision = "float16",
    workers: int = 0,
    device: str | torch.device = "cpu",
    guidance: Guidance | None = None,
) -> dict[str, float]:
    """Train a net for a task; started again with the same arguments it goes on from the folder's last checkpoint.

    A run that was interrupted ends with the same weights as an unbroken one: on a CPU with the same number of threads
    to the bit (tested), elsewhere as far as the machine's arithmetic repeats itself.

    Args:
        task: what is learned (`iqloop.restorers.training.tasks.TASKS`).
        net: which architecture (`iqloop.restorers.training.nets.NETS`).
        photographs: clean, ``(H, W, 3)`` uint8 RGB, large enough for a patch (`side_of`).
        held_out: the same, never trained on.
        settings: how.
        folder: the run's.
        say: told one line for each row of the log.
        sizes: of the net, those that differ from its own.
        source: a model file of the same net to start from; None starts from random weights.
        data: name of the data, for the metadata.
        licence: of the weights, an SPDX identifier, for the metadata: `iqloop tools` shows it.
        precision: of ``final.safetensors``.
        workers: processes that make the patches; 0 makes them in this one. The batches are the same.
        device: where the net is trained.
        guidance: a reward beside the distance to the clean photographs; None trains as if there were no such thing.

    Returns:
        The figures of the final weights on the held-out photographs (`validation.figures`); with a guard these are the
        best weights, not the last ones.

    Raises:
        UsageError: something does not fit, or the folder holds another run, before the first step; or the loss is no
            number any more.
        ToolError: the file to start from cannot be read.
    """
    patch = settings.patch or task.patch
    check_patch(net, sizes, patch)
    check_photographs(task, patch, photographs, held_out)
    model, rate = build_net(net, task.scale, sizes, settings.seed), settings.rate or kind_of(net).rate
    if source is not None:
        load_weights(model, source)
    said = {"task": task.name, "net": net, "sizes": sizes_of(net, sizes), **asdict(settings), "patch": patch}
    said |= {
        "rate": rate,
        "photographs": fingerprint(photographs),
        "source": None if source is None else hashed(source),
    }
    keeper = None if guidance is None or guidance.guard is None else Keeper(guidance.guard)
    guided = {} if guidance is None else guidance.said()
    if keeper is not None:
        # What decides which weights are kept is no free setting here.
        on = [settings.validate_every, settings.validate_on, settings.validate_side, fingerprint(held_out)]
        guided["chosen_on"] = on
    said |= guided
    begin(folder, said)
    state = read_checkpoint(folder / "last.pt") if (folder / "last.pt").is_file() else None
    start, place = state["step"] if state else 0, torch.device(device)
    if state is not None and keeper is not None:
        keeper.resume(state["kept"])
    end = start if keeper is not None and keeper.stopped else settings.steps
    patches = Patches(task, photographs, patch, settings.batch, end, settings.seed, start)
    batches = stream(patches, workers, pin=place.type == "cuda")
    learner = Learner(model, settings.weight_decay, place, settings.channels_last)
    if state is not None:
        learner.resume(state)
    test = checks(task, held_out, settings.validate_side, settings.validate_on)
    record = Record(folder, start, settings.steps, say)
    clock = time.monotonic()
    rows: list[dict[str, torch.Tensor]] = []
    result: dict[str, float] = {}
    judges = None if guidance is None else guidance.judges
    try:
        if keeper is not None and not keeper.first:
            keeper.look(0, figures(learner.average, test, judges), learner.average)
            record.write(0, keeper.first)
            learner.save(folder / "last.pt", 0, keeper.state())
        for done, batch in enumerate(batches, start=start + 1):
            now = rate * rate_at(done - 1, settings.steps, settings.warmup)
            # At first the average would be little else than the weights that training began with.
            decay = min(settings.ema, done / (done + 9))
            rows.append(_advance(learner, batch, settings, guidance, done - 1, now, decay))
            due = {name for name in DUE if done % getattr(settings, name) == 0 or done == settings.steps}
            if due:
                means = {name: float(torch.stack([row[name] for row in rows]).mean()) for name in rows[0]}
                if not math.isfinite(means["loss"] + means["gradient"]):
                    raise UsageError(f"the loss is no number any more at step {done}: use another folder, a lower rate")
            if "log_every" in due:
                seconds = round(time.monotonic() - clock, 1)
                record.write(done, {**means, "rate": now, "seconds": seconds})
                rows.clear()
            if "validate_every" in due:
                result = figures(learner.average, test, judges)
                if keeper is not None:
                    keeper.look(done, result, learner.average)
                record.write(done, result if keeper is None else {**result, "best": keeper.best.step})
                record.picture(done, strip(learner.average, test))
            stopped = keeper is not None and keeper.stopped
            if "save_every" in due or stopped:
                learner.save(folder / "last.pt", done, None if keeper is None else keeper.state())
            if stopped:
                break
    finally:
        record.close()
    if keeper is not None:
        learner.average.load_state_dict(keeper.best.weights)
        result, guided["kept_step"] = keeper.best.figures, keeper.best.step
    # Nothing was left to do where a finished run is started again: its file is written once more, and the same.
    result = result or figures(learner.average, test, judges)
    metadata = _metadata(learner.average, task, said, data, licence, result)
    if guided:
        metadata["guidance"] = json.dumps(guided)
    export(learner.average, folder / "final.safetensors", metadata, precision)
    return result


def _advance(
    learner: Learner,
    batch: Batch,
    settings: RestorerSettings,
    guidance: Guidance | None,
    step: int,
    rate: float,
    decay: float,
) -> dict[str, torch.Tensor]:
    """One step, and what is logged of it."""
    if guidance is None:
        loss, norm = learner.step(batch, rate, settings.loss, settings.bf16, settings.clip, decay)
        return {"loss": loss, "gradient": norm}
    return guided_step(
        learner,
        batch,
        guidance,
        step,
        rate=rate,
        loss=settings.loss,
        bf16=settings.bf16,
        clip=settings.clip,
        average_decay=decay,
    )


DUE = ("log_every", "validate_every", "save_every")
"""What is done every so many steps, and at the end."""


def check_patch(net: str, sizes: Sizes | None, patch: int) -> None:
    """Raise `UsageError` unless a net halves patches of this side without a rest."""
    multiple = multiple_of(net, sizes)
    if patch % multiple:
        raise UsageError(f"patch must be a multiple of {multiple} for {net} of these sizes, got {patch}")


def check_photographs(task: Task, patch: int, photographs: Sequence[Bytes], held_out: Sequence[Bytes]) -> None:
    """Raise `UsageError` unless there are photographs, and all are large enough for a patch."""
    for what, images, side in (
        ("photograph", photographs, side_of(task, patch)),
        ("held-out photograph", held_out, side_of(task, MIDDLE)),
    ):
        if not images:
            raise UsageError(f"expected at least one {what}")
        shortest = min(min(image.shape[:2]) for image in images)
        if shortest < side:
            raise UsageError(
                f"a {what} has {shortest} pixels on its short side; {task.name} needs {side} (patch {patch})"
            )


def fingerprint(images: Sequence[Bytes]) -> str:
    """Count and checksum of images, in their order."""
    total = 0
    for image in images:
        total = zlib.crc32(np.ascontiguousarray(image).data, zlib.crc32(str(image.shape).encode(), total))
    return f"{len(images)}:{total:08x}"


def hashed(file: Path) -> str:
    """The beginning of a file's SHA-256."""
    return file_sha256(file)[:16]


def _metadata(
    net: nn.Module, task: Task, said: Mapping[str, Any], data: str, licence: str, result: Mapping[str, float]
) -> dict[str, str]:
    """What the final file says of itself: texts, and no path of this machine."""
    view = task.view if kind_of(said["net"]).pools else None
    return {
        "format": "pt",
        "iqloop": iqloop.__version__,
        "task": task.name,
        "treats": "+".join(task.treats),
        "radius": str(receptive_radius(net, multiple=multiple_of(said["net"], said["sizes"]), pooled=view is None)),
        "view": str(view),
        "scale": str(task.scale),
        "data": Path(data).name,
        "licence": licence,
        "figures": json.dumps({name: round(value, 3) for name, value in result.items()}),
        **{name: str(said[name]) for name in ("net", "steps", "seed", "batch", "patch")},
        "sizes": json.dumps(said["sizes"]),
    }
