"""Published label files, read as they are: what people said of images.

    deqa         Data-DeQA-Score: JSON list of ``image``, ``gt_score_norm`` in [1, 5] or ``gt_score``, ``std``
    r1-jsonl     VisualQuality-R1's training lines: ``image`` (a list of one), ``dataset_name``, the score as GPT's turn
    r1-text      VisualQuality-R1's test labels, blanks between: ``[reference] image score [std]``
    csv          a table with a header: columns ``file`` and ``mos`` or ``mos_1_5``, and what `COLUMNS` names
    degradation  Q-Insight: JSON list of ``image``, ``distortion_class``, ``severity``
    comparison   Q-Insight: JSON list of ``ref_image``, ``ImageA``, ``ImageB``, ``result``

JSON may be a list or one object per line. The format is found by the content, not by the file's name. Every problem is
a `UsageError` that names the file, the row, what was expected and what is there.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args

from iqloop.critic.verdicts import CLASSES, SEVERITIES, Choice, DistortionClass, Severity
from iqloop.errors import UsageError

Format = Literal["deqa", "r1-jsonl", "r1-text", "csv", "degradation", "comparison"]
"""How a label file is written."""
FORMATS: tuple[Format, ...] = get_args(Format)
RATINGS: tuple[Format, ...] = ("csv", "deqa", "r1-jsonl", "r1-text")
"""Formats that say how good an image is."""

Field = Literal["file", "mos", "std", "reference", "group", "scene", "method", "subset"]
COLUMNS: dict[Field, tuple[str, ...]] = {
    "file": ("file", "image", "image_path", "image_name", "img", "path", "dis_img_path", "dist", "filename"),
    "mos": ("mos_1_5", "mos", "score", "dmos"),
    "std": ("std_1_5", "std", "mos_std"),
    "reference": ("reference", "ref", "ref_image", "ref_img_path"),
    "group": ("group", "dataset", "dataset_name", "dis_type"),
    "scene": ("scene",),
    "method": ("method", "model"),
    "subset": ("subset",),
}
"""What a CSV's columns may be called, the most wanted name first; case does not matter."""
ONE_TO_FIVE = (1.0, 5.0)
"""The scale of normalised labels: ``gt_score_norm``, ``mos_1_5`` and VisualQuality-R1's training lines."""
_CHOICES: dict[str, Choice] = {"image a": "A", "image b": "B", "a": "A", "b": "B", "similar": "similar"}

T = TypeVar("T")


@dataclass(frozen=True)
class Rated:
    """One image and how good people find it."""

    image: str
    """As the file names it, relative to the images' folder."""
    mos: float
    """Mean opinion on the file's scale and in its direction."""
    row: int
    """Where it stands: the number of the line, or of the entry of a JSON list, from 1."""
    std: float | None = None
    """Standard deviation of the opinions, on the same scale."""
    reference: str | None = None
    """The undistorted or the degraded original, where the file names one."""
    group: str | None = None
    """Data set or kind of distortion."""
    scene: str | None = None
    """Images of the same scene show the same thing."""
    method: str | None = None
    """Which method made it."""
    subset: str | None = None
    """``"regression"``, ``"generative"`` or whatever the table calls the methods."""


@dataclass(frozen=True)
class Ratings:
    """A file of ratings."""

    rows: tuple[Rated, ...]
    format: Format
    scale: tuple[float, float] | None
    """Lowest and highest possible opinion; None when the file does not say."""


@dataclass(frozen=True)
class Degraded:
    """One image and what is wrong with it."""

    image: str
    distortion_class: DistortionClass
    severity: Severity
    """``"null"`` exactly when the class is ``"null"``."""
    row: int


@dataclass(frozen=True)
class Compared:
    """Two images and which one is better."""

    a: str
    b: str
    result: Choice
    reference: str | None
    """Their degraded input."""
    row: int


def detect(path: Path) -> Format:
    """The format of a label file, by its first row. Raises `UsageError` when it is none of `FORMATS`."""
    text = _text(path)
    if text.lstrip()[:1] in ("[", "{"):
        row = _json_rows(path, text)[0][1]
        if "ImageA" in row and "ImageB" in row:
            return "comparison"
        if "distortion_class" in row:
            return "degradation"
        if "gt_score" in row or "gt_score_norm" in row:
            return "deqa"
        if "conversations" in row:
            return "r1-jsonl"
        expected = "ImageA and ImageB, distortion_class, gt_score, or conversations"
        _fail(path, 1, f"expected one of the keys {expected}", f"the keys {', '.join(row) or 'none'}")
    first = text.lstrip().splitlines()[0]
    if any(mark in first for mark in ",;\t") or _header(first.split()) is not None:
        return "csv"
    words = first.split()
    if len(words) > 1 and _number(words[-1]) is not None:
        return "r1-text"
    _fail(path, 1, "expected JSON, a CSV with columns file and mos, or lines such as 'image.png 3.5'", repr(first[:80]))


