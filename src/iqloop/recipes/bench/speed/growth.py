"""The part of ``iqloop bench all`` about growth: seconds against the side and the number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from iqloop.recipes.bench.critic import test_images
from iqloop.recipes.bench.speed.agent import noisy
from iqloop.recipes.bench.speed.figures import Curve, curve
from iqloop.recipes.bench.speed.rounds import interleave
from iqloop.restorers.registry import Registry, builtin_entries

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic

NET = "denoise"
"""The net of the package that stands for all: the others have the same form."""


def by_side(critic: Critic, sides: Sequence[int], batch: int, rounds: int, device: str) -> list[Curve]:
    """Seconds of a score, one of ``batch`` images at once, and of a net, for square images of these sides, two at
    least."""
    net = Registry(builtin_entries(device)).get(NET)
    tasks: dict[tuple[str, int], Callable[[], object]] = {}
    for side in sides:
        tasks["score", side] = partial(critic.score, test_images(side, batch))
        tasks["net", side] = partial(net.restore, noisy(side)[None])
    seconds = _measured(tasks, rounds)
    score = {side: [one / batch for one in seconds["score", side]] for side in sides}
    return [
        curve(f"score ({critic.name}, {batch} at once)", "side", "seconds", score),
        curve(f"{NET} (a net of the package)", "side", "seconds", {side: seconds["net", side] for side in sides}),
    ]


def by_count(critic: Critic, counts: Sequence[int], side: int, rounds: int) -> Curve:
    """Seconds of scoring so many images ``side`` x ``side`` in one call."""
    tasks: dict[tuple[str, int], Callable[[], object]] = {
        ("score", count): partial(critic.score, test_images(side, count)) for count in counts
    }
    seconds = _measured(tasks, rounds)
    name = f"score ({critic.name}, {side} px)"
    return curve(name, "count", "seconds", {count: seconds["score", count] for count in counts})


def _measured(tasks: dict[tuple[str, int], Callable[[], object]], rounds: int) -> dict[tuple[str, int], list[float]]:
    """`interleave` for tasks that are named by what and how large."""
    seconds = interleave({f"{what} {size}": task for (what, size), task in tasks.items()}, rounds)
    return dict(zip(tasks, seconds.values(), strict=True))
