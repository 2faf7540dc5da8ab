"""What ``iqloop bench tools`` measures: which photographs or pairs, which tools on which damage, and how it is told.

photographs, find_pairs  what there is to look at, read one by one
choose, plan             which tools, and which of them on which degradation
run                      the rows
report                   the page around the table
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from iqloop.distort.image import Bytes
from iqloop.errors import UsageError
from iqloop.recipes.console import Console
from iqloop.restorers.degradation import Degradation, fits, label, parse, standard_for
from iqloop.restorers.measure import Plan, Row, markdown, measure_pairs, measure_plan

if TYPE_CHECKING:
    from iqloop.restorers.registry import Registry
    from iqloop.restorers.tool import ToolInfo, Treatment

OWN = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs that ship with scikit-image, when no folder is given."""
DAMAGED, CLEAN = "noisy", "clean"
"""The two folders of a folder of pairs; a pair is two images of one name, whatever their formats."""
LEGEND = (
    "gain: PSNR in dB over the damaged input, for bicubic over Pillow's enlargement of it; worst: the smallest gain of "
    "a photograph; worse: photographs that lost; s/MP: seconds per output megapixel. For clean, where nothing can be "
    "gained, worst is the smallest PSNR; 60 is untouched."
)

Item = TypeVar("Item")
Reader = Callable[[], Bytes]
"""Gives one photograph, ``(H, W, 3)`` uint8 RGB, when it is needed."""


@dataclass(frozen=True)
class Wanted:
    """What a command line asks for."""

    photos: Path | None = None
    """Folder of clean photographs; None for scikit-image's."""
    pairs: Path | None = None
    """Folder of pairs instead."""
    side: int | None = 256
    """Middle pixels taken; None for whole photographs."""
    limit: int | None = None
    """How many photographs at most, the first by name."""
    only: tuple[str, ...] | None = None
    """Names of tools; None for all."""
    treatment: Treatment | None = None
    """Tools for this, whatever the damage."""
    damage: tuple[str, ...] | None = None
    """As `iqloop.restorers.degradation.parse` reads it; None for the standard ones of what the tools treat."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs is not None and (self.photos is not None or self.damage is not None):
            raise UsageError("--pairs brings photographs and damage along: leave out --photos and --damage")
        if self.pairs is not None and self.treatment is None and self.only is None:
            raise UsageError("--pairs needs --treatment, which says what the tools are to mend, or --only")


def photographs(folder: Path | None, limit: int | None = None) -> Sequence[Reader]:
    """The images of a folder and below it, in natural order, or scikit-image's photographs; none is read yet.

    Raises `UsageError` for a folder that is missing or has no images.
    """
    if folder is None:
        return [partial(_own, name) for name in OWN][:limit]
    from iqloop.io import find_images

    if not folder.is_dir():
        raise UsageError(f"{folder} is missing: expected a folder of clean photographs")
    return [partial(read, found.path) for found in find_images([folder])][:limit]


def find_pairs(folder: Path, limit: int | None = None) -> list[tuple[Path, Path]]:
    """Damaged and clean file of every pair, in natural order. Raises `UsageError` when the layout is another."""
    from iqloop.io import find_images

    sides: list[dict[Path, Path]] = []
    for name in (DAMAGED, CLEAN):
        if not (folder / name).is_dir():
            raise UsageError(f"{folder / name} is missing: expected {DAMAGED} and {CLEAN}, with images of equal names")
        named: dict[Path, Path] = {}
        for found in find_images([folder / name]):
            twin = named.setdefault(found.relative.with_suffix(""), found.path)
            if twin != found.path:
                raise UsageError(f"{found.path} and {twin.name}: expected one image of a name, whatever its format")
        sides.append(named)
    damaged, clean = sides
    alone = [*(damaged[name] for name in damaged if name not in clean), *(clean[n] for n in clean if n not in damaged)]
    if alone:
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise UsageError(f"{alone[0]}{more}: expected an image of that name in both {DAMAGED} and {CLEAN}")
    return [(path, clean[name]) for name, path in damaged.items()][:limit]


def check_sizes(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise `UsageError` for a pair of two sizes: before the measurement, which may take hours."""
    for damaged, clean in pairs:
        one, other = read(damaged).shape, read(clean).shape
        if one != other:
            sizes = f"{one[1]} x {one[0]} pixels, {CLEAN} has {other[1]} x {other[0]}"
            raise UsageError(f"{damaged}: {sizes}: expected two images of one size")


