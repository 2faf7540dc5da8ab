"""What a critic is trained on: questions about images and what is known of the answer, from any number of label files.

An image that is not there or cannot be read is an error, or a row left out and counted; it is never replaced by another
image under the first one's label, as the published training code does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from iqloop.critic.labels import ONE_TO_FIVE, Rated, Ratings, read_comparisons, read_degradations, read_ratings, root_of
from iqloop.critic.prompts import TaskName
from iqloop.critic.verdicts import Choice, DistortionClass, Severity
from iqloop.errors import UsageError

Missing = Literal["error", "skip"]
"""What to do about a row whose image is missing or unreadable."""


@dataclass(frozen=True)
class Example:
    """One question and what is known of its answer."""

    task: TaskName
    images: tuple[Path, ...]
    """In the order of the prompt: of a comparison, the reference (if there is one), A, B."""
    dataset: str
    """Where the label comes from: opinions are compared inside a data set only."""
    opinion: float | None = None
    """Mean opinion in [1, 5]."""
    distortion_class: DistortionClass | None = None
    severity: Severity | None = None
    choice: Choice | None = None


def read_scores(table: Path, images: Path | None = None) -> list[Example]:
    """Rated images. Opinions on another scale than [1, 5] are stretched to it by the file's lowest and highest one.

    That is how the papers normalise a data set (section 4.1). Raises `UsageError`, for an opinion out of range too.
    """
    ratings = read_ratings(table)
    root = root_of(table, (row.image for row in ratings.rows), images)
    scaled = _one_to_five(table, ratings)
    return [
        Example("score", (root / row.image,), row.group or str(table), opinion=opinion)
        for row, opinion in zip(ratings.rows, scaled, strict=True)
    ]


def _one_to_five(table: Path, ratings: Ratings) -> list[float]:
    if ratings.scale == ONE_TO_FIVE:
        low, high = ONE_TO_FIVE
        for row in ratings.rows:
            if not low <= row.mos <= high:
                raise UsageError(f"{table}, row {row.row}: expected an opinion in [1, 5], got {row.mos:g}")
        return [row.mos for row in ratings.rows]
    found: dict[str | None, list[Rated]] = {}
    for row in ratings.rows:
        found.setdefault(row.group, []).append(row)
    bounds = {group: (min(r.mos for r in rows), max(r.mos for r in rows)) for group, rows in found.items()}
    for group, (low, high) in bounds.items():
        if low == high:
            name = table if group is None else f"{table}, {group}"
            raise UsageError(f"{name}: expected opinions that differ, got {low:g} for all {len(found[group])} images")
    return [
        1 + 4 * (row.mos - bounds[row.group][0]) / (bounds[row.group][1] - bounds[row.group][0]) for row in ratings.rows
    ]


def read_distorted(table: Path, images: Path | None = None) -> list[Example]:
    """Images with one distortion or none. Raises `UsageError`."""
    rows = read_degradations(table)
    root = root_of(table, (row.image for row in rows), images)
    return [
        Example(
            "degradation",
            (root / row.image,),
            str(table),
            distortion_class=row.distortion_class,
            severity=row.severity,
        )
        for row in rows
    ]


def read_pairs(table: Path, images: Path | None = None) -> list[Example]:
    """Pairs of images, with or without their reference. Raises `UsageError`."""
    rows = read_comparisons(table)
    root = root_of(table, (row.a for row in rows), images)
    examples = []
    for row in rows:
        if row.reference is None:
            if row.result == "similar":
                raise UsageError(
                    f"{table}, row {row.row}: the question without a reference knows Image A and Image B only, "
                    "got Similar: name a ref_image, or leave the row out"
                )
            examples.append(Example("compare", (root / row.a, root / row.b), str(table), choice=row.result))
        else:
            paths = (root / row.reference, root / row.a, root / row.b)
            examples.append(Example("compare-reference", paths, str(table), choice=row.result))
    return examples


def balanced(examples: Sequence[Example]) -> list[Example]:
    """Every second comparison with A and B exchanged.

    In the published pairs A is always the output of the weaker setting, so that a position could be learned.
    """
    turned: dict[Choice, Choice] = {"A": "B", "B": "A", "similar": "similar"}
    result, seen = [], 0
    for example in examples:
        if example.choice is not None:
            seen += 1
            if seen % 2 == 0:
                images = (*example.images[:-2], example.images[-1], example.images[-2])
                example = replace(example, images=images, choice=turned[example.choice])
        result.append(example)
    return result


def readable(examples: Sequence[Example], missing: Missing, say: Callable[[str], None]) -> list[Example]:
    """The examples whose images can all be opened.

    Args:
        examples: any.
        missing: ``"error"`` raises for the first one that cannot, ``"skip"`` leaves them out and says how many.
        say: takes a line about what was left out.

    Raises:
        UsageError: an image cannot be opened and ``missing`` is ``"error"``, or nothing is left.
    """
    if missing not in ("error", "skip"):
        raise UsageError(f"missing must be 'error' or 'skip', got {missing!r}")
    trouble: dict[Path, str | None] = {}
    kept, reasons = [], []
    for example in examples:
        for path in example.images:
            if path not in trouble:
                trouble[path] = _trouble(path)
        reason = next((f"{path}: {trouble[path]}" for path in example.images if trouble[path] is not None), None)
        if reason is None:
            kept.append(example)
        elif missing == "error":
            raise UsageError(f"{reason}: mend the labels or the folder, or leave such rows out with --missing skip")
        else:
            reasons.append(reason)
    if reasons:
        say(f"left out {len(reasons)} of {len(examples)} rows; the first: {reasons[0]}")
    if not kept:
        raise UsageError("nothing to train on: expected at least one row whose images can be read")
    return kept


def _trouble(path: Path) -> str | None:
    """What keeps an image from being decoded, if anything does."""
    if not path.is_file():
        return "no such image"
    try:
        with Image.open(path) as image:
            image.draft("RGB", (64, 64))  # a JPEG is decoded at an eighth of its size, whole all the same
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot be read as an image ({type(error).__name__})"
    return None


def load(path: Path) -> Image.Image:
    """An image as RGB. Raises `UsageError` with its name when its pixels cannot be decoded."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: its pixels cannot be decoded ({error})") from error
