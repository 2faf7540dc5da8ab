"""Ray itself: found or started, hushed, and measured.

A Ray that is started here listens on loopback only, has no dashboard, and sends no reports to its makers.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from iqloop.errors import PrerequisiteError, UsageError, missing_extra
from iqloop.recipes.machine import cores, fitting_workers
from iqloop.recipes.scale.options import Spread

STORE_BYTES = 512 * 2**20
"""Of shared memory, for a Ray that is started here: keys, paths and rows are small."""
BLOCK_BYTES = 16 * 2**20
"""Of image bytes that are read from a table at a time."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Size:
    """How much of a cluster a run takes."""

    workers: int
    cpus: int
    """Of each worker. One more is left for those who read."""
    gpus: float
    """Of each worker."""


@contextmanager
def running(device: str | None, images: int, spread: Spread) -> Iterator[Size]:
    """Ray for as long as it is needed; one that this process has started or joined before is used, and stays.

    Raises `PrerequisiteError` without Ray, or when it does not start; `UsageError` when the cluster cannot be reached
    or has too little.
    """
    ray = imported(alone=spread.address is None)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, of its own parts
            ours = not ray.is_initialized()
            if ours:
                with _stderr_closed():
                    begin(ray, images, spread)
            try:
                with _streaming(ray):
                    yield fitting(ray.cluster_resources(), device, images, spread)
            finally:
                if ours:
                    ray.shutdown()
    finally:
        logging.disable(disabled)


def fitting(resources: dict[str, float], device: str | None, images: int, spread: Spread) -> Size:
    """What a run takes of a cluster's ``resources``. Raises `UsageError` when it would wait for more for ever."""
    cpus, graphics = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
    gpus = spread.gpus
    if gpus is None:
        gpus = 0.0 if device is not None and device.startswith("cpu") else min(1.0, graphics)
    room = (cpus - 1) // spread.cpus
    if gpus:
        room = min(room, int(graphics / gpus))
    wanted = spread.workers or max(1, min(room, images))
    if wanted > room:
        raise UsageError(
            f"{wanted} workers with {spread.cpus} CPUs and {gpus:g} GPUs each, and a CPU to read with, are more than "
            f"the {cpus} CPUs and {graphics:g} GPUs that Ray has: ask for less with --ray-workers, --cpus-per-worker "
            "and --gpus-per-worker"
        )
    return Size(wanted, spread.cpus, gpus)


def begin(ray: Any, images: int, spread: Spread) -> None:
    """Start Ray on this machine, or join a cluster. Raises as `running` does."""
    try:
        if spread.address is not None:
            ray.init(address=spread.address, log_to_driver=False, logging_level=logging.CRITICAL)
            return
        workers = spread.workers or fitting_workers(images, spread.cpus)
        ray.init(
            address="local",
            num_cpus=max(cores(), workers * spread.cpus) + 1,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _node_ip_address=LOOPBACK,
        )
    except ConnectionError as error:
        raise UsageError(f"--ray-address {spread.address}: no Ray cluster there ({_short(error)})") from error
    except (RuntimeError, ValueError, OSError) as error:
        raise PrerequisiteError(f"Ray does not start ({_short(error)}): take  --engine local") from error


def imported(alone: bool) -> Any:
    """The package; ``alone`` for a Ray on this machine. Raises `PrerequisiteError`."""
    # Ray reads these when it is imported. The last is what keeps a Ray on this machine off the network: without it
    # 127.0.0.1 is replaced by the machine's own address. Workers would run at niceness 15, behind everything else.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if alone:
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            import ray.data
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    return ray


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Ray's C++ part announces there, at whatever level, that it will be quiet."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _streaming(ray: Any) -> Iterator[None]:
    """Ray Data as it is wanted here, and afterwards as it was."""
    context = ray.data.DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "max_errored_blocks": -1,  # whose rows are missing is seen, and they are tried again
        "target_max_block_size": BLOCK_BYTES,
    }
    before = {name: getattr(context, name) for name in wanted}
    for name, value in wanted.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
