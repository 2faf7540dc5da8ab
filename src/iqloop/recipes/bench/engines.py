"""``iqloop bench engines``: what scoring through Ray costs, with one worker, beside the same work in this process.

Both score the same files in turn, part by part, so that whatever else the machine does falls on both. What starting
takes (Ray, a worker, a critic) is left out: a rate is that of all batches after the first.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    import pyarrow

    from iqloop.recipes.scale.work import Work


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    images: int
    side: int
    batch_size: int
    local_per_second: float
    ray_per_second: float
    ratio: float
    """Ray's throughput by the local one."""
    ratios: tuple[float, ...]
    """Of each part."""
    local_worker_ms: float
    """Milliseconds per image within batches: reading and the critic."""
    ray_worker_ms: float
    ray_first_row_seconds: float
    """From the beginning of the first part to its first rows: Ray, a worker and its critic start."""
    read_ms: float
    """Milliseconds to read and decode an image."""
    difference: float
    """The largest between two scores of one file."""
    bytes_per_row: float
    """Of a part file."""


@dataclass
class Timed:
    """What came of the files of one engine, and when."""

    scores: dict[str, float] = field(default_factory=dict)
    tables: list[pyarrow.Table] = field(default_factory=list)
    seconds: float = 0.0
    """After the first batch."""
    counted: int = 0
    """Rows of that time."""
    worker: float = 0.0
    """Seconds within batches."""
    first: float = 0.0
    """Until the first rows."""

    def take(self, tables: Iterator[pyarrow.Table]) -> float:
        """Run through the tables of a part; its rows per second."""
        began = time.perf_counter()
        opening: float | None = None
        counted, now = 0, began
        for table in tables:
            now = time.perf_counter()
            self.tables.append(table)
            self.scores.update(zip(table["key"].to_pylist(), table["score"].to_pylist(), strict=True))
            if opening is None:
                opening = now
                continue
            counted += len(table)
            self.worker += sum(table["seconds"].to_pylist())
        assert opening is not None
        self.first = self.first or opening - began
        self.seconds += now - opening
        self.counted += counted
        return counted / (now - opening)


def measure(work: Work, folder: Path, side: int, parts: int) -> Figures:
    """Score the images of a folder, at least two batches for each part, here and by Ray."""
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.scale.cluster import work_by_ray
    from iqloop.recipes.scale.listing import find
    from iqloop.recipes.scale.local import work_here
    from iqloop.recipes.scale.options import Spread
    from iqloop.recipes.scale.session import running

    listing = find([str(folder)])
    spread = Spread("ray", workers=1)
    here, there, ratios = Timed(), Timed(), []
    began = time.perf_counter()
    with running(work.choice.device, len(listing.keys), spread):
        starting = time.perf_counter() - began
        for part in range(parts):
            piece = listing.only(listing.keys[part::parts])
            local = here.take(work_here(work, piece, _unheard))
            ratios.append(there.take(work_by_ray(work, piece, spread, _unheard)) / local)
    began = time.perf_counter()
    for source in gather([str(folder)]):
        source.read()
    reading = time.perf_counter() - began
    local, ray = here.counted / here.seconds, there.counted / there.seconds
    return Figures(
        images=len(listing.keys),
        side=side,
        batch_size=work.batch,
        local_per_second=local,
        ray_per_second=ray,
        ratio=ray / local,
        ratios=tuple(ratios),
        local_worker_ms=1000 * here.worker / here.counted,
        ray_worker_ms=1000 * there.worker / there.counted,
        ray_first_row_seconds=starting + there.first,
        read_ms=1000 * reading / len(listing.keys),
        difference=max(abs(here.scores[key] - there.scores[key]) for key in listing.keys),
        bytes_per_row=_bytes_per_row(here.tables, folder.parent),
    )


def _unheard(text: str) -> None:
    """Notices are for people who wait for their images."""


def _bytes_per_row(tables: Sequence[pyarrow.Table], folder: Path) -> float:
    """Of one part: what a file has once is shared out."""
    from iqloop.recipes.scale.sink import Sink

    sink = Sink(folder / "rows.parquet", tables[0].schema, {}, part_rows=10**9)
    sink.begin(resume=False, overwrite=False)
    for table in tables:
        sink.add(table)
    sink.flush()
    return sum(part.stat().st_size for part in sink.folder.glob("part-*")) / sum(map(len, tables))


def page(found: Figures, critic: str, machine: str) -> str:
    """The figures in Markdown."""
    rows = [
        ("here, one process", f"{found.local_per_second:.2f} images/s"),
        ("Ray, one worker", f"{found.ray_per_second:.2f} images/s"),
        ("Ray / here", f"{found.ratio:.3f} (parts {min(found.ratios):.3f} to {max(found.ratios):.3f})"),
        ("within batches", f"here {found.local_worker_ms:.1f} ms an image, Ray {found.ray_worker_ms:.1f} ms"),
        ("share of the time at work", f"here {_busy(found, ray=False):.3f}, Ray {_busy(found, ray=True):.3f}"),
        ("of a batch reading and decoding", f"{found.read_ms:.1f} ms an image"),
        ("until Ray's first rows", f"{found.ray_first_row_seconds:.1f} s"),
        ("largest difference of two scores", f"{found.difference:.2g}"),
        ("a row in a part", f"{found.bytes_per_row:.0f} bytes"),
    ]
    head = f"{critic}; {found.images} JPEGs of {found.side} x {found.side} pixels, batches of {found.batch_size}"
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"{head}\n\n{machine}\n\n{table}\n"


def _busy(found: Figures, ray: bool) -> float:
    """Of the time, the share within batches: what is not is the engine's own, however fast the machine is just now."""
    if ray:
        return found.ray_per_second * found.ray_worker_ms / 1000
    return found.local_per_second * found.local_worker_ms / 1000


@click.command("engines")
@click.option("--images", type=click.IntRange(2), default=1000, show_default=True, help="Files.")
@click.option("--side", type=click.IntRange(56), default=512, show_default=True, help="Of them, in pixels.")
@click.option("--parts", type=click.IntRange(1), default=5, show_default=True, help="In which both take turns.")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the page, and FILE.json."
)
@options.ask_critic()
@options.talk
def command(
    images: int, side: int, parts: int, out: Path | None, choice: options.CriticChoice, console: Console
) -> int:
    """What scoring through Ray costs: throughput with one worker and one thread, beside this process.

    Also what a row takes on disk, how much of an image's time is reading it, and whether the scores agree.
    """
    from iqloop.recipes.bench.critic import machine
    from iqloop.recipes.bench.files import make_files
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.tools import check_outputs
    from iqloop.recipes.scale.work import Work

    check_outputs(out, None)
    work = Work("score", choice, threads=1)
    if images < 2 * parts * work.batch:
        raise click.UsageError(f"{parts} parts of at least two batches need {2 * parts * work.batch} images")
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        for name, data in make_files(images, side, choice.seed):
            (photos / name).write_bytes(data)
        found = measure(work, photos, side, parts)
    where = machine(("torch", "ray"))
    text = page(found, choice.name, where)
    document = {**asdict(found), "critic": choice.name, "machine": where}
    console.fields(document)
    for line in text.splitlines():
        console.line(line)
    if out is not None:
        write_page(out, text, document)
    return failures.DONE