def read(path: Path) -> Bytes:
    """An image file, ``(H, W, 3)`` uint8 RGB, upright. Raises `iqloop.errors.ImageReadError`."""
    from iqloop.io import read as read_photo

    pixels: Bytes = np.rint(read_photo(path).pixels.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return pixels


def middle(image: Bytes, side: int | None) -> Bytes:
    """The middle ``side`` x ``side`` pixels, fewer where there are fewer; None for all."""
    if side is None:
        return image
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def choose(registry: Registry, only: Sequence[str] | None, treatment: Treatment | None) -> list[ToolInfo]:
    """The tools that are asked for, as the registry has them in order. Raises `UsageError` if there are none."""
    infos = [registry.info(name) for name in dict.fromkeys(only or registry.names())]
    chosen = [info for info in infos if treatment is None or treatment in info.treats]
    if not chosen:
        raise UsageError(f"none of {', '.join(only or ('the tools',))} treats {treatment}: see  iqloop tools")
    return chosen


def plan(
    infos: Sequence[ToolInfo], damage: Sequence[str] | None, treatment: Treatment | None
) -> list[tuple[Degradation, list[str]]]:
    """Each degradation with the names of the tools that are for it: those of its scale that treat it.

    Args:
        infos: the tools to choose from.
        damage: see `Wanted`.
        treatment: takes the place of what a degradation calls for, so that tools can be measured on what they were
            not made for; None for none.

    Raises:
        UsageError: a degradation does not exist, or no tool is for one that was named.
    """
    named = None if damage is None else list(dict.fromkeys(parse(text) for text in damage))
    found = []
    for one in standard_for(infos, treatment) if named is None else named:
        names = [info.name for info in infos if fits(info, one, treatment)]
        if not names:
            raise UsageError(
                f"{label(one)}: no tool here is for it; --treatment measures those for something else on it"
            )
        found.append((one, names))
    if not found:
        raise UsageError(f"no standard damage fits {', '.join(info.name for info in infos)}: name one with --damage")
    return found


def run(wanted: Wanted, registry: Registry, console: Console) -> list[Row]:
    """Measure; progress goes to the console. Raises `UsageError`, `ToolError` or `ImageReadError`."""
    infos = choose(registry, wanted.only, wanted.treatment)
    if wanted.pairs is not None:
        return _on_pairs(wanted, wanted.pairs, infos, registry, console)
    return _on_photographs(wanted, infos, registry, console)


def report(rows: Sequence[Row], wanted: Wanted, machine: str) -> str:
    """The table in Markdown, below what it was measured on."""
    folder = wanted.pairs or wanted.photos
    what = "photographs" if wanted.pairs is None else "pairs"
    source = "scikit-image" if folder is None else folder.resolve().name
    size = "whole" if wanted.side is None else f"the middle {wanted.side} x {wanted.side}"
    about = f"{rows[0].photographs} {what} of {source}, {size}" + ("" if what == "pairs" else f"; seed {wanted.seed}")
    return "\n\n".join([about, machine, LEGEND, markdown(rows)]) + "\n"


def check_outputs(table: Path | None, picture: Path | None) -> None:
    """Raise `UsageError` or `iqloop.errors.ImageWriteError` for a file that could not be written in the end."""
    from iqloop.recipes.outputs import Target

    for flag, path, suffix in (("-o", table, ".md"), ("--plot", picture, ".png")):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise UsageError(f"{flag} {path}: expected a name that ends in {suffix}")
        Target(path, None).check(overwrite=True)


def use_threads(count: int) -> None:
    """So many CPU threads for nets and for OpenCV."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def write(rows: Sequence[Row], page: str, table: Path | None, picture: Path | None) -> None:
    """The report and the plot, where they are wanted; files that exist are replaced."""
    from iqloop.io import write_bytes_atomic
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.tools_plot import quality_plot

    if table is not None:
        write_page(table, page)
    if picture is not None:
        drawn = io.BytesIO()
        quality_plot(rows).savefig(drawn, format="png", dpi=150)
        write_bytes_atomic(picture, drawn.getvalue(), overwrite=True)


def _on_photographs(wanted: Wanted, infos: Sequence[ToolInfo], registry: Registry, console: Console) -> list[Row]:
    chosen = plan(infos, wanted.damage, wanted.treatment)
    used = {name for _, names in chosen for name in names}
    for info in infos:
        if info.name not in used:
            console.notice(f"{info.name}: left out, no damage here is for it (scale {info.scale})")
    readers = photographs(wanted.photos, wanted.limit)
    loaded: Plan = [(one, [registry.get(name) for name in names]) for one, names in chosen]
    total = len(readers) * sum(len(names) for _, names in chosen)
    with console.progress(total, "measuring") as progress:
        images = (middle(reader(), wanted.side) for reader in _told(readers, "photograph", console))
        return measure_plan(loaded, images, wanted.seed, progress.advance)


def _on_pairs(
    wanted: Wanted, folder: Path, infos: Sequence[ToolInfo], registry: Registry, console: Console
) -> list[Row]:
    tools = [registry.get(info.name) for info in infos if info.scale == 1]
    if not tools:
        raise UsageError("--pairs holds two images of one size: expected tools of scale 1, got none")
    found = find_pairs(folder, wanted.limit)
    check_sizes(found)
    with console.progress(len(found) * len(tools), "measuring") as progress:
        images = (
            (middle(read(damaged), wanted.side), middle(read(clean), wanted.side))
            for damaged, clean in _told(found, "pair", console)
        )
        return measure_pairs(tools, images, wanted.seed, progress.advance)


def _told(items: Sequence[Item], what: str, console: Console) -> Iterator[Item]:
    """The items, each announced with ``--verbose``."""
    for i, item in enumerate(items):
        console.detail(f"{what} {i + 1} of {len(items)}")
        yield item


def _own(name: str) -> Bytes:
    from skimage import data

    return np.asarray(getattr(data, name)())
