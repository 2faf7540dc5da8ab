"""What a user may set for one run of the loop, besides budget, scale and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from iqloop.agents.judge import JudgeSettings
from iqloop.agents.order import Stages, check_stages
from iqloop.agents.plan import as_names
from iqloop.errors import UsageError

SEARCHES = ("greedy", "beam:K", "exhaustive", "none")
"""``greedy``: what is accepted is gone on from. ``beam:K``: the K best of a round are. ``exhaustive``: every order of
the planned tools. ``none``: perceive and report only."""


def parse_search(name: str) -> tuple[str, int]:
    """Kind and width of a search's name; the width of all but ``beam`` is 1. Raises `UsageError`.

    >>> parse_search("beam:3")
    ('beam', 3)
    """
    kind, colon, number = name.partition(":")
    if kind == "beam" and number.isdecimal() and int(number) >= 1:
        return kind, int(number)
    if kind == "beam" or colon or kind not in SEARCHES:
        raise UsageError(f"search must be one of {', '.join(SEARCHES)} (K a whole number from 1), got {name!r}")
    return kind, 1


@dataclass(frozen=True)
class RestoreSettings:
    """How to search. All defaults are meant for a photograph of which nothing is known."""

    search: str = "greedy"
    """One of `SEARCHES`, with a whole number for K."""
    tools_per_step: int = 1
    """Most tools tried for one degradation, those first that adapt themselves or whose strength is nearest to the
    perceived severity."""
    first_accepted: bool = True
    """A step of the greedy search ends with the first output that is accepted; False tries all and takes the best."""
    plan: tuple[str, ...] | None = None
    """A user's plan (``--plan noise,dejpeg``, treatments or tools): try exactly these in this order, suspected or not;
    the judge still decides."""
    only: tuple[str, ...] | None = None
    """Use none but these treatments and tools; treatments do not touch upscaling, which is asked for by ``scale``."""
    exclude: tuple[str, ...] = ()
    """Never use these treatments and tools; ``low-resolution`` here means that a scale is reached by bicubic
    interpolation."""
    order: Stages | None = None
    """What to treat before what, in stages; None is the package's order prior (`iqloop.agents.order`)."""
    redo: bool = True
    """When a step fails on the current best, try its tools once on the input: the order may have been wrong."""
    repeats: int = 1
    """How often one degradation may be treated in one chain of outputs."""
    cache_bytes: int = 256 * 2**20
    """Memory for tool outputs that may be needed again (`iqloop.agents.cache`)."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)

    def __post_init__(self) -> None:
        parse_search(self.search)
        for name in ("tools_per_step", "repeats"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.cache_bytes < 0:
            raise UsageError(f"cache_bytes must be 0 or more, got {self.cache_bytes}")
        for name in ("plan", "only", "exclude"):
            if getattr(self, name) is not None:
                # Lists are taken too; tuples are kept, because the settings are frozen.
                object.__setattr__(self, name, as_names(getattr(self, name), name))
        if self.order is not None:
            object.__setattr__(self, "order", check_stages(self.order, "order"))


PROFILES: Mapping[str, RestoreSettings] = {
    "gentle": RestoreSettings(
        redo=False,
        judge=replace(
            JudgeSettings(),
            min_severity=0.8,
            clean_said_probability=0.3,
            min_gain=0.15,
            min_structure=0.95,
            min_evidence=0.8,
            min_relight_evidence=0.99,
            min_promise=0.5,
        ),
    ),
    "balanced": RestoreSettings(),
    "strong": RestoreSettings(
        tools_per_step=5,
        first_accepted=False,
        repeats=2,
        judge=replace(
            JudgeSettings(),
            min_severity=0.3,
            clean_said_probability=0.6,
            min_gain=0.0,
            min_structure=0.9,
            min_evidence=0.35,
            min_relight_evidence=0.95,
            min_promise=0.1,
        ),
    ),
}
"""From fidelity to perception: ``gentle`` touches only what is plainly damaged, with the first tool for it, and keeps
what it does not gain much on; ``strong`` tries more tools, takes the one that the critic likes best, and forgives more
change."""


def profile(name: str) -> RestoreSettings:
    """The settings of a profile. Raises `UsageError` for an unknown name."""
    if name not in PROFILES:
        raise UsageError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    return PROFILES[name]
