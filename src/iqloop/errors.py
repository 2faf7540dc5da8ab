"""Every error that iqloop raises on purpose.

    IqloopError
    ├── ImageError           an image cannot be read or written; carries ``path``
    │   ├── ImageReadError
    │   └── ImageWriteError
    ├── UsageError           an argument or option is wrong: says what was expected and what came
    ├── PrerequisiteError    something must be installed or fetched first: says the command
    ├── ToolError            a restoration tool does not fit the image, or failed on it
    └── CriticError          a critic cannot do what was asked of it

The message is one sentence or two: what was expected, what came, what to do next. The command line prints
it without a traceback and maps it to an exit code (1 for a failed file, 2 for usage and prerequisites).
"""

from __future__ import annotations

from pathlib import Path


class IqloopError(Exception):
    """Base of all errors raised on purpose; catch this one to catch them all."""


class ImageError(IqloopError):
    """An image cannot be read or written."""

    def __init__(self, path: str | Path | None, reason: str) -> None:
        self.path = None if path is None else str(path)
        """The file, or None for an image that came as bytes or an array."""
        self.reason = reason
        """What is wrong and what to do, without the file's name."""
        super().__init__(reason if self.path is None else f"{self.path}: {reason}")


class ImageReadError(ImageError):
    """The file is missing, empty, truncated, too large or not an image that is understood."""


class ImageWriteError(ImageError):
    """The output exists, its folder cannot be written, the disk is full or the format cannot hold the image."""


class UsageError(IqloopError):
    """An argument is wrong."""


class PrerequisiteError(IqloopError):
    """Something is missing; the message ends with the command that mends it."""


class ToolError(IqloopError):
    """A tool does not fit the image or the model file, or it failed."""


class CriticError(IqloopError):
    """A critic was asked for something it cannot do, or its checkpoint is not usable."""


def missing_extra(package: str, extra: str, note: str = "") -> PrerequisiteError:
    """The error for an optional package that is not installed, with the pip line."""
    tail = f" {note}" if note else ""
    return PrerequisiteError(f"{package} is not installed: run  pip install 'iqloop[{extra}]'{tail}")
