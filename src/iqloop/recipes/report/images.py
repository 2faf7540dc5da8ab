"""The pictures of a report: found beside the trace, checked by hash, and reduced to data URLs.

A trace may come from anyone: an image is used only from the folders searched, and only if it is the one of the run.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.errors import ImageError
from iqloop.recipes.report.json import Part
from iqloop.recipes.restore.jobs import TRACES

if TYPE_CHECKING:
    from PIL.Image import Image

    from iqloop.io import Photo

LARGE, THUMBNAIL = 1100, 240
"""Longest sides in pixels; a thumbnail is drawn at two thirds of it or less, for dense screens."""
DETAIL = (480, 360)
"""Width and height in pixels of the detail that is shown unreduced."""


@dataclass(frozen=True)
class Picture:
    """An image for the page, or why there is none."""

    url: str = ""
    """A ``data:`` URL; empty when there is none."""
    width: int = 0
    height: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Pictures:
    """All that a page shows."""

    before: Picture
    after: Picture
    details: tuple[Picture, Picture] | None
    """The part that changed most, before and after, pixel for pixel; None when the large pictures are that already."""
    thumbnails: dict[str, Picture]
    """By candidate."""


def search_folders(trace: Path, more: Sequence[Path]) -> list[Path]:
    """Where images are looked for: about the trace, in the current folder, and in the folders given."""
    folder = trace.absolute().parent
    about = [folder, *folder.parents[:2]]
    # A trace keeps the place of its image among subfolders: OUT/.iqloop/a/b/c/NAME.json.
    about += [above.parent for above in (folder, *folder.parents) if above.name == TRACES]
    found = dict.fromkeys(one.resolve() for one in (*about, Path.cwd(), *more))
    # The root of the file system would hold every file there is.
    return [one for one in found if one != one.parent]


def find(path: str, sha256: str, folders: Sequence[Path]) -> bytes | str:
    """The bytes of the file ``path`` with that hash below one of ``folders``, or why there are none.

    An empty ``sha256`` takes any file.
    """
    outside, changed = False, False
    for folder in folders:
        try:
            file = (folder / path).resolve()
            if not file.is_relative_to(folder):
                outside = True
                continue
            data = file.read_bytes() if file.is_file() else b""
        except (OSError, ValueError, RuntimeError):  # no permission, a NUL in the name, links in a circle
            continue
        if data and (not sha256 or hashlib.sha256(data).hexdigest() == sha256):
            return data
        changed = changed or bool(data)
    if changed:
        return "changed since"
    return (
        "refused: its path leads out of the folders searched" if outside else "not found: name its folder with --images"
    )


def load(file: Part, folders: Sequence[Path], size: tuple[float | None, float | None]) -> Image | str:
    """The image of a record with ``path`` and ``sha256``, if it has that ``size``, or why there is none."""
    path = file["path"].text()
    if not path:
        return "the trace names no file"
    if not file["sha256"].text():
        return "the trace has no hash of it"
    return _decode(find(path, file["sha256"].text(), folders), size)


def gather(trace: Part, folders: Sequence[Path]) -> Pictures:
    """Everything that is to be had."""
    first, last = trace["input"], trace["output"]
    before, after = _end(trace, first, folders), _end(trace, last, folders)
    same = bool(first["sha256"]) and first["sha256"].text() == last["sha256"].text()
    if same and isinstance(before, str):
        before = after
    ends = {last["candidate"].text(): after, first["candidate"].text(): before}
    thumbnails = {}
    for made in trace["candidates"]:
        image = ends.get(made["id"].text(), "")
        # Reduced at once: all tries of a large photograph would not fit into memory.
        thumbnails[made["id"].text()] = picture(_kept(made, folders) if isinstance(image, str) else image, THUMBNAIL)
    details = None if same or isinstance(before, str) or isinstance(after, str) else detail_pair(before, after)
    return Pictures(picture(before, LARGE), picture(after, LARGE), details, thumbnails)


def picture(image: Image | str, side: int) -> Picture:
    """The image with its longest side reduced to ``side``; a text is the reason for having none."""
    if isinstance(image, str):
        return Picture(reason=image)
    from PIL.Image import Resampling

    small = image.copy()
    small.thumbnail((side, side), Resampling.LANCZOS, reducing_gap=3)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=90, optimize=True, icc_profile=image.info.get("icc_profile"))
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}", *small.size)


def as_image(photo: Photo) -> Image:
    """Eight bits of sRGB, or of the file's own colour profile; what is transparent is white."""
    from PIL import Image

    pixels = photo.pixels if photo.alpha is None else photo.pixels * photo.alpha + (1 - photo.alpha)
    image = Image.fromarray(pixels.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy())
    if photo.icc is not None and photo.icc[16:20] == b"RGB ":
        image.info["icc_profile"] = photo.icc
    return image


def detail_pair(before: Image, after: Image) -> tuple[Picture, Picture] | None:
    """The part of the two images that differs most, unreduced; None when the large pictures show all pixels anyway.

    A smaller image is enlarged to the other's size by bicubic interpolation.
    """
    import numpy as np
    from PIL.Image import Resampling

    if max(after.size) <= LARGE:
        return None
    if before.size != after.size:
        profile = before.info.get("icc_profile")
        before = before.resize(after.size, Resampling.BICUBIC)
        before.info["icc_profile"] = profile
    width, height = min(DETAIL[0], after.width), min(DETAIL[1], after.height)
    columns, rows = after.width // width, after.height // height
    # One pixel per place where the detail may lie.
    box = (0, 0, columns * width, rows * height)
    one, other = (
        np.asarray(image.resize((columns * 16, rows * 16), Resampling.NEAREST, box=box), dtype=np.float32)
        for image in (before, after)
    )
    change = np.abs(one - other).reshape(rows, 16, columns, 16, 3).mean(axis=(1, 3, 4))
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    left, top = int(column) * width, int(row) * height
    pair = [image.crop((left, top, left + width, top + height)) for image in (before, after)]
    for cut, image in zip(pair, (before, after), strict=True):
        cut.info["icc_profile"] = image.info.get("icc_profile")
    return picture(pair[0], max(DETAIL)), picture(pair[1], max(DETAIL))


def _end(trace: Part, file: Part, folders: Sequence[Path]) -> Image | str:
    """The input or the output: from its file, or as it was kept among the candidates."""
    image = load(file, folders, _size(file))
    if isinstance(image, str):
        for made in trace["candidates"]:
            if made["id"].text() == file["candidate"].text():
                kept = _kept(made, folders)
                return image if isinstance(kept, str) else kept
    return image


def _kept(made: Part, folders: Sequence[Path]) -> Image | str:
    """A candidate's image. Its ``sha256`` is that of exact pixels, which no file of 8 bits can have."""
    path = made["path"].text()
    if not path:
        return "not kept: run with --keep-steps"
    return _decode(find(path, made["file_sha256"].text(), folders), _size(made))


def _size(image: Part) -> tuple[float | None, float | None]:
    return image["width"].number(), image["height"].number()


def _decode(data: bytes | str, size: tuple[float | None, float | None]) -> Image | str:
    """The image of that ``size`` in a file's bytes, or why there is none."""
    from iqloop.io import read

    if isinstance(data, str):
        return data
    try:
        photo = read(data)
    except ImageError:
        return "cannot be read as an image"
    if (photo.width, photo.height) != size:
        return "changed since: it has another size"
    return as_image(photo)
