"""Best of N: candidates of a generator, the hopeless ones left halfway, the others ranked by a critic.

What is left halfway costs half. Which: the worst by the critic's score of what each candidate is predicted to become
(the clean sample that the scheduler's step stands for), all at the same step. A candidate that is finished is bit for
bit what its seed alone gives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from iqloop.agents.ranking import By, Ranked, Ranking, rank, rank_ratings
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Rating, Unparsed
from iqloop.errors import CriticError, IqloopError, ToolError, UsageError
from iqloop.io.reading import Source

if TYPE_CHECKING:
    from iqloop.restorers.diffusion.generate import Generator, Run

PRUNE = 0.5
"""Share of the candidates that is left halfway unless told; what that costs in quality is in
docs/benchmarks/rerank.md."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One candidate."""

    seed: int
    image: Tensor | None
    """``(3, H, W)`` in [0, 1]; of one that was left halfway, what it was predicted to become; None if it failed."""
    preview_score: float | None = None
    """The critic's, halfway; None where nothing was looked at."""
    pruned: bool = False
    """It was left halfway."""
    seconds: float = 0.0
    work: float = 1.0
    """Which part of it was made, in [0, 1]."""
    error: str | None = None
    """Why there is no image."""


@dataclass(frozen=True, eq=False)
class BestOf:
    """What was made, and in which order it ranks."""

    samples: tuple[Sample, ...]
    """In the order of their seeds."""
    ranking: Ranking
    """Indices are those of ``samples``; what was left halfway comes after what was finished, by its preview."""
    generator: str
    """Its name."""
    notes: tuple[str, ...] = ()
    """What was asked for and could not be done."""

    @property
    def best(self) -> Sample:
        """The first. Raises `CriticError` when the critic could rank none."""
        if self.ranking.best is None:
            raise CriticError("no candidate could be ranked: look at the errors in ranking.places")
        return self.samples[self.ranking.best]

    @property
    def work(self) -> float:
        """Work done over that of finishing every candidate, in [0, 1]."""
        return sum(sample.work for sample in self.samples) / len(self.samples)


Progress = Callable[[Sequence[Sample]], None]
"""Told of candidates when they are done: first of those left halfway, all together, then of each that is finished."""


def choose(
    generator: Generator,
    n: int = 8,
    *,
    critic: Critic,
    seed: int = 0,
    by: By = "hybrid",
    prune: float = 0.0,
    reference: Source | None = None,
    scorers: Sequence[tuple[Critic, float]] = (),
    max_comparisons: int | None = None,
    on_samples: Progress | None = None,
    ready: Mapping[int, Sample] | None = None,
) -> BestOf:
    """Make ``n`` candidates and rank them, rounded to 8 bits: what is ranked is what a file will hold.

    Args:
        generator: makes them; candidate ``i`` has the seed ``seed + i``.
        n: how many.
        critic: ranks them.
        seed: of the first; also of the ranking.
        by: as of `iqloop.rank`.
        prune: share of the candidates that is left halfway, in [0, 1); 0 finishes all. At least one is finished.
        reference: the degraded input, shown with each comparison.
        scorers: further critics and their weights: each one's scores are turned so that more is better and
            standardised over the candidates, the first critic's weigh 1, and the sum decides instead of ``by``.
        max_comparisons: as of `iqloop.rank`.
        on_samples: told of candidates when they are done.
        ready: candidates of an earlier call that was interrupted, by seed, as ``on_samples`` was told them; they are
            not made again, and if some of them were left halfway no others are.

    Raises:
        UsageError: an argument out of range.
        ToolError: every candidate failed.
    """
    if n < 1:
        raise UsageError(f"n must be at least 1, got {n}")
    if not 0 <= prune < 1:
        raise UsageError(f"prune must be in [0, 1), got {prune:g}")
    if not all(math.isfinite(weight) for _, weight in scorers):
        raise UsageError("the weights of scorers must be finite numbers")
    seeds = [seed + i for i in range(n)]
    ready = ready or {}
    tell = on_samples or (lambda samples: None)
    notes: list[str] = []
    done = {one: ready[one] for one in seeds if one in ready}
    missing = [one for one in seeds if one not in done]
    leave = 0 if any(sample.pruned for sample in done.values()) else min(n - 1, int(prune * n))
    halves: dict[int, Half] = {}
    if leave and missing:
        halves = _halves(generator, missing, critic)
        if not halves:
            notes.append(f"{generator.name} shows nothing halfway: every candidate was finished")
    try:
        left = {one: _left(halves[one], one) for one in _worst(halves, min(leave, len(missing) - 1))}
        if left:
            done.update(left)
            tell(list(left.values()))
        for one in missing:
            if one not in left:
                half = halves.get(one)
                done[one] = _finished(generator.begin(one) if half is None else half.run, one, half)
                tell([done[one]])
    finally:
        for one, half in halves.items():
            if one not in done:  # it still waits, for something went wrong
                half.run.drop()
    samples = [done[one] for one in seeds]
    if all(sample.image is None for sample in samples):
        raise ToolError(f"every candidate of {generator.name} failed; the first: {samples[0].error}")
    ranking = _ranked(samples, critic, by, reference, scorers, seed, max_comparisons)
    return BestOf(tuple(samples), ranking, generator.name, tuple(notes))


