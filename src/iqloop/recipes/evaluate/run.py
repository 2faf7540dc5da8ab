"""The folder of one evaluation: its configuration, every answer as it comes, figures and plots; it can be resumed.

config.json         what was asked of whom, on which data, with which versions, on which machine
predictions.jsonl   one line per question, flushed: ``key`` and what was answered
summary.json        the figures
*.png               the plots
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from iqloop.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iqloop.critic.protocol import Critic

Command = TypeVar("Command", bound=Callable[..., Any])

ABOUT = "about"
"""The part of a configuration that may differ when a run is resumed: machine and versions."""


def kept(command: Command) -> Command:
    """``--output --resume``, handed over as ``out`` and ``resume``."""
    out = click.option(
        "-o",
        "--output",
        "out",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Keep answers, configuration, figures and plots here.",
    )
    resume = click.option("--resume", is_flag=True, help="Go on with the interrupted run in the folder of -o.")
    return out(resume(command))


class Run:
    """One evaluation under way. Without a folder nothing is written and nothing can be resumed."""

    def __init__(self, folder: Path | None, config: Mapping[str, Any], resume: bool = False) -> None:
        """Open the folder.

        Args:
            folder: where to write; made if it is not there.
            config: what decides the answers, as JSON types; machine and versions are added under `ABOUT`.
            resume: take over the answers that are there already.

        Raises `UsageError` when the folder holds a run and ``resume`` was not asked for, when there is nothing that
        could be resumed, and when the run there was asked something else.
        """
        self.folder = folder
        self.finished: dict[str, dict[str, Any]] = {}
        """What is answered, by key: the fields of its line."""
        self._lines: Path | None = None
        asked: dict[str, Any] = json.loads(json.dumps({**config, ABOUT: about()}))
        if folder is None:
            if resume:
                raise UsageError("nothing to resume: --resume goes with -o FOLDER, the folder of the interrupted run")
            return
        lines, saved = folder / "predictions.jsonl", folder / "config.json"
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: expected a folder after -o")
        if saved.exists():
            if not resume:
                raise UsageError(f"{folder} holds a run already: add --resume to go on with it, or name another folder")
            _check_same(_read_config(saved), asked, folder)
            self.finished = _recover(lines)
        elif folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds other files: name an empty or a new folder")
        else:
            from iqloop.io import write_bytes_atomic

            folder.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(saved, json.dumps(asked, indent=2).encode())
        self._lines = lines

    def keep(self, key: str, **fields: Any) -> None:
        """Remember an answer; on disk before this returns."""
        self.finished[key] = fields
        if self._lines is not None:
            with self._lines.open("a") as file:
                file.write(json.dumps({"key": key, **fields}, allow_nan=False) + "\n")

    def finish(self, summary: Mapping[str, Any], plots: Mapping[str, Figure] | None = None) -> None:
        """Write the figures, and each plot under its name."""
        if self.folder is None:
            return
        from iqloop.io import write_bytes_atomic

        text = json.dumps(summary, indent=2, allow_nan=False)
        write_bytes_atomic(self.folder / "summary.json", text.encode(), overwrite=True)
        for name, figure in (plots or {}).items():
            figure.savefig(self.folder / f"{name}.png", dpi=150)


def identity(critic: Critic) -> dict[str, Any]:
    """What of a critic decides its answers."""
    manner = {name: getattr(critic, name, None) for name in ("decoding", "seed")}
    told = {name: value for name, value in manner.items() if value is not None}
    return {"name": critic.name, "version": critic.version, **told}


def digest(path: Path) -> str:
    """SHA-256 of a file, to tell one table from another; raises `UsageError` for one that cannot be read."""
    import hashlib

    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def about() -> dict[str, Any]:
    """Machine and versions."""
    from iqloop.recipes.doctor import version_of

    packages = ("iqloop", "torch", "transformers", "numpy", "scipy", "pillow", "matplotlib")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: version_of(name) for name in packages},
    }


def _read_config(saved: Path) -> dict[str, Any]:
    try:
        config = json.loads(saved.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{saved}: cannot be read ({error}): name another folder") from error
    return config if isinstance(config, dict) else {}


def _check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    differing = sorted(key for key in before.keys() | now.keys() if key != ABOUT and before.get(key) != now.get(key))
    if differing:
        shown = ", ".join(f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in differing)
        raise UsageError(f"{folder} holds a run of something else ({shown}): name another folder")


def _recover(lines: Path) -> dict[str, dict[str, Any]]:
    """The answers of an interrupted run; a last line that was cut off is dropped from the file as well."""
    if not lines.exists():
        return {}
    finished: dict[str, dict[str, Any]] = {}
    text = lines.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            fields = json.loads(line)
            finished[fields.pop("key")] = fields
        except (ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{lines}, line {number}: expected an answer as JSON: remove the line") from error
    if whole != text:
        with lines.open("r+b") as handle:
            handle.truncate(len(whole))
    return finished
