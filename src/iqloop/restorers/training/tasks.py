"""What the small nets are trained for: six tasks, each a blind family of damage, a default net and fixed checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from iqloop import distort
from iqloop.distort import standard
from iqloop.distort.image import to_bytes, to_float
from iqloop.errors import UsageError
from iqloop.restorers.tool import Treatment
from iqloop.restorers.training import damage
from iqloop.restorers.training.damage import Bytes

Degrade = Callable[[Bytes, np.random.Generator], Bytes]
"""From clean ``(H, W, 3)`` uint8 RGB to damaged ``(H / scale, W / scale, 3)``: a pure function of both arguments."""


@dataclass(frozen=True)
class Task:
    """One thing that a net may learn."""

    name: str
    treats: tuple[Treatment, ...]
    """What a tool with such weights is for."""
    scale: int
    """Output size over input size."""
    net: str
    """Which of `iqloop.restorers.training.nets.NETS` is trained unless another is named."""
    patch: int
    """Side of the input patches in pixels, unless another is named; targets are ``scale`` times as large."""
    margin: int
    """Input pixels around a patch that are damaged with it and cut off, so that no patch shows a border that the
    photograph does not have. A multiple of `damage.GRID` where the grid of a codec must keep its place."""
    degrade: Degrade
    """The blind family."""
    view: int | None
    """Longer side in pixels of the view of a whole image that a net which pools is given at use; None: it pools over
    what it is given. For what is seen in any view of a scene, as darkness is and noise is not."""
    checks: tuple[tuple[str, Degrade], ...]
    """Fixed damage that held-out photographs are measured with, by name."""


def _bicubic(image: Bytes, rng: np.random.Generator, scale: int) -> Bytes:
    return distort.downsample(image, scale, "bicubic")


def _camera(image: Bytes, rng: np.random.Generator, shot: float) -> Bytes:
    return to_bytes(damage.camera_noise(to_float(image), rng, shot, damage.read_noise(shot)))


def _upscale(scale: int, patch: int) -> Task:
    degrade = partial(damage.shrunk, scale=scale)
    checks = (("bicubic", partial(_bicubic, scale=scale)),)
    return Task(f"upscale-x{scale}", ("low-resolution",), scale, "compact", patch, 8, degrade, None, checks)


def _tasks() -> tuple[Task, ...]:
    noise = tuple((f"sigma-{s}", partial(standard.gaussian_noise, sigma=s)) for s in (25, 50))
    # About 36 dB before, as of pairs that people photographed.
    camera = ("camera", partial(_camera, shot=8e-4))
    codec = tuple((f"quality-{q}", partial(standard.jpeg, quality=q)) for q in (10, 40))
    blur = (("sigma-2", partial(standard.gaussian_blur, sigma=2.0)),)
    light = (("gamma-2.2", partial(standard.gamma, exponent=2.2)),)
    clean = (("clean", standard.clean),)
    return (
        Task("denoise", ("noise",), 1, "nafnet-local", 64, 8, damage.noisy, None, (*noise, camera, *clean)),
        Task("dejpeg", ("compression",), 1, "nafnet-local", 64, 16, damage.compressed, None, codec + clean),
        Task("deblur", ("blur",), 1, "nafnet-local", 96, 16, damage.blurred, None, blur + clean),
        Task("lowlight", ("darken",), 1, "nafnet", 192, 8, damage.darkened, 512, light + clean),
        _upscale(2, 48),
        _upscale(4, 32),
    )


TASKS: dict[str, Task] = {task.name: task for task in _tasks()}
"""Every task by its name."""


def task_named(name: str) -> Task:
    """The task of a name. Raises `UsageError`."""
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}: expected one of {', '.join(TASKS)}")
    return TASKS[name]