def read_ratings(path: Path, format: Format | None = None, column: str | None = None) -> Ratings:
    """Read mean opinions.

    Where a file has them twice the ones on [1, 5] are taken (``mos_1_5``, ``gt_score_norm``), the scale that critics
    answer on.

    Args:
        path: the file.
        format: one of `RATINGS`; None finds it out.
        column: the CSV column or JSON key of the opinion, instead of the usual names.

    Raises:
        UsageError: with the file, the row, what was expected and what is there.
    """
    found = format or detect(path)
    if found not in RATINGS:
        raise UsageError(f"{path}: expected mean opinions ({', '.join(RATINGS)}), got {found} labels")
    if column is not None and found.startswith("r1"):
        raise UsageError(f"{path}: the format {found} has no named columns, so that none can be chosen ({column})")
    text = _text(path)
    if found == "csv":
        return _csv(path, text, column)
    if found == "r1-text":
        lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        return Ratings(tuple(_words(path, i, words) for i, words in lines), found, None)
    rows = _json_rows(path, text)
    if found == "r1-jsonl":
        return Ratings(tuple(_conversation(path, i, row) for i, row in rows), found, ONE_TO_FIVE)
    key = column or ("gt_score_norm" if "gt_score_norm" in rows[0][1] else "gt_score")
    scale = ONE_TO_FIVE if key == "gt_score_norm" else None
    return Ratings(tuple(_deqa(path, i, row, key) for i, row in rows), found, scale)


def read_degradations(path: Path) -> list[Degraded]:
    """Read Q-Insight's degradation labels; JSON null and ``"null"`` mean the same. Raises `UsageError`."""
    return _labels(path, "degradation", _degraded)


def read_comparisons(path: Path) -> list[Compared]:
    """Read Q-Insight's comparison labels. Raises `UsageError`."""
    return _labels(path, "comparison", _compared)


# -- ratings -----------------------------------------------------------------------------------------------------------


def root_of(table: Path, names: Iterable[str], images: Path | None = None) -> Path:
    """The folder that the names start from.

    It is the same for all names. Without ``images`` it is the table's folder, or the one above (which a link to the
    table's folder does not change) if the first name that is in either of them is there.

    Raises `UsageError` for a folder that is not there.
    """
    if images is not None:
        if not images.is_dir():
            raise UsageError(f"{images}: expected the folder of the images")
        return images
    beside, above = table.parent, table.parent.resolve().parent
    for name in names:
        for root in (beside, above):
            if (root / name).is_file():
                return root
    return beside


def _csv(path: Path, text: str, column: str | None) -> Ratings:
    first = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=first.count) if any(mark in first for mark in ",;\t") else " "
    reader = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter, skipinitialspace=True)
    names = [name.strip() for name in next(reader)]
    places = _header(names, column)
    if places is None:
        wanted = column or " or ".join(COLUMNS["mos"])
        _fail(path, 1, f"expected the columns file (or image) and {wanted}", ", ".join(names))
    normalised = names[places["mos"]].casefold() == "mos_1_5"
    if "std" in places and (names[places["std"]].casefold() == "std_1_5") != normalised:
        del places["std"]  # it belongs to opinions on another scale
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        row = reader.line_num
        if len(cells) != len(names):
            _fail(path, row, f"expected {len(names)} cells as in the header", f"{len(cells)}")
        said = {field: cells[place].strip() for field, place in places.items()}
        rows.append(_rated(path, row, said))
    if not rows:
        _fail(path, 2, "expected a row for each image", "none")
    return Ratings(tuple(rows), "csv", ONE_TO_FIVE if normalised else None)


def _header(names: Sequence[str], column: str | None = None) -> dict[Field, int] | None:
    """Which column holds which field; None when the image or its opinion has no column."""
    folded = [name.strip().casefold() for name in names]
    wanted: dict[Field, tuple[str, ...]] = dict(COLUMNS) if column is None else {**COLUMNS, "mos": (column.casefold(),)}
    places: dict[Field, int] = {}
    for field, aliases in wanted.items():
        found = [folded.index(alias) for alias in aliases if alias in folded]
        if found:
            places[field] = found[0]
    return places if "file" in places and "mos" in places else None


def _rated(path: Path, row: int, said: Mapping[Field, str]) -> Rated:
    if not said["file"]:
        _fail(path, row, "expected the name of an image", "nothing")
    return Rated(
        said["file"],
        _opinion(path, row, said["mos"]),
        row,
        _opinion(path, row, said["std"]) if said.get("std") else None,
        said.get("reference") or None,
        said.get("group") or None,
        said.get("scene") or None,
        said.get("method") or None,
        said.get("subset") or None,
    )


def _words(path: Path, row: int, words: Sequence[str]) -> Rated:
    """``image score``, ``image score std``, ``reference image score`` or ``reference image score std``."""
    numbers = [_number(word) for word in words]
    names = next((i for i, number in enumerate(numbers) if number is not None and i > 0), len(words))
    layout = (names, len(words) - names)
    if layout not in ((1, 1), (1, 2), (2, 1), (2, 2)) or None in numbers[names:]:
        _fail(path, row, "expected '[reference] image score [std]'", repr(" ".join(words)[:80]))
    std = words[names + 1] if layout[1] == 2 else None
    return Rated(
        words[names - 1],
        _opinion(path, row, words[names]),
        row,
        None if std is None else _opinion(path, row, std),
        words[0] if names == 2 else None,
    )


