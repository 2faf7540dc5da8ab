"""The part of ``iqloop bench all`` about memory: the peak of a process that does one kind of thing, on more and more.

A process begins with the smallest and reads its peak after each size, which is then that of the largest so far.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from iqloop.recipes.bench.speed.figures import By, Curve, Part, Row, curve
from iqloop.recipes.bench.speed.start_up import run

if TYPE_CHECKING:
    from iqloop.recipes.options import CriticChoice


@dataclass(frozen=True)
class Job:
    """What one process does."""

    task: str
    """``score``, `iqloop.recipes.bench.speed.growth.NET`, or ``restore``."""
    by: By
    sizes: tuple[int, ...]
    """Sides or numbers of images, two at least, growing."""
    other: int
    """The number of images where sides grow, the side where their number does."""

    @property
    def name(self) -> str:
        """How it is told."""
        fixed = f"{self.other} px" if self.by == "count" else f"{self.other} image{'s' * (self.other > 1)}"
        return f"{self.task}, {fixed}"


def measure(choice: CriticChoice, jobs: Sequence[Job], threads: int) -> tuple[Part, list[Curve]]:
    """Peaks in MB of a process for each job: resident set on a CPU, allocated memory on a GPU."""
    rows, curves = [], []
    for job in jobs:
        task = json.dumps({"choice": asdict(choice), "job": asdict(job), "threads": threads})
        loaded, *peaks = json.loads(run(["-m", "iqloop.recipes.bench.speed.memory"], threads, task))
        least, most = (f"{size} {'px' if job.by == 'side' else 'images'}" for size in (job.sizes[0], job.sizes[-1]))
        facts = {
            "loaded, MB": round(loaded),
            "from": least,
            "peak, MB": round(peaks[0]),
            "to": most,
            "peak there, MB": round(peaks[-1]),
            "ratio": round(peaks[-1] / peaks[0], 2),
        }
        rows.append(Row(job.name, facts=facts))
        curves.append(curve(job.name, job.by, "peak MB", {s: [one] for s, one in zip(job.sizes, peaks, strict=True)}))
    part = Part(
        "Memory",
        "Peak of a process that loads what it needs and does nothing else; one run each.",
        "",
        1,
        tuple(rows),
    )
    return part, curves


def _measure_own_peaks() -> None:
    """The child's work: a job on standard input, on standard output the peaks after loading and after each size."""
    from iqloop.recipes.bench.tools import use_threads
    from iqloop.recipes.options import CriticChoice

    given = json.load(sys.stdin)
    use_threads(given["threads"])
    choice = CriticChoice(**{**given["choice"], "more": tuple(given["choice"]["more"])})
    job = Job(**given["job"])
    task = _task(job.task, choice)
    peaks = [_peak()]
    for size in job.sizes:
        side, count = (size, job.other) if job.by == "side" else (job.other, size)
        task(side, count)
        peaks.append(_peak())
    sys.stdout.write(json.dumps(peaks))


def _task(name: str, choice: CriticChoice) -> Callable[[int, int], object]:
    """What is done for a side and a number of images; what it needs is loaded here, and nothing else."""
    from iqloop.recipes.bench.critic import test_images
    from iqloop.recipes.bench.speed.agent import noisy
    from iqloop.recipes.bench.speed.growth import NET
    from iqloop.recipes.loading import load_critic, tool_device
    from iqloop.restorers.registry import Registry, builtin_entries

    if name == "score":
        critic = load_critic(choice)
        return lambda side, count: critic.score(test_images(side, count))
    registry = Registry(builtin_entries(tool_device(choice.device)))
    if name == NET:
        net = registry.get(NET)
        return lambda side, count: [net.restore(noisy(side)[None]) for _ in range(count)]
    from iqloop.agents import restore

    critic = load_critic(choice)
    return lambda side, count: [restore(noisy(side), critic, registry).trace for _ in range(count)]


def _peak() -> float:
    """Of this process, in MB."""
    import torch

    from iqloop.recipes.bench.critic import peak_resident

    # Without a GPU in use nothing is allocated there.
    return torch.cuda.max_memory_allocated() / 2**20 or peak_resident()


if __name__ == "__main__":
    _measure_own_peaks()
