"""``iqloop bench serve``: what answering over HTTP costs, beside the same work in one process.

Files are scored here and by a server in turn, part by part, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.recipes import failures, options
from iqloop.recipes.bench.files import File, make_files
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.serve.load import Load

GIGABYTE = 2**30
BOMB_SIDE = 10_000
"""Of a square PNG of one colour: 100 megapixels in 12 kB."""


@dataclass(frozen=True)
class Figures:
    """What was measured; seconds and megabytes."""

    images: int
    side: int
    connections: int
    local_per_second: float
    served_per_second: float
    ratio: float
    """Served by local throughput."""
    ratios: tuple[float, ...]
    """Of each part."""
    local_cpu: float
    """CPU seconds per image."""
    served_cpu: float | None
    """Of the server; None where the system does not tell."""
    wrong: int
    """Answers that differ from the local score by more than 1e-4, or are about another file."""
    failed: int
    burst: int
    """Requests that came at once."""
    burst_p50: float
    burst_p95: float
    burst_p99: float
    burst_per_second: float
    memory_start_mb: float | None
    """After the first images; None where the system does not tell."""
    memory_end_mb: float | None
    memory_refused_mb: float | None
    """After the refusals."""
    bomb_status: int
    bomb_seconds: float
    declared_status: int
    declared_seconds: float
    """Until a gigabyte that was declared was refused."""
    chunked_status: int
    chunked_seconds: float
    """Until a gigabyte without a length was refused."""
    chunked_sent_mb: float
    """What went out of it before that."""


def score_here(files: Sequence[File], critic: Critic, batch_size: int) -> tuple[dict[str, float], float]:
    """Each file's score, and seconds, as ``iqloop score`` goes about it."""
    from iqloop.recipes.inputs import Input
    from iqloop.recipes.score import score_images

    with tempfile.TemporaryDirectory() as folder:
        for name, data in files:
            Path(folder, name).write_bytes(data)
        sources = [Input(name, Path(folder, name), Path(name), None) for name, _ in files]
        began = time.perf_counter()
        found = list(score_images(sources, critic, batch_size, Console(quiet=True)))
        seconds = time.perf_counter() - began
    scores = {}
    for source, rating in found:
        if isinstance(rating, Exception):
            raise rating
        scores[source.shown] = rating.mean
    return scores, seconds


def measure(
    address: str, critic: Critic, files: Sequence[File], side: int, connections: int, burst: int, parts: int, batch: int
) -> Figures:
    """All of it, against a server whose critic is the same."""
    from PIL import Image

    from iqloop.recipes.bench.serve.process import refusal, spent
    from iqloop.recipes.serve.load import Caller, send_all

    warm = files[: 2 * batch]
    scores, _ = score_here(warm, critic, batch)
    send_all(address, warm, connections)
    first = spent(address)
    here, there, here_cpu = 0.0, 0.0, 0.0
    ratios: list[float] = []
    loads: list[Load] = []
    for start in range(parts):
        piece = files[start::parts]
        used = time.process_time()
        known, seconds = score_here(piece, critic, batch)
        here_cpu += time.process_time() - used
        scores |= known
        load = send_all(address, piece, connections, scores)
        here, there = here + seconds, there + load.seconds
        ratios.append(seconds / load.seconds)
        loads.append(load)
    last = spent(address)
    crowd = [files[place % len(files)] for place in range(burst)]
    rush = send_all(address, crowd, burst, scores)
    memory_end = _memory(address)
    target = io.BytesIO()
    Image.new("1", (BOMB_SIDE, BOMB_SIDE)).save(target, "PNG")
    caller = Caller(address)
    began = time.perf_counter()
    bomb, _ = caller.post("/score", target.getvalue())
    bomb_seconds = time.perf_counter() - began
    caller.close()
    declared, declared_seconds, _ = refusal(address, GIGABYTE, declared=True)
    chunked, chunked_seconds, sent = refusal(address, GIGABYTE, declared=False)
    return Figures(
        images=len(files),
        side=side,
        connections=connections,
        local_per_second=len(files) / here,
        served_per_second=len(files) / there,
        ratio=here / there,
        ratios=tuple(ratios),
        local_cpu=here_cpu / len(files),
        served_cpu=None if first is None or last is None else (last[1] - first[1]) / len(files),
        wrong=sum(len(load.wrong) for load in (*loads, rush)),
        failed=sum(len(load.failed) for load in (*loads, rush)),
        burst=burst,
        burst_p50=rush.percentile(0.5),
        burst_p95=rush.percentile(0.95),
        burst_p99=rush.percentile(0.99),
        burst_per_second=rush.throughput,
        memory_start_mb=None if first is None else first[0],
        memory_end_mb=memory_end,
        memory_refused_mb=_memory(address),
        bomb_status=bomb,
        bomb_seconds=bomb_seconds,
        declared_status=declared,
        declared_seconds=declared_seconds,
        chunked_status=chunked,
        chunked_seconds=chunked_seconds,
        chunked_sent_mb=sent / 2**20,
    )


