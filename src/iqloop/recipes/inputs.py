"""The images that a command was given: files, folders, or one image on standard input; read one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from iqloop.errors import ImageReadError, PrerequisiteError, UsageError
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.io import Photo

Verdict = TypeVar("Verdict")

STREAM = "-"
CALL_BATCHES = 4
"""Batches that are handed over at once: a small critic works on several side by side, and idles where a call ends.
`iqloop.critic.engine` takes as many at a time."""
CALL_MEGAPIXELS = 48.0
"""What is handed over at once ends early with this many megapixels: 48 are 0.6 GB as float32."""


@dataclass(frozen=True)
class Input:
    """One image to work on."""

    shown: str
    """How it is named in every message: the path as given or found, ``-`` for standard input."""
    path: Path | None
    """None for standard input."""
    relative: Path
    """The name below the folder that was given, or the file's own name."""
    root: Path | None
    """The folder that was given; None for a file that was named itself."""

    def read(self) -> Photo:
        """The photo; raises `iqloop.errors.ImageReadError`."""
        from iqloop.io import read

        return read(self.bytes() if self.path is None else self.path)

    def bytes(self) -> bytes:
        """The file as it is; standard input can be read once only."""
        from iqloop.io.files import read_bytes

        return sys.stdin.buffer.read() if self.path is None else read_bytes(self.path)


@dataclass(frozen=True)
class Filter:
    """Which of the files in folders are meant; a file that was named itself always is."""

    include: tuple[str, ...] = ()
    """Globs for the path below the named folder (`iqloop.io.find.matches`); none means everything."""
    ignore: tuple[str, ...] = ()
    """Globs of files to leave out."""


def gather(
    named: Sequence[str], stream: bool = False, chosen: Filter | None = None, out: Path | None = None
) -> list[Input]:
    """What ``named`` stands for, each file once; ``stream`` allows ``-``. ``out`` is a folder for outputs, which is not
    searched where it lies below a named folder.

    Raises `UsageError` for a folder without images, and for ``-`` where it cannot be.
    """
    from iqloop.io import find_images

    if STREAM in named:
        if not stream:
            raise UsageError("standard input (-) is not read by this command: name a file")
        if len(named) > 1:
            raise UsageError("standard input (-) holds one image and cannot be mixed with files")
        return [Input(STREAM, None, Path("stdin"), None)]
    folders = [Path(name) for name in named if Path(name).is_dir()]
    chosen = chosen or Filter()
    found = find_images(named, include=chosen.include, ignore=chosen.ignore, skip=out)
    return [
        Input(str(image.path), image.path, image.relative, image.root if image.root in folders else None)
        for image in found
    ]


def first_frame(photo: Photo, source: Input, console: Console) -> Tensor:
    """The pixels, with a notice when there are more frames than the first."""
    if photo.frames > 1:
        console.notice(f"{source.shown}: has {photo.frames} frames, the first one is used")
    return photo.pixels


def ask_in_batches(
    sources: Iterable[Input],
    ask: Callable[[list[Tensor]], Sequence[Verdict]],
    batch_size: int,
    console: Console,
) -> Iterator[tuple[Input, Verdict | Exception]]:
    """Put a question about every image, in order; an image that failed comes with its exception.

    Only what is handed over at once is in memory. When that fails (memory, a strange image), its images are asked about
    one by one, so that only the culprit is lost.
    """
    batch: list[tuple[Input, Tensor | Exception]] = []
    megapixels = 0.0
    for source in sources:
        try:
            photo = source.read()
            megapixels += photo.megapixels
            batch.append((source, first_frame(photo, source, console)))
        except Exception as error:
            batch.append((source, error))
        if len(batch) >= CALL_BATCHES * batch_size or megapixels >= CALL_MEGAPIXELS:
            yield from _ask(batch, ask)
            batch, megapixels = [], 0.0
    yield from _ask(batch, ask)


def _ask(
    batch: Sequence[tuple[Input, Tensor | Exception]], ask: Callable[[list[Tensor]], Sequence[Verdict]]
) -> Iterator[tuple[Input, Verdict | Exception]]:
    images = [image for _, image in batch if not isinstance(image, Exception)]
    answers: list[Verdict | Exception] = []
    if images:
        try:
            answers.extend(ask(images))
        except PrerequisiteError:
            raise
        except Exception as error:
            answers = [error] if len(images) == 1 else [_ask_one(ask, image) for image in images]
    waiting = iter(answers)
    for source, image in batch:
        yield source, image if isinstance(image, Exception) else next(waiting)


def _ask_one(ask: Callable[[list[Tensor]], Sequence[Verdict]], image: Tensor) -> Verdict | Exception:
    try:
        return ask([image])[0]
    except Exception as error:
        return error


def refuse_animation(photo: Photo, shown: str | None) -> None:
    """Raise for an image of several frames, of which all but the first would be lost."""
    if photo.frames > 1:
        reason = f"has {photo.frames} frames: animations and multi-page files are not restored, save one frame first"
        raise ImageReadError(shown, reason)
