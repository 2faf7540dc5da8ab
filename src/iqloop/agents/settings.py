"""What a user may set for one run of the loop, besides budget, scale and seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from iqloop.agents.judge import JudgeSettings
from iqloop.agents.plan import check_treatments
from iqloop.errors import UsageError
from iqloop.restorers.tool import Treatment

SearchName = Literal["greedy", "none"]
"""``greedy``: the best accepted output of each step is the next step's start. ``none``: perceive and report only."""


@dataclass(frozen=True)
class RestoreSettings:
    """How to search. All defaults are meant for a photograph of which nothing is known."""

    search: SearchName = "greedy"
    tools_per_step: int = 3
    """Most tools tried for one degradation, those first whose strength is nearest to the perceived severity."""
    plan: tuple[Treatment, ...] | None = None
    """A user's plan (``--plan noise,compression``): treat exactly these in this order, suspected or not; the judge
    still decides."""
    only: tuple[Treatment, ...] | None = None
    """Treat none but these; does not touch upscaling, which is asked for by ``scale``."""
    exclude: tuple[Treatment, ...] = ()
    """Never treat these; ``low-resolution`` here means that a scale is reached by bicubic interpolation."""
    redo: bool = True
    """When a step fails on the current best, try its tools once on the input: the order may have been wrong."""
    repeats: int = 1
    """How often one degradation may be treated in one chain of accepted outputs."""
    cache_bytes: int = 256 * 2**20
    """Memory for tool outputs that may be needed again (`iqloop.agents.cache`)."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)

    def __post_init__(self) -> None:
        if self.search not in get_args(SearchName):
            raise UsageError(f"search must be one of {', '.join(get_args(SearchName))}, got {self.search!r}")
        for name in ("tools_per_step", "repeats"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.cache_bytes < 0:
            raise UsageError(f"cache_bytes must be 0 or more, got {self.cache_bytes}")
        for name in ("plan", "only", "exclude"):
            if getattr(self, name) is not None:
                # Lists are taken too; tuples are kept, because the settings are frozen.
                object.__setattr__(self, name, check_treatments(tuple(getattr(self, name)), name))