def _memory(address: str) -> float | None:
    from iqloop.recipes.bench.serve.process import spent

    found = spent(address)
    return None if found is None else found[0]


def page(found: Figures, critic: str, machine: str) -> str:
    """The figures in Markdown."""

    rows = [
        ("here, one process", f"{found.local_per_second:.2f} images/s"),
        (f"served, {found.connections} connections", f"{found.served_per_second:.2f} images/s"),
        ("served / here", f"{found.ratio:.3f} (parts {min(found.ratios):.3f} to {max(found.ratios):.3f})"),
        ("CPU per image", f"here {found.local_cpu:.3f} s, the server {_seconds(found.served_cpu)}"),
        ("wrong, failed", f"{found.wrong}, {found.failed}"),
        (
            f"{found.burst} requests at once",
            f"{found.burst_per_second:.2f} images/s; latency p50 {found.burst_p50:.2f} s, p95 {found.burst_p95:.2f} s, "
            f"p99 {found.burst_p99:.2f} s",
        ),
        (
            "memory of the server",
            f"{_megabytes(found.memory_start_mb)} after the first images, {_megabytes(found.memory_end_mb)} after all, "
            f"{_megabytes(found.memory_refused_mb)} after the refusals",
        ),
        ("a PNG of 100 megapixels", f"{found.bomb_status} after {found.bomb_seconds * 1000:.0f} ms"),
        ("1 GB, declared", f"{found.declared_status} after {found.declared_seconds * 1000:.0f} ms"),
        (
            "1 GB, without a length",
            f"{found.chunked_status} after {found.chunked_seconds * 1000:.0f} ms and {found.chunked_sent_mb:.0f} MB",
        ),
    ]
    head = f"{critic}; {found.images} JPEGs of {found.side} x {found.side} pixels, in {len(found.ratios)} parts"
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"{head}\n\n{machine}\n\n{table}\n"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} MB"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


@click.command("serve")
@click.option("--images", type=click.IntRange(1), default=1000, show_default=True, help="Files.")
@click.option("--side", type=click.IntRange(56), default=512, show_default=True, help="Of them, in pixels.")
@click.option("--connections", type=click.IntRange(1), default=16, show_default=True, help="Requests under way.")
@click.option("--burst", type=click.IntRange(1, 250), default=200, show_default=True, help="Requests at once.")
@click.option("--parts", type=click.IntRange(1), default=5, show_default=True, help="In which both take turns.")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the page, and FILE.json."
)
@options.ask_critic()
@options.talk
def command(
    images: int,
    side: int,
    connections: int,
    burst: int,
    parts: int,
    out: Path | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """What answering over HTTP costs: throughput, latency, memory, and how early what is too large is refused.

    Starts `iqloop serve` with the same critic and compares it with `iqloop score` in this process, on the same files,
    in turn.
    """
    from iqloop.recipes.bench.critic import machine
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.serve.process import server
    from iqloop.recipes.bench.tools import check_outputs
    from iqloop.recipes.loading import load_critic

    check_outputs(out, None)
    files = make_files(images, side, choice.seed)
    critic = load_critic(choice)
    # As patient as the burst is long: what is measured is the wait, not its limit.
    with server(choice, ["--timeout", "600"]) as address:
        found = measure(address, critic, files, side, connections, burst, min(parts, images), choice.batch_size)
    where = machine(("torch", "fastapi", "uvicorn"))
    text = page(found, critic.name, where)
    console.fields({**asdict(found), "critic": critic.name, "machine": where})
    for line in text.splitlines():
        console.line(line)
    if out is not None:
        write_page(out, text, {**asdict(found), "critic": critic.name, "machine": where})
    return failures.DONE
