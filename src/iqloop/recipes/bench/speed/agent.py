"""The part of ``iqloop bench all`` about the loop: seconds, tool calls and critic calls of a restoration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from iqloop.recipes.bench.critic import test_images
from iqloop.recipes.bench.speed.figures import Curve, Part, curve, row
from iqloop.recipes.bench.speed.rounds import interleave
from iqloop.restorers.registry import Registry, builtin_entries

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents import Restoration
    from iqloop.critic.protocol import Critic

NOISE = 25
"""Of the photograph that is restored: a standard deviation in grey levels."""


def noisy(side: int) -> Tensor:
    """A photograph ``(3, side, side)`` in [0, 1] with Gaussian noise."""
    import torch

    image = test_images(side, 1)[0]
    drawn = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + drawn * NOISE / 255).clamp(0, 1)


def measure(critic: Critic, sides: Sequence[int], rounds: int, device: str) -> tuple[Part, Curve]:
    """Restorations of square photographs of these sides, two at least, each beside one score of the same image."""
    from iqloop.agents import restore

    registry = Registry(builtin_entries(device))
    found: dict[str, Restoration] = {}

    def run(name: str, image: Tensor) -> None:
        # Each run has a cache of its own, so nothing is known beforehand.
        found[name] = restore(image, critic, registry)
        _ = found[name].trace

    tasks: dict[str, Callable[[], object]] = {}
    for side in sides:
        image = noisy(side)
        tasks[f"one score, {side} px"] = partial(critic.score, [image])
        name = f"restore, {side} px"
        tasks[name] = partial(run, name, image)
    for name in list(tasks)[:2]:
        tasks[name]()  # the smallest loads the tools; the others are slow
    seconds = interleave(tasks, rounds, warm=False)
    rows = [
        row(
            f"restore, {side} px",
            seconds,
            {"one score": f"one score, {side} px"},
            facts=_facts(found[f"restore, {side} px"]),
        )
        for side in sides
    ]
    part = Part(
        "The loop",
        f"iqloop.restore with {critic.name} and the package's tools, default settings, on a photograph with Gaussian "
        f"noise of {NOISE} grey levels; tools are loaded, nothing else is known from earlier runs.",
        "s/photograph",
        1,
        tuple(rows),
    )
    return part, curve(
        "restore (the loop)", "side", "seconds", {side: seconds[f"restore, {side} px"] for side in sides}
    )


def _facts(restoration: Restoration) -> dict[str, str | int | float | None]:
    steps = " + ".join(restoration.steps) or "unchanged"
    return {"tool calls": restoration.tool_calls, "critic calls": restoration.critic_calls, "result": steps}