def best_of(
    generator: Any = "ldm-mini-x2",
    n: int = 8,
    *,
    image: Source | None = None,
    mask: Source | None = None,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    strength: float | None = None,
    guidance: float | None = None,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    keep_colours: bool | None = None,
    critic: str | Path | Critic | None = None,
    by: By = "hybrid",
    seed: int = 0,
    prune: float = PRUNE,
    scorers: Sequence[tuple[Critic, float]] = (),
    max_comparisons: int | None = None,
    device: str | None = None,
    on_samples: Progress | None = None,
    **more: Any,
) -> BestOf:
    """Make ``n`` candidates with a diffusers pipeline or a seeded tool, and rank them by a critic.

    >>> import iqloop  # doctest: +SKIP
    >>> found = iqloop.best_of(image="photo.jpg", n=8, steps=10)  # doctest: +SKIP
    >>> found.best.seed, found.ranking.order  # doctest: +SKIP

    Args:
        generator: a name of the package's generators, a pipeline's folder or name on the hub, a pipeline object, a
            seeded `Tool`, or anything with `iqloop.restorers.diffusion.generate.Generator`'s methods.
        n: how many candidates; the i-th has the seed ``seed + i``.
        image: what is enlarged, refined or filled in; anything that `iqloop.read` takes.
        mask: of an inpainting: white where something new is to be painted.
        prompt, negative_prompt, strength, guidance, steps, size: see
            `iqloop.restorers.diffusion.generate.Request`; those that a pipeline has no use for must be left out.
        keep_colours: take the image's colours and only light and shade of what is made; None does so for the
            package's own generators alone, whose colours are weak.
        critic: a name, folder or `Critic`; the embedded one if None.
        by, scorers, max_comparisons, prune: see `choose`.
        seed: of the first candidate.
        device: where a pipeline that is named runs; the CPU if None.
        on_samples: told of candidates when they are done.
        more: further keywords of the pipeline's call.

    Raises:
        UsageError: something does not fit.
        PrerequisiteError: diffusers is not installed, or a name cannot be fetched.
        ToolError: the pipeline cannot be opened, or every candidate failed.
    """
    from iqloop.critic.known import DEFAULT, create_critic

    pixels = None if image is None else _pixels(image)
    asked: dict[str, Any] = {"strength": strength, "guidance": guidance, "steps": steps, "size": size, "prompt": prompt}
    asked |= {"negative_prompt": negative_prompt, "more": more, "keep_colours": keep_colours}
    covered = None if mask is None else _pixels(mask).mean(0, keepdim=True)
    made = generator_of(generator, pixels, covered, asked, device)
    judge = critic if isinstance(critic, Critic) else create_critic(DEFAULT if critic is None else str(critic))
    return choose(
        made,
        n,
        critic=judge,
        seed=seed,
        by=by,
        prune=prune,
        reference=pixels,
        scorers=scorers,
        max_comparisons=max_comparisons,
        on_samples=on_samples,
    )


def generator_of(
    what: Any, image: Tensor | None, mask: Tensor | None, asked: Mapping[str, Any], device: str | None
) -> Generator:
    """Whatever makes candidates, from what `best_of` takes; ``asked`` are the other fields of a `Request`."""
    from iqloop.restorers.diffusion.generate import PipelineGenerator, Request, ToolGenerator
    from iqloop.restorers.diffusion.opening import EMBEDDED, open_pipeline
    from iqloop.restorers.tool import Tool

    keep = asked.get("keep_colours")
    if isinstance(what, Tool):
        if image is None:
            raise UsageError(f"{what.info.name} restores an image: give it one")
        return ToolGenerator(what, image, what.info.name in EMBEDDED if keep is None else keep)
    if hasattr(what, "begin"):
        ready: Generator = what
        return ready
    named = isinstance(what, (str, Path))
    pipeline = open_pipeline(what, device or "cpu") if named else what
    colours = named and str(what) in EMBEDDED if keep is None else keep
    request = Request(image, mask, **{**asked, "keep_colours": colours})
    return PipelineGenerator(pipeline, request, str(what) if named else None)


def _pixels(source: Source) -> Tensor:
    from iqloop.io import read

    return source if isinstance(source, Tensor) else read(source).pixels