def _conversation(path: Path, row: int, said: Mapping[str, Any]) -> Rated:
    image = said.get("image")
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    turns = said.get("conversations")
    scores = [turn.get("value") for turn in turns if turn.get("from") == "gpt"] if isinstance(turns, list) else []
    if not isinstance(image, str) or not image:
        _fail(path, row, "expected the name of one image under 'image'", repr(said.get("image")))
    if not scores:
        _fail(path, row, "expected a turn of 'gpt' with the score under 'conversations'", repr(turns)[:80])
    group = said.get("dataset_name")
    return Rated(image, _opinion(path, row, scores[0]), row, group=group if isinstance(group, str) else None)


def _deqa(path: Path, row: int, said: Mapping[str, Any], key: str) -> Rated:
    image = _name(path, row, said, "image")
    if key not in said:
        _fail(path, row, f"expected the key {key!r}", f"the keys {', '.join(said)}")
    std = said.get("std_norm" if key == "gt_score_norm" else "std")
    return Rated(
        image,
        _opinion(path, row, said[key]),
        row,
        None if std is None else _opinion(path, row, std),
        group=_first(image),
    )


def _first(image: str) -> str | None:
    """DeQA's images are named from the data set on: ``KONIQ/images/1.jpg``."""
    return image.split("/")[0] if "/" in image else None


# -- Q-Insight ---------------------------------------------------------------------------------------------------------


def _labels(path: Path, wanted: Format, make: Callable[[Path, int, Mapping[str, Any]], T]) -> list[T]:
    found = detect(path)
    if found != wanted:
        raise UsageError(f"{path}: expected {wanted} labels (JSON), got the format {found}")
    return [make(path, i, row) for i, row in _json_rows(path, _text(path))]


def _degraded(path: Path, row: int, said: Mapping[str, Any]) -> Degraded:
    kind = _label(said.get("distortion_class"))
    severity = _label(said.get("severity"))
    if kind not in CLASSES:
        _fail(path, row, f"expected a distortion_class of {', '.join(CLASSES)}", repr(said.get("distortion_class")))
    if kind == "null" and severity != "null":
        _fail(path, row, "expected the severity null with the class null", repr(said.get("severity")))
    if kind != "null" and severity not in SEVERITIES:
        _fail(path, row, f"expected a severity of {', '.join(SEVERITIES)}", repr(said.get("severity")))
    return Degraded(_name(path, row, said, "image"), kind, severity, row)  # type: ignore[arg-type]  # checked above


def _label(value: object) -> object:
    return "null" if value is None else value.strip().casefold() if isinstance(value, str) else value


def _compared(path: Path, row: int, said: Mapping[str, Any]) -> Compared:
    result = said.get("result")
    choice = _CHOICES.get(result.strip().casefold()) if isinstance(result, str) else None
    if choice is None:
        _fail(path, row, "expected the result 'Image A', 'Image B' or 'Similar'", repr(result))
    reference = said.get("ref_image")
    if reference is not None and not isinstance(reference, str):
        _fail(path, row, "expected the name of an image under 'ref_image'", repr(reference))
    return Compared(_name(path, row, said, "ImageA"), _name(path, row, said, "ImageB"), choice, reference or None, row)


# -- shared ------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): expected a file of labels") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected a text file of labels, got other bytes at {error.start}") from error
    if not text.strip():
        raise UsageError(f"{path}: expected labels, got an empty file")
    return text


def _json_rows(path: Path, text: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The entries of a JSON list, or of JSON Lines, with their numbers."""
    if text.lstrip()[0] == "[":
        found = _json(path, None, text)
        rows = list(enumerate(found, 1))
    else:
        rows = [(i, _json(path, i, line)) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        raise UsageError(f"{path}: expected labels, got an empty list")
    for i, row in rows:
        if not isinstance(row, dict):
            _fail(path, i, "expected a JSON object", repr(row)[:80])
    return rows


def _json(path: Path, row: int | None, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        where = f"{path}" if row is None else f"{path}, row {row}"
        raise UsageError(f"{where}: expected JSON, which this is not ({error})") from error


def _name(path: Path, row: int, said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str) or not value:
        _fail(path, row, f"expected the name of an image under {key!r}", repr(value))
    return value


def _opinion(path: Path, row: int, value: object) -> float:
    number = _number(value)
    if number is None:
        _fail(path, row, "expected a finite number", repr(value))
    return number


def _number(value: object) -> float | None:
    """A finite number, or a text that is one; None otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _fail(path: Path, row: int, expected: str, got: str) -> NoReturn:
    raise UsageError(f"{path}, row {row}: {expected}, got {got}")
