"""What a pipeline is trained to draw: photographs made small, or prompts; some of both held out."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from iqloop.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.restorers.diffusion.held_out import HeldOut
    from iqloop.restorers.diffusion.models import Given, TextToImage
    from iqloop.restorers.training.damage import Bytes

Item = TypeVar("Item")
CHOSEN_BY, REPORTED = 8, 24
"""Held-out images by which an adapter is chosen; and others, at most so many, that the final table is of."""
APART = 1
"""Added to the seed for the inputs that pairs are drawn for, so that they are not those of the steps."""


@dataclass(frozen=True)
class Inputs:
    """Functions of a number, the same whenever they are asked, and what was held out."""

    batch: Callable[[int], Given]
    """What is known of the images of a step."""
    one: Callable[[int], Given]
    """What is known of the candidates of one pair."""
    chosen_by: HeldOut
    reported: HeldOut
    """Others than ``chosen_by``, unless there are too few."""
    fingerprint: str
    """Changes with the photographs or prompts."""
    summary: str


def photographs(
    data: Path,
    more: Sequence[Path],
    scale: int,
    patch: int,
    batch: int,
    side: int,
    chosen_by: int,
    seed: int,
    notice: Callable[[str], object],
) -> Inputs:
    """Patches of clean photographs, made small, for super-resolution.

    Args:
        data: folder with ``photos/train`` and ``photos/val``.
        more: other folders to train on.
        scale: output over input size.
        patch: side of the small patches in pixels.
        batch: patches of a step.
        side: of the middles of held-out photographs, in pixels of the clean image.
        chosen_by: of those, how many choose the adapter.
        seed: of the patches and of the noise on held-out ones.
        notice: told which photographs are too small.

    Raises `UsageError` for folders without photographs that are large enough.
    """
    from iqloop.restorers.diffusion.draft import ORIGINAL
    from iqloop.restorers.diffusion.held_out import HeldOut
    from iqloop.restorers.training.stream import Patches, load_photographs, side_of, to_tensor
    from iqloop.restorers.training.tasks import task_named
    from iqloop.restorers.training.train import MIDDLE, fingerprint
    from iqloop.restorers.training.validation import checks

    task = task_named(f"upscale-x{scale}")
    train, small = load_photographs([data / "photos/train", *more], side_of(task, patch))
    held_out, small_too = load_photographs([data / "photos/val"], side_of(task, MIDDLE))
    for file in (*small, *small_too):
        notice(f"{file}: too small, left out")

    def patches(count: int, seed: int, number: int) -> dict[str, Tensor]:
        drawn = Patches(task, train, patch, count, number + 1, seed).batch(number)
        return {"image": drawn.given.float() / 127.5 - 1, ORIGINAL: drawn.target.float() / 255}

    def candidates(number: int) -> Given:
        return {"image": patches(1, seed + APART, number)["image"]}

    check = checks(task, held_out, side, chosen_by + REPORTED)[0]

    def held(pairs: Sequence[tuple[Bytes, Bytes]]) -> HeldOut:
        given = tuple({"image": to_tensor([small]).float() / 127.5 - 1} for small, _ in pairs)
        return HeldOut(given, tuple(clean for _, clean in pairs), seed)

    first, rest = split(check.pairs(), chosen_by)
    return Inputs(
        lambda step: patches(batch, seed, step),
        candidates,
        held(first),
        held(rest),
        f"{fingerprint(train)}/{fingerprint(held_out)}",
        f"{len(train)} photographs, {len(held_out)} held out",
    )


def prompts(file: Path, held_out: Path | None, model: TextToImage, batch: int, chosen_by: int, seed: int) -> Inputs:
    """Lines of a text file, for text to image.

    Args:
        file: one prompt a line; empty lines are left out.
        held_out: the same, never trained on; None holds the last tenth of ``file`` back.
        model: embeds them.
        batch: prompts of a step.
        chosen_by: held-out prompts that choose the adapter.
        seed: of their order and of the noise on held-out ones.

    Raises `UsageError` for a file that cannot be read or has too few.
    """
    from iqloop.restorers.diffusion.held_out import HeldOut
    from iqloop.restorers.diffusion.preference import chosen_of

    train = lines(file)
    if held_out is None:
        count = max(1, len(train) // 10)
        train, kept = train[:-count], train[-count:]
    else:
        kept = lines(held_out)
    if not train or not kept:
        raise UsageError(f"{held_out or file}: expected a prompt to train on and one to hold out, a line each")
    texts = tuple(train)
    first, rest = split([model.embed([text]) for text in kept[: chosen_by + REPORTED]], chosen_by)
    whole = "\n".join([*texts, "", *kept]).encode()
    return Inputs(
        lambda step: model.embed([texts[i] for i in chosen_of(len(texts), batch, step, seed)]),
        lambda number: model.embed([texts[number % len(texts)]]),
        HeldOut(tuple(first), seed=seed),
        HeldOut(tuple(rest), seed=seed),
        f"{len(texts)}/{len(kept)}:{zlib.crc32(whole):08x}",
        f"{len(texts)} prompts, {len(kept)} held out",
    )


def lines(file: Path) -> list[str]:
    """The lines of a file that hold something. Raises `UsageError`."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: expected a text file with a prompt a line ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def split(held_out: Sequence[Item], chosen_by: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """Those that choose the adapter, and the others; the same again where others are none."""
    first, rest = held_out[:chosen_by], held_out[chosen_by:]
    return first, rest or first
