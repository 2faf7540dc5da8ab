"""What holds for every critic that answers the published prompts in words, here or on a server."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from iqloop.critic.prompts import TaskName
from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import DecodingMode
from iqloop.errors import UsageError

SCORE_RANGE = (1.0, 5.0)
"""1 (very poor) to 5 (excellent), as the prompts say."""


def check_decoding(decoding: str, samples: int, temperature: float) -> None:
    """Raise `UsageError` for a way of reading scores that does not exist, or that does not go with the rest."""
    if decoding not in get_args(DecodingMode):
        raise UsageError(f"decoding must be expected, reason or reason+expected, got {decoding!r}")
    if samples < 1:
        raise UsageError(f"samples must be at least 1, got {samples}")
    if samples > 1 and decoding == "expected":
        raise UsageError("samples are written answers: give decoding='reason' or 'reason+expected' with them")
    if not 0 < temperature <= 10:
        raise UsageError(f"temperature must be in (0, 10], got {temperature}")


def capabilities_of(tasks: Collection[TaskName]) -> frozenset[Capability]:
    """What a model that was trained on these tasks may be asked; every one scores."""
    able: set[Capability] = {"score"}
    if "compare" in tasks or "compare-reference" in tasks:
        able.add("compare")
    if "degradation" in tasks:
        able.add("perceive")
    if "describe" in tasks:
        able.add("describe")
    return frozenset(able)
