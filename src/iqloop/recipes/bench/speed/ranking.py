"""The part of ``iqloop bench all`` about ranking: seconds and comparisons against the number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from iqloop.recipes.bench.rank.command import severities
from iqloop.recipes.bench.rank.critic import SimulatedCritic
from iqloop.recipes.bench.speed.figures import Part, row
from iqloop.recipes.bench.speed.rounds import interleave

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents.ranking import By, Ranking
    from iqloop.critic.protocol import Critic
    from iqloop.distort.image import Bytes

ACCURACY = 0.95
"""Share of all pairs that the simulated critic orders rightly."""


def measure(critic: Critic, photograph: Bytes, counts: Sequence[int], rounds: int) -> Part:
    """Rank versions of a photograph ``(S, S, 3)`` uint8 RGB with more and more noise, so many of them each."""
    from iqloop.agents import rank

    found: dict[str, Ranking] = {}

    def run(name: str, images: Sequence[Tensor], asked: Critic, by: By) -> None:
        found[name] = rank(images, asked, by=by)

    tasks: dict[str, Callable[[], object]] = {}
    bases: dict[str, str] = {}
    for count in counts:
        images = severities(photograph, "noise_gaussian_RGB", count, 0)
        for asked in (critic, SimulatedCritic(images, ACCURACY, 0)):
            ways: tuple[By, ...] = ("score", "hybrid") if asked is critic else ("hybrid",)
            for by in ways:
                name = f"{asked.name}, {by}, {count} images"
                bases[name] = f"{critic.name}, score, {count} images"
                tasks[name] = partial(run, name, images, asked, by)
    seconds = interleave(tasks, rounds)
    side = photograph.shape[0]
    return Part(
        "Ranking",
        f"Versions of a photograph of {side} x {side} with more and more noise. hybrid compares what scores leave "
        "open; a critic without comparisons of its own is ranked by score there too. The simulated critic answers at "
        "once, so its seconds are those of ranking itself, and its comparisons what a critic as accurate would be "
        "asked.",
        "ms/ranking",
        1000,
        tuple(
            row(
                name,
                seconds,
                {"ranking by score": bases[name]},
                facts={"ranked by": found[name].by, "comparisons": found[name].comparisons},
            )
            for name in seconds
        ),
    )
