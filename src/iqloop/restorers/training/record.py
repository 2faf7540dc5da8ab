"""What a run leaves behind besides weights: ``log.jsonl``, TensorBoard, a picture, and what it was begun as."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from iqloop.errors import UsageError
from iqloop.io import write_bytes_atomic
from iqloop.restorers.training.damage import Bytes

Say = Callable[[str], None]
FREE = ("save_every", "validate_every", "log_every", "validate_on", "validate_side")
"""Settings that may differ when a run goes on: none of them changes a weight."""


def begin(folder: Path, said: Mapping[str, Any]) -> None:
    """Write what a run is into ``folder/settings.json``, or check that it is the one that was begun there.

    Raises:
        UsageError: the folder holds another run, or files of something else.
    """
    file, ours = folder / "settings.json", json.loads(json.dumps(said))
    if file.is_file():
        try:
            before = json.loads(file.read_text())
        except ValueError as error:
            raise UsageError(f"{file}: cannot be read ({error}): start in another folder") from error
        known = before if isinstance(before, dict) else {}
        # Of both: what a run was begun with and is not given any more has changed too.
        other = [key for key in {**ours, **known} if key not in FREE and known.get(key) != ours.get(key)]
        if other:
            changes = ", ".join(f"{key} was {known.get(key)}, is {ours.get(key)}" for key in other)
            raise UsageError(f"{folder} holds a run with other settings ({changes}): start in another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: expected an empty folder, or one of a run that was begun by this command")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}): choose another folder") from error
    write_bytes_atomic(file, (json.dumps(ours, indent=2) + "\n").encode())


class Record:
    """Figures of a run, from its step ``start`` on: to ``log.jsonl``, to TensorBoard where it is installed, and said.

    What an earlier, interrupted run logged after the checkpoint that is gone on from, is dropped: each step is once in
    the log.
    """

    def __init__(self, folder: Path, start: int, steps: int, say: Say) -> None:
        self.folder, self.steps, self.say = folder, steps, say
        self.log = folder / "log.jsonl"
        if self.log.is_file():
            kept = [line for line in self.log.read_text().splitlines() if _step_of(line) <= start]
            write_bytes_atomic(self.log, "".join(line + "\n" for line in kept).encode(), overwrite=True)
        self.board = _board(folder / "runs", start, say)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of a step; told to people as well."""
        with self.log.open("a") as handle:
            handle.write(json.dumps({"step": step, **figures}) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, step)
        self.say(f"step {step}/{self.steps} " + " ".join(f"{key}={value:.4g}" for key, value in figures.items()))

    def picture(self, step: int, image: Bytes) -> None:
        """Keep a picture ``(H, W, 3)`` uint8: the newest as ``validation.png``, all of them in TensorBoard."""
        Image.fromarray(image).save(self.folder / "validation.png")
        if self.board is not None:
            self.board.add_image("clean, input, output", image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        if self.board is not None:
            self.board.close()


def _step_of(line: str) -> float:
    """A logged line's step; a line that was cut off in the middle belongs to none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _board(folder: Path, start: int, say: Say) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("no TensorBoard: pip install 'iqloop[train]' for its figures; log.jsonl has the same")
        return None
    writer: Any = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
    return writer
