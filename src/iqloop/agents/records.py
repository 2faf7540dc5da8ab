"""What happened, as frozen values: the parts of a trace (`iqloop.agents.trace`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iqloop.agents.judge import Judgement
from iqloop.critic.verdicts import Degradation, Unparsed
from iqloop.restorers.tool import Treatment

StepKind = Literal["treat", "redo", "upscale"]
"""``treat`` starts from the current best, ``redo`` from the input, ``upscale`` comes last."""
Decision = Literal["taken", "accepted", "refused", "failed"]
"""``taken`` became the current best; ``accepted`` passed but another was better; ``refused`` by the judge;
``failed``: no sane output."""


@dataclass(frozen=True)
class CandidateRecord:
    """A candidate without its pixels."""

    id: str
    parent: str | None
    """The candidate it was made from; None for the input."""
    tool: str | None
    """What made it; ``bicubic`` for the upscaling baseline, None for the input."""
    sha256: str
    """Of the pixels (`iqloop.agents.candidate.pixel_hash`)."""
    width: int
    height: int
    path: str | None = None
    """Relative path of the image, if it was kept."""
    file_sha256: str | None = None
    """Of that file's bytes. It holds the pixels rounded to its depth, so it does not follow from ``sha256``."""


@dataclass(frozen=True)
class TryRecord:
    """One tool tried in one step."""

    tool: str
    tool_version: str
    started_from: str
    candidate: str | None
    """Id of the output; None when the tool failed."""
    decision: Decision
    reason: str
    cached: bool
    seconds: float
    judgement: Judgement | None
    """None when there was nothing to judge, or the budget did not allow it."""


@dataclass(frozen=True)
class StepRecord:
    """One degradation worked on."""

    index: int
    """From 1."""
    kind: StepKind
    treatment: Treatment
    severity: float | None
    """Expected severity in [0, 5] for which tools were chosen; None for upscaling."""
    promise: float | None
    """Probability that the tool first in line would help, by measured evidence; None where there is none."""
    started_from: str
    diagnosis: Degradation | Unparsed | None
    """The current best's, as it was when the step was planned."""
    tries: tuple[TryRecord, ...]
    taken: str | None
    """The candidate that became the current best, if any."""
    decision: str
    """One sentence."""
