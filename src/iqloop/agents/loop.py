"""The loop: perceive, plan, try, judge, accept or go back."""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import Tensor

from iqloop.agents.budget import Budget, Clock, OverBudget, Spending
from iqloop.agents.cache import Cache
from iqloop.agents.candidate import Candidate, pixel_hash
from iqloop.agents.events import Listener
from iqloop.agents.questions import Questions
from iqloop.agents.search import Search
from iqloop.agents.settings import RestoreSettings
from iqloop.agents.stop import STOP_REASONS, StopReason
from iqloop.agents.toolbox import Toolbox
from iqloop.agents.trace import FileRecord, Trace, installed_versions, record_critic, record_spending
from iqloop.agents.workshop import Workshop
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Rating
from iqloop.errors import UsageError

SCALES = (1, 2, 4)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one run."""

    image: Tensor
    """``(3, H * scale, W * scale)`` in [0, 1]. When nothing was improved and scale is 1 it is the input object
    itself."""
    improved: bool
    """True when at least one tool's output was accepted."""
    steps: tuple[str, ...]
    """Names of the tools that led from the input to the image, in order."""
    stop_reason: StopReason
    score_before: float | None
    """The input's mean rating on the critic's range (for scale above 1: of the input enlarged by bicubic
    interpolation, because ratings of different sizes cannot be compared); None when it is not known."""
    score_after: float | None
    """The image's."""
    trace: Trace
    tool_calls: int
    critic_calls: int
    seconds: float


def restore(
    image: Tensor,
    critic: Critic,
    registry: Toolbox,
    *,
    settings: RestoreSettings | None = None,
    scale: int = 1,
    seed: int = 0,
    budget: Budget | None = None,
    on_event: Listener | None = None,
    cache: Cache | None = None,
    clock: Clock = time.monotonic,
) -> Outcome:
    """Restore one photograph, or leave it alone when nothing beats it.

    ``image`` is ``(3, H, W)``, sRGB in [0, 1]; ``scale`` is 1, 2 or 4. Deterministic for a ``seed`` as far as critic,
    tools and the time limit are. ``registry`` is anything with ``tools_for`` (`iqloop.agents.toolbox.Toolbox`). A
    ``cache`` may be shared by several runs with the same tools; by default each run has its own. What tools raise is
    recorded and survived; what the critic raises is not caught: without a critic there is no loop.

    Raises `iqloop.errors.UsageError` for a wrong shape, type or scale.
    """
    settings = settings or RestoreSettings()
    _check(image, scale)
    spending = Spending(budget or Budget(), clock)
    cache = cache or Cache(settings.cache_bytes)
    questions = Questions(critic, spending, cache)
    original = Candidate("c0", image, pixel_hash(image))
    search = Search(original, questions, Workshop(spending, cache, seed), registry, settings, scale, on_event)
    reason = search.run()
    before, after = _score(questions, search.reference), _score(questions, search.best)
    improved = bool(search.best.tools)
    search.journal.tell("stopped", f"{reason}: {STOP_REASONS[reason]}", candidate=search.best)
    spent = record_spending(spending)
    trace = Trace(
        input=FileRecord(),
        output=FileRecord(),
        output_candidate=search.best.id,
        versions=installed_versions(),
        critic=record_critic(questions),
        seed=seed,
        scale=scale,
        settings=settings,
        budget=spending.budget,
        candidates=tuple(search.journal.candidates),
        diagnosis=search.diagnosis,
        final_diagnosis=search.final_diagnosis,
        steps=tuple(search.journal.steps),
        spent=spent,
        stop_reason=reason,
        improved=improved,
        accepted_tools=search.best.tools,
        score_before=before,
        score_after=after,
    )
    return Outcome(
        image=search.best.image,
        improved=improved,
        steps=search.best.tools,
        stop_reason=reason,
        score_before=before,
        score_after=after,
        trace=trace,
        tool_calls=spent.tool_calls,
        critic_calls=spent.critic_calls,
        seconds=spent.seconds,
    )


def _check(image: Tensor, scale: int) -> None:
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise UsageError(f"image must be a tensor (3, height, width), got {got}")
    if not image.is_floating_point():
        raise UsageError(f"image must be floating point in [0, 1], got {image.dtype}")
    if scale not in SCALES:
        raise UsageError(f"scale must be one of {SCALES}, got {scale}")


def _score(questions: Questions, candidate: Candidate) -> float | None:
    try:
        rating = questions.score(candidate)
    except OverBudget:
        return None
    return rating.mean if isinstance(rating, Rating) else None