@dataclass(frozen=True, eq=False)
class Half:
    """A candidate of which half is made."""

    run: Run
    shown: Tensor
    """What it will be, ``(3, H, W)`` in [0, 1]."""
    score: float
    """The critic's, turned so that more is better; infinite where it could not tell."""
    seconds: float


def _halves(generator: Generator, seeds: Sequence[int], critic: Critic) -> dict[int, Half]:
    """Half of each candidate. Empty if the generator shows nothing halfway; then it has not gone on from there."""
    begun: dict[int, tuple[Run, Tensor, float]] = {}
    for seed in seeds:
        run, began = generator.begin(seed), time.monotonic()
        shown = run.preview()
        if shown is None:
            for other, _, _ in begun.values():
                other.drop()
            run.drop()
            return {}
        begun[seed] = (run, _rounded(shown), time.monotonic() - began)
    ratings = critic.score([shown for _, shown, _ in begun.values()])
    turn = -1.0 if critic.lower_better else 1.0
    found = {}
    for (seed, (run, shown, seconds)), rating in zip(begun.items(), ratings, strict=True):
        # What the critic cannot rate is not held against it: it is made whole.
        score = turn * rating.mean if isinstance(rating, Rating) else math.inf
        found[seed] = Half(run, shown, score if math.isfinite(score) else math.inf, seconds)
    return found


def _worst(halves: Mapping[int, Half], count: int) -> list[int]:
    """The seeds of the ``count`` lowest scores; of equals the later ones."""
    order = sorted(halves, key=lambda seed: (halves[seed].score, -seed))
    return [seed for seed in order[: max(0, count)] if math.isfinite(halves[seed].score)]


def _left(half: Half, seed: int) -> Sample:
    work = half.run.work
    half.run.drop()
    return Sample(seed, half.shown, half.score, True, half.seconds, work)


def _finished(run: Run, seed: int, half: Half | None) -> Sample:
    began, image, error = time.monotonic(), None, None
    try:
        image = _rounded(run.finish())
    except IqloopError as failed:
        error = str(failed)
    score = None if half is None or not math.isfinite(half.score) else half.score
    spent = time.monotonic() - began + (0.0 if half is None else half.seconds)
    return Sample(seed, image, score, False, spent, run.work, error)


def _rounded(image: Tensor) -> Tensor:
    return (image * 255).round() / 255


def _ranked(
    samples: Sequence[Sample],
    critic: Critic,
    by: By,
    reference: Source | None,
    scorers: Sequence[tuple[Critic, float]],
    seed: int,
    max_comparisons: int | None,
) -> Ranking:
    """The finished ones ranked, then those left halfway by their previews, then those that failed."""
    whole = [i for i, sample in enumerate(samples) if sample.image is not None and not sample.pruned]
    images = [image for i in whole if (image := samples[i].image) is not None]
    if scorers:
        ranking = _by_sum(images, ((critic, 1.0), *scorers))
    else:
        ranking = rank(images, critic, by=by, reference=reference, max_comparisons=max_comparisons, seed=seed)
    left = [i for i, sample in enumerate(samples) if sample.pruned]
    left.sort(key=lambda i: -(samples[i].preview_score or 0.0))
    failed = [i for i, sample in enumerate(samples) if sample.image is None]
    places = [replace(place, index=whole[place.index]) for place in ranking.places]
    matches = tuple(replace(match, a=whole[match.a], b=whole[match.b]) for match in ranking.matches)
    placed = [place for place in places if place.rank is not None]
    others = [place for place in places if place.rank is None]
    after = [Ranked(i, len(placed) + k, None, None) for k, i in enumerate(left, start=1)]
    broken = [Ranked(i, None, None, samples[i].error) for i in failed]
    return replace(ranking, places=(*placed, *after, *others, *broken), matches=matches)


def _by_sum(images: Sequence[Tensor], scorers: Sequence[tuple[Critic, float]]) -> Ranking:
    """Ranked by the weighted sum of standardised scores."""
    total = np.zeros(len(images))
    faults: dict[int, str] = {}
    for scorer, weight in scorers:
        ratings = scorer.score(images)
        means = np.full(len(images), np.nan)
        for i, rating in enumerate(ratings):
            if isinstance(rating, Unparsed) or not math.isfinite(rating.mean):
                faults.setdefault(i, f"{scorer.name} gave no score")
            else:
                means[i] = -rating.mean if scorer.lower_better else rating.mean
        spread = float(np.nanstd(means)) if np.isfinite(means).any() else 0.0
        # A scorer to whom all are alike says nothing.
        total += weight * ((means - np.nanmean(means)) / spread if spread > 0 else np.zeros(len(images)))
    rated: list[Rating | Unparsed] = [
        Unparsed("", faults[i]) if i in faults else Rating(float(total[i]), 0.0) for i in range(len(images))
    ]
    return Ranking(tuple(rank_ratings(rated)), "score")
