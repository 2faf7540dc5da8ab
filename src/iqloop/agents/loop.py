"""The loop: perceive, plan, try, judge, accept or go back."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from iqloop.agents.budget import Budget, Clock, OverBudget, Spending
from iqloop.agents.cache import Cache
from iqloop.agents.candidate import Candidate, pixel_hash
from iqloop.agents.diagnosis import Suspect
from iqloop.agents.events import Listener
from iqloop.agents.evidence import Evidence
from iqloop.agents.plan import check_names
from iqloop.agents.questions import Questions
from iqloop.agents.records import StepRecord
from iqloop.agents.search import Search
from iqloop.agents.settings import RestoreSettings
from iqloop.agents.stop import STOP_REASONS, StopReason
from iqloop.agents.strategy import strategy_of
from iqloop.agents.toolbox import Toolbox
from iqloop.agents.trace import FileRecord, Trace, installed_versions, record_critic, record_spending
from iqloop.agents.workshop import Workshop
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Rating
from iqloop.errors import UsageError
from iqloop.io import Photo, read
from iqloop.io.reading import Source

if TYPE_CHECKING:
    from pathlib import Path

SCALES = (1, 2, 4)


class Restoration:
    """One run on one photograph, which happens as it is looked at.

    Iterating gives each step's record (`iqloop.agents.records.StepRecord`) when it is decided; asking for the image or
    anything else about the result runs what is left. Either may be done any number of times: nothing runs twice.
    """

    def __init__(self, search: Search, seed: int, photo: Photo | None = None) -> None:
        self._search = search
        self._seed = seed
        self._photo = photo
        self._running: Generator[StepRecord, None, StopReason] = search.run(strategy_of(search.settings.search))
        self._told: list[StepRecord] = []
        self._trace: Trace | None = None
        self._broken = False

    def __iter__(self) -> Iterator[StepRecord]:
        """The steps, those that were made and then those still to come, while they happen."""
        place = 0
        while place < len(self._told) or self._advance():
            yield self._told[place]
            place += 1

    @property
    def image(self) -> Tensor:
        """``(3, H * scale, W * scale)`` in [0, 1]. When nothing was improved and scale is 1 it is the input object
        itself."""
        self._finish()
        return self._search.best.image

    @property
    def plan(self) -> tuple[Suspect, ...]:
        """What was suspected in the input, in the order in which it was to be treated."""
        self._finish()
        return self._search.planned

    @property
    def trace(self) -> Trace:
        """Everything that was seen, tried, judged and decided."""
        return self._finish()

    @property
    def improved(self) -> bool:
        """True when at least one tool's output was accepted."""
        return self.trace.improved

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the tools that led from the input to the image, in order."""
        return self.trace.accepted_tools

    @property
    def stop_reason(self) -> StopReason:
        """Why it ended (`iqloop.agents.stop.STOP_REASONS`)."""
        return self.trace.stop_reason

    @property
    def score_before(self) -> float | None:
        """The input's mean rating on the critic's range (for scale above 1: of the input enlarged by bicubic
        interpolation, because ratings of different sizes cannot be compared); None when it is not known."""
        return self.trace.score_before

    @property
    def score_after(self) -> float | None:
        """The image's."""
        return self.trace.score_after

    @property
    def tool_calls(self) -> int:
        """Runs of a tool."""
        return self.trace.spent.tool_calls

    @property
    def critic_calls(self) -> int:
        """Questions to the critic."""
        return self.trace.spent.critic_calls

    @property
    def seconds(self) -> float:
        """From the first look to the end; time between steps that a caller took is part of it."""
        return self.trace.spent.seconds

    def save(self, path: str | Path, *, overwrite: bool = False, metadata: bool = True) -> Path:
        """Write the image in the format of the suffix, with what came in with the photograph (alpha, depth, EXIF, ICC
        profile); see `iqloop.io.write`. Raises `iqloop.errors.ImageWriteError`."""
        from iqloop.io import write

        photo = self._photo or read(self._search.original.image)
        return write(photo.with_pixels(self.image), path, overwrite=overwrite, metadata=metadata)

    def __repr__(self) -> str:
        if self._trace is None:
            return f"Restoration(running, {len(self._told)} steps so far)"
        return f"Restoration({' + '.join(self.steps) or 'unchanged'}, {self.stop_reason})"

    def _advance(self) -> bool:
        """Make one step; False when there is none left."""
        if self._broken:
            # A generator that raised is exhausted: what it raised was seen, and there is no result.
            raise UsageError("this restoration was interrupted by an error and has no result: begin a new one")
        if self._trace is not None:
            return False
        self._broken = True
        try:
            self._told.append(next(self._running))
        except StopIteration as stop:
            self._trace = self._conclude(stop.value)
        self._broken = False
        return self._trace is None

    def _finish(self) -> Trace:
        while self._advance():
            pass
        assert self._trace is not None
        return self._trace

    def _conclude(self, reason: StopReason) -> Trace:
        search = self._search
        questions, journal, spending = search.questions, search.journal, search.spending
        before, after = _score(questions, search.reference), _score(questions, search.best)
        journal.tell("stopped", f"{reason}: {STOP_REASONS[reason]}", candidate=search.best)
        return Trace(
            input=FileRecord(),
            output=FileRecord(),
            output_candidate=search.best.id,
            versions=installed_versions(),
            critic=record_critic(questions, search.witness.evidence),
            seed=self._seed,
            scale=search.scale,
            settings=search.settings,
            budget=spending.budget,
            candidates=tuple(journal.candidates),
            diagnosis=search.diagnosis,
            final_diagnosis=search.final_diagnosis,
            steps=tuple(journal.steps),
            spent=record_spending(spending),
            stop_reason=reason,
            improved=bool(search.best.tools),
            accepted_tools=search.best.tools,
            score_before=before,
            score_after=after,
        )


