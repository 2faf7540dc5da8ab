"""The options of a run that writes rows: who does the work, and where the rows go."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from iqloop.errors import UsageError
from iqloop.recipes.options import Command

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Spread:
    """How a run is spread, and where its rows go."""

    engine: str = "local"
    out: Path | None = None
    """Folder of the part files; None writes none."""
    resume: bool = False
    overwrite: bool = False
    address: str | None = None
    """A Ray cluster's; None starts Ray on this machine."""
    workers: int | None = None
    """None is as many as the CPUs or GPUs allow."""
    cpus: int = 1
    """Per worker: what Ray sets aside, and its number of threads."""
    gpus: float | None = None
    """Per worker; None is one where there are any, and none else."""
    part_rows: int = 10_000

    def wanted(self, inputs: Sequence[str]) -> bool:
        """Whether the run is one of rows. Raises `UsageError` where it would have to be and cannot."""
        if self.engine == "ray" and self.out is None:
            raise UsageError(f"--engine ray writes rows to a folder of part files: give -o OUT{SUFFIX}")
        if self.out is not None and self.out.suffix.lower() != SUFFIX:
            raise UsageError(f"-o {self.out}: expected a name that ends in {SUFFIX}")
        if self.out is None and (self.resume or self.overwrite):
            raise UsageError(f"--resume and --overwrite are for rows that are kept: give -o OUT{SUFFIX}")
        if self.out is None and any(is_table(name) for name in inputs):
            raise UsageError(f"images that a {SUFFIX} file lists become rows of another one: give -o OUT{SUFFIX}")
        return self.out is not None


def refuse_beside_ray(spread: Spread, given: Mapping[str, Any]) -> Spread:
    """The same; raises `UsageError` for options that another process cannot follow, and where rows have no place."""
    spread.wanted(())
    unfit = [name for name, value in given.items() if value]
    if unfit:
        raise UsageError(f"{' and '.join(unfit)} cannot be given with --engine ray: leave it out")
    return spread


def is_table(name: str) -> bool:
    """Whether an input is a table of images rather than one image."""
    return name.lower().endswith(SUFFIX)


def writes_rows(command: Command) -> Command:
    """``-o --resume --overwrite`` and those of `spreads`, handed over as ``spread``."""
    place = click.option(
        "-o",
        "--output",
        "out",
        type=click.Path(path_type=Path),
        metavar=f"OUT{SUFFIX}",
        help="Write rows instead: a folder of part files, each there whole or not at all.",
    )
    resume = click.option(
        "--resume", is_flag=True, help="Go on with an interrupted run: leave out the keys that -o has rows of."
    )
    overwrite = click.option("--overwrite", is_flag=True, help="Remove the rows of an earlier run first.")
    return place(resume(overwrite(spreads(command, ("out", "resume", "overwrite")))))


def spreads(command: Command, more: Sequence[str] = ()) -> Command:
    """``--engine`` and how Ray is used; ``more`` are further options that belong into ``spread``."""

    @functools.wraps(command)
    def with_spread(**options: Any) -> Any:
        fields = ("engine", "address", "workers", "cpus", "gpus", "part_rows", *more)
        names = {name: _PARAMETERS.get(name, name) for name in fields}
        spread = Spread(**{name: options.pop(parameter) for name, parameter in names.items()})
        return command(spread=spread, **options)

    wrapped: Any = with_spread
    for option in reversed(_SPREAD):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


_PARAMETERS = {
    "address": "ray_address",
    "workers": "ray_workers",
    "cpus": "cpus_per_worker",
    "gpus": "gpus_per_worker",
}
_SPREAD: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Who works: this process, or actors of Ray Data, on this machine or a cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="auto|HOST:PORT",
        help="A running Ray cluster, auto for the one this machine belongs to.  [default: start Ray here]",
    ),
    click.option(
        "--ray-workers",
        type=click.IntRange(1),
        metavar="N",
        help="Actors, each with a critic of its own.  [default: as many as CPUs or GPUs allow]",
    ),
    click.option(
        "--cpus-per-worker", type=click.IntRange(1), default=1, show_default=True, help="Cores and threads of an actor."
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(0),
        help="GPUs of an actor; 0.5 lets two share one.  [default: 1 where there are any]",
    ),
    click.option(
        "--part-rows",
        type=click.IntRange(1),
        default=Spread.part_rows,
        show_default=True,
        help="Rows of a part file; one is also begun when the last is a minute old.",
    ),
)
