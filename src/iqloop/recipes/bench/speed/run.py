"""How much ``iqloop bench all`` measures, and the measuring, part by part."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import iqloop
from iqloop.recipes.bench import critic as bench_critic
from iqloop.recipes.bench.critic import test_images
from iqloop.recipes.bench.speed import against_loop, against_metrics, against_nets, folder, growth, start_up
from iqloop.recipes.bench.speed import agent as agent_speed
from iqloop.recipes.bench.speed import memory as memory_growth
from iqloop.recipes.bench.speed import ranking as ranking_speed
from iqloop.recipes.bench.speed.figures import Curve, Part, Report, Target
from iqloop.recipes.bench.speed.memory import Job
from iqloop.recipes.loading import tool_device

if TYPE_CHECKING:
    from iqloop.critic.engine import QwenCritic
    from iqloop.distort.image import Bytes
    from iqloop.recipes.options import CriticChoice

HELP_LIMIT, FIRST_SCORE_LIMIT, SCORES_LIMIT = 0.5, 6.0, 12.0
"""Seconds, seconds, and images of `TARGET_SIDE` a second."""
TARGET_SIDE = 512


@dataclass(frozen=True)
class Extent:
    """How much is measured. Sides are in pixels, images square."""

    rounds: int = 5
    batch: int = 8
    """Images of a score where it is not their number that grows."""
    mode_side: int = 448
    metric_sides: tuple[int, ...] = (256, TARGET_SIDE)
    metric_images: int = 2
    tool_side: int = 512
    agent_sides: tuple[int, ...] = (256, 512, 1024)
    agent_rounds: int = 3
    """At most: one round takes longer than those of the other parts."""
    ranked: tuple[int, ...] = (4, 8, 16)
    rank_side: int = 224
    file_side: int = TARGET_SIDE
    """Of what a fresh process scores."""
    files: int = 1000
    """In the folder that it scores; with as many rounds as the loop."""
    sides: tuple[int, ...] = (224, 352, TARGET_SIDE, 768, 1024)
    counts: tuple[int, ...] = (1, 4, 16, 64)
    count_side: int = 224
    jobs: tuple[Job, ...] = (
        Job("score", "side", (224, TARGET_SIDE, 1024), 8),
        Job("score", "count", (16, 64), TARGET_SIDE),
        Job(growth.NET, "side", (224, TARGET_SIDE, 1024), 1),
        Job("restore", "side", (224, TARGET_SIDE, 1024), 1),
    )
    """Processes whose memory is looked at."""


FULL = Extent()
QUICK = Extent(
    rounds=1,
    batch=2,
    mode_side=64,
    metric_sides=(64,),
    metric_images=1,
    tool_side=64,
    agent_sides=(64, 96),
    agent_rounds=1,
    ranked=(4,),
    rank_side=64,
    file_side=64,
    files=3,
    sides=(64, 128),
    counts=(1, 4),
    count_side=64,
    jobs=(Job("score", "count", (1, 4), 64),),
)


@dataclass(frozen=True)
class Setting:
    """What every part is measured with."""

    critic: QwenCritic
    choice: CriticChoice
    extent: Extent
    threads: int

    @property
    def device(self) -> str:
        """Where nets run."""
        return tool_device(self.choice.device)


Found = tuple[list[Part], list[Curve]]


def measure(choice: CriticChoice, extent: Extent, threads: int, done: Callable[[str], object]) -> Report:
    """Everything; ``done`` is told the name of each part.

    Raises `iqloop.errors.UsageError` for a critic that is no checkpoint.
    """
    critic = bench_critic.load(choice)
    setting = Setting(critic, choice, extent, threads)
    parts: list[Part] = []
    curves: list[Curve] = []
    for name, run in PARTS.items():
        more, grown = run(setting)
        parts += more
        curves += grown
        done(name)
    precision = str(critic.checkpoint.model.dtype).removeprefix("torch.")
    about = (
        f"Critic: {critic.name}, {precision}. {threads} threads. {extent.rounds} rounds, of the loop "
        f"{min(extent.rounds, extent.agent_rounds)}. Images: scikit-image's photographs, resized."
    )
    return Report(about, _machine(), targets(parts), tuple(parts), tuple(curves))


def targets(parts: list[Part]) -> tuple[Target, ...]:
    """What was promised, beside what the parts say of it."""
    times = {row.name: row.seconds for part in parts for row in part.rows if row.seconds is not None}
    told = {
        name: None if name not in times else times[name].median for name in (start_up.HELP, start_up.SCORE, folder.ALL)
    }
    an_image = told[folder.ALL]
    pace = None if an_image is None else 1 / an_image
    return (
        Target("iqloop --help", told[start_up.HELP], HELP_LIMIT, "s"),
        Target("first score of a fresh process", told[start_up.SCORE], FIRST_SCORE_LIMIT, "s"),
        Target("scores of a folder, start included", pace, SCORES_LIMIT, "images/s", at_most=False),
    )


def _modes(setting: Setting) -> Found:
    extent = setting.extent
    images = test_images(extent.mode_side, extent.batch)
    return [against_loop.measure(setting.critic, images, extent.rounds)], []


def _metrics(setting: Setting) -> Found:
    extent = setting.extent
    return [
        against_metrics.measure(setting.critic, test_images(side, extent.metric_images), extent.rounds, setting.device)
        for side in extent.metric_sides
    ], []


def _tools(setting: Setting) -> Found:
    extent = setting.extent
    return against_nets.measure(_photograph(extent.tool_side), extent.rounds, setting.device), []


def _agent(setting: Setting) -> Found:
    extent = setting.extent
    rounds = min(extent.rounds, extent.agent_rounds)
    part, curve = agent_speed.measure(setting.critic, extent.agent_sides, rounds, setting.device)
    return [part], [curve]


def _ranking(setting: Setting) -> Found:
    extent = setting.extent
    photograph = _photograph(extent.rank_side)
    return [ranking_speed.measure(setting.critic, photograph, extent.ranked, extent.rounds)], []


def _start_up(setting: Setting) -> Found:
    import cv2

    extent = setting.extent
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.png")
        cv2.imwrite(str(photo), _photograph(extent.file_side)[..., ::-1])
        return [start_up.measure(setting.choice, photo, extent.file_side, extent.rounds, setting.threads)], []


def _folder(setting: Setting) -> Found:
    extent = setting.extent
    rounds = min(extent.rounds, extent.agent_rounds)
    return [folder.measure(setting.choice, extent.file_side, extent.files, rounds, setting.threads)], []


def _memory(setting: Setting) -> Found:
    part, curves = memory_growth.measure(setting.choice, setting.extent.jobs, setting.threads)
    return [part], curves


def _growth(setting: Setting) -> Found:
    extent = setting.extent
    sides = growth.by_side(setting.critic, extent.sides, extent.batch, extent.rounds, setting.device)
    count = growth.by_count(setting.critic, extent.counts, extent.count_side, extent.rounds)
    return [], [*sides, count]


PARTS: Mapping[str, Callable[[Setting], Found]] = {
    "modes": _modes,
    "metrics": _metrics,
    "tools": _tools,
    "the loop": _agent,
    "ranking": _ranking,
    "start-up": _start_up,
    "a folder": _folder,
    "memory": _memory,
    "growth": _growth,
}
"""What is measured, in order."""


def _photograph(side: int) -> Bytes:
    """The first of scikit-image's, ``(side, side, 3)`` uint8 RGB."""
    pixels: Bytes = np.rint(test_images(side, 1)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return pixels


def _machine() -> str:
    """Processor, cores, device and versions in one line."""
    import cv2

    packages = ["torch", "transformers", "spandrel", "scikit-image"]
    try:
        version("pyiqa")
        packages.append("pyiqa")
    except PackageNotFoundError:
        pass
    found = bench_critic.machine(packages)
    return f"{found}, OpenCV {cv2.__version__}, Python {platform.python_version()}, iqloop {iqloop.__version__}"
