"""A place that restores without torch: worker processes start at once, and do what a file's text tells them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from iqloop.recipes.restore.file import Failure, Restored
from iqloop.recipes.restore.site import Setup, Task


class LightPlace:
    """Copies a file; ``die`` kills the process, ``die once`` the first that tries, ``fail`` fails, ``hold FIFO`` waits
    until somebody writes there, ``stray`` dies as if it were writing."""

    size = 1

    def __init__(self, setup: Setup, notice: Callable[[str], object], detail: Callable[[str], object]) -> None:
        if setup.files == ("unloadable",):
            raise ValueError("no such tool")
        if setup.files == ("deadly",):
            os._exit(3)
        notice("loaded")
        detail(f"pid {os.getpid()}")

    def critic(self) -> tuple[str, str]:
        return "light", "1"

    def attempt(self, task: Task, left: float | None) -> Restored | Failure:
        source, target = task.job.source, task.job.target
        assert source.path is not None and target.path is not None
        order, _, rest = source.path.read_text().partition(" ")
        if order == "die" and (rest != "once" or not task.again):
            os.kill(os.getpid(), signal.SIGKILL)
        target.path.parent.mkdir(exist_ok=True)
        if order == "stray":
            target.path.with_name(".iqloop-0123456789abcdef.tmp").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "hold":
            Path(rest).read_bytes()
        if order == "fail":
            return Failure(source.shown, "as it was told", "Traceback of it\n")
        target.path.write_bytes(source.path.read_bytes())
        improved = order == "better"
        steps = ("tv",) if improved else ()
        return Restored(source.shown, target.shown, steps, "done", 2.0, 2.0 + improved, 1, 2, 0.5, improved)