def restore(
    image: Source,
    critic: Critic | str | None = None,
    registry: Toolbox | None = None,
    *,
    settings: RestoreSettings | None = None,
    scale: int = 1,
    seed: int = 0,
    budget: Budget | None = None,
    on_event: Listener | None = None,
    cache: Cache | None = None,
    evidence: Evidence | None = None,
    clock: Clock = time.monotonic,
) -> Restoration:
    """Restore one photograph, or leave it alone when nothing beats it.

    Deterministic for a ``seed`` as far as critic, tools and the time limit are. What tools raise is recorded and
    survived; what the critic raises is not caught: without a critic there is no loop.

    Args:
        image: a path, bytes, a PIL image, an array ``(H, W[, C])``, or a tensor ``(3, H, W)``, sRGB in [0, 1].
        critic: who judges: any `iqloop.critic.Critic`, or a name or folder that `iqloop.create_critic` takes; None for
            the embedded one.
        registry: anything with ``tools_for`` (`iqloop.agents.toolbox.Toolbox`); None for `iqloop.default_registry`.
        settings: how to search; `iqloop.agents.settings.profile` has presets.
        scale: 1, 2 or 4 times the size.
        seed: for tools that draw.
        budget: what the run may spend.
        on_event: is told everything while it happens.
        cache: may be shared by several runs with the same tools; by default each run has its own.
        evidence: what this critic's answers are worth (`iqloop.agents.evidence.load_evidence`); None for the package's,
            which holds for the embedded critic alone.
        clock: a monotonic clock in seconds.

    Raises:
        UsageError: for a wrong shape, type, scale, or name of a tool.
        ImageReadError: for an image that cannot be read.
    """
    settings = settings or RestoreSettings()
    photo = None if isinstance(image, Tensor) else read(image)
    pixels = image if isinstance(image, Tensor) else photo.pixels if photo is not None else None
    _check(pixels, scale)
    assert pixels is not None
    if critic is None or isinstance(critic, str):
        from iqloop.critic.known import DEFAULT, create_critic

        critic = create_critic(critic or DEFAULT)
    if registry is None:
        from iqloop.restorers import default_registry

        registry = default_registry()
    for option in ("plan", "only", "exclude"):
        check_names(getattr(settings, option) or (), option, registry, scale)
    spending = Spending(budget or Budget(), clock)
    cache = cache or Cache(settings.cache_bytes)
    questions = Questions(critic, spending, cache)
    original = Candidate("c0", pixels, pixel_hash(pixels))
    search = Search(original, questions, Workshop(spending, cache, seed), registry, settings, scale, on_event, evidence)
    return Restoration(search, seed, photo)


def _check(image: object, scale: int) -> None:
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
