"""The critic: any Qwen2.5-VL checkpoint that was trained on the published prompts, behind the `Critic` protocol.

The 7B checkpoints and the embedded mini run through the same lines. Decoding modes of a score:

* ``expected`` (default): no reasoning; the expectation over the answer's digits in one forward. Deterministic,
  differentiable.
* ``reason``: the answer is written out greedily and parsed.
* ``reason+expected``: the reasoning is written out once, then the expectation is taken at its answer.

A degradation is always reasoned, greedily; the probabilities of classes and severities beside it are the likelihoods
of the label words. An image with several views (`iqloop.critic.views`) gets one verdict: scores are averaged by
weight, log-probabilities too, and the reasoning is that of the view that speaks for the majority.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
from torch import Tensor

from iqloop.critic import answers
from iqloop.critic.branches import branch_log_probs
from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.expected import expected_rating
from iqloop.critic.inputs import question
from iqloop.critic.prompts import Prompt, TaskName
from iqloop.critic.protocol import Capability
from iqloop.critic.reason import write, write_parsed
from iqloop.critic.verdicts import (
    CLASSES,
    SEVERITIES,
    Choice,
    DecodingMode,
    Degradation,
    Preference,
    Provenance,
    Rating,
    Severity,
    Unparsed,
)
from iqloop.critic.views import View, single_view, views_of
from iqloop.errors import CriticError, UsageError

T = TypeVar("T")

SIMILAR_BAND = 0.1
"""Two ratings whose Thurstone probability is this near to one half are called similar."""

_LABELS = [(kind, word) for kind in CLASSES if kind != "null" for word in SEVERITIES]
_LABEL_BRANCHES = [f'{kind}", "severity": "{word}"' for kind, word in _LABELS] + ['null", "severity": "null"']
_CHOICE_WORDS: tuple[Choice, ...] = ("A", "B", "similar")


@dataclass
class QwenCritic:
    """A loaded checkpoint as a critic."""

    checkpoint: Checkpoint
    decoding: DecodingMode = "expected"
    """How scores are read out."""
    batch_size: int = 8
    """Views per forward."""
    seed: int = 0
    """For the retries of answers that do not parse."""
    text_first: bool = False
    """Text before the image, as in Q-Insight's demos; it was trained image first."""
    samples: int = 1
    """Written answers per image; 1 is greedy, more are drawn at `temperature`."""
    temperature: float = 1.0
    """Of drawn answers."""
    comparison: Callable[[], QwenCritic] | None = None
    """Makes the critic that compares given a reference, when that is another checkpoint; called at the first such
    question."""

    def __post_init__(self) -> None:
        if self.decoding not in ("expected", "reason", "reason+expected"):
            raise UsageError(f"decoding must be expected, reason or reason+expected, got {self.decoding!r}")
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.samples < 1:
            raise UsageError(f"samples must be at least 1, got {self.samples}")
        if self.samples > 1 and self.decoding == "expected":
            raise UsageError("samples are written answers: give decoding='reason' or 'reason+expected' with them")
        if not 0 < self.temperature <= 10:
            raise UsageError(f"temperature must be in (0, 10], got {self.temperature}")

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self.checkpoint.source.name

    @property
    def score_range(self) -> tuple[float, float]:
        """1 (very poor) to 5 (excellent), as the prompt says."""
        return (1.0, 5.0)

    @property
    def lower_better(self) -> bool:
        """False."""
        return False

    @property
    def version(self) -> str:
        """Digest of weights, prompts and decoding."""
        return f"{self.checkpoint.version}/{self._prompt('score').version}/{self.decoding}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it was trained to answer. `compare` answers without the task too, from two scores, and says so."""
        tasks = self.checkpoint.tasks
        able: set[Capability] = {"score"}
        if "compare" in tasks or "compare-reference" in tasks:
            able.add("compare")
        if "degradation" in tasks:
            able.add("perceive")
        if "describe" in tasks:
            able.add("describe")
        return frozenset(able)

    # -- score ------------------------------------------------------------------------------------------------------

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image ``(3, H, W)`` in [0, 1]; mean and standard deviation on [1, 5]."""
        prompt = self._prompt("score")
        made = Provenance(self.name, prompt.version, self.decoding)
        views = [views_of(image, self.checkpoint.views) for image in images]
        if self.decoding == "expected":
            with torch.no_grad():
                rated = _per_view(views, self.batch_size, lambda batch: self._expected(prompt, batch))
            return [_combine_ratings(group, ratings, made) for group, ratings in zip(views, rated, strict=True)]
        written = _per_view(views, self.batch_size, lambda batch: self._reasoned_ratings(prompt, batch))
        return [_combine_ratings(group, ratings, made) for group, ratings in zip(views, written, strict=True)]

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        """Expected ratings ``(B,)`` with a gradient back to the pixels; [1, 5]."""
        text = self._prefixed(self._prompt("score"))
        means = []
        for image in images:
            views = views_of(image, self.checkpoint.views)
            weights = torch.tensor([view.weight for view in views], device=self.checkpoint.device)
            parts = [expected_rating(self.checkpoint, text, [[view.pixels]]).mean for view in views]
            means.append((torch.cat(parts) * weights).sum() / weights.sum())
        return torch.stack(means)

    def _expected(self, prompt: Prompt, batch: Sequence[Tensor]) -> list[Rating | Unparsed]:
        out = expected_rating(self.checkpoint, self._prefixed(prompt), [[view] for view in batch])
        rows = zip(out.mean.tolist(), out.std.tolist(), out.digit_mass.tolist(), strict=True)
        return [Rating(min(max(mean, 1.0), 5.0), std, mass) for mean, std, mass in rows]

    def _reasoned_ratings(self, prompt: Prompt, batch: Sequence[Tensor]) -> list[Rating | Unparsed]:
        text = question(self.checkpoint, prompt, self.text_first)
        images = [[view] for view in batch]
        written = write_parsed(self.checkpoint, text, images, answers.parse_rating, seed=self.seed)
        ratings: list[Rating | Unparsed] = []
        for (raw, value), views in zip(written, images, strict=True):
            if isinstance(value, Unparsed):
                ratings.append(value)
            elif self.decoding == "reason":
                ratings.append(Rating(value, 0.0, raw=raw))
            else:
                before = raw[: raw.index("<answer>")] + "<answer> " + prompt.answer_prefix.split("<answer> ")[-1]
                with torch.no_grad():
                    out = expected_rating(self.checkpoint, text + before, [views])
                ratings.append(Rating(float(out.mean), float(out.std), float(out.digit_mass), raw))
        return ratings

    # -- degradation ------------------------------------------------------------------------------------------------

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Name each image's degradation and severity, with the reasoning and the label words' probabilities."""
        prompt = self._prompt("degradation")
        text = question(self.checkpoint, prompt, self.text_first)
        made = Provenance(self.name, prompt.version, "reason")
        views = [views_of(image, self.checkpoint.views) for image in images]
        likely = _per_view(views, self.batch_size, lambda batch: list(self._label_log_probs(prompt, batch)))
        written = _per_view(
            views,
            self.batch_size,
            lambda batch: write_parsed(
                self.checkpoint, text, [[view] for view in batch], answers.parse_degradation, seed=self.seed
            ),
        )
        return [
            _combine_degradations(group, said, logs, made)
            for group, said, logs in zip(views, written, likely, strict=True)
        ]

    def label_probabilities(self, images: Sequence[Tensor]) -> list[Degradation]:
        """As `perceive` but without writing any reasoning: the likeliest labels and their probabilities; cheaper."""
        prompt = self._prompt("degradation")
        made = Provenance(self.name, prompt.version, "expected")
        views = [views_of(image, self.checkpoint.views) for image in images]
        likely = _per_view(views, self.batch_size, lambda batch: list(self._label_log_probs(prompt, batch)))
        return [_from_log_probs(_average(group, logs), made) for group, logs in zip(views, likely, strict=True)]

    @torch.no_grad()
    def _label_log_probs(self, prompt: Prompt, batch: Sequence[Tensor]) -> Tensor:
        """``(B, 21)``: log-probability of each (class, severity), normalised over the 21."""
        text = self._prefixed(prompt)
        return branch_log_probs(self.checkpoint, text, [[view] for view in batch], _LABEL_BRANCHES).log_softmax(-1)

    # -- comparison -------------------------------------------------------------------------------------------------

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Compare pairs in both presentation orders; without the task, by the Thurstone probability of two scores."""
        if not len(a) == len(b) == len(reference if reference is not None else b):
            raise UsageError(f"expected as many images in a and b (and reference), got {len(a)} and {len(b)}")
        task: TaskName = "compare" if reference is None else "compare-reference"
        if reference is not None and task not in self.checkpoint.tasks and "compare" in self.checkpoint.tasks:
            task, reference = "compare", None
        if task not in self.checkpoint.tasks:
            return thurstone(self.score(a), self.score(b), self.name)
        prompt = self._prompt(task)
        policy = self.checkpoint.views
        shown = [[single_view(image, policy) for image in pair] for pair in zip(a, b, strict=True)]
        given = [[]] * len(a) if reference is None else [[single_view(image, policy)] for image in reference]
        forward = [[*first, x, y] for first, (x, y) in zip(given, shown, strict=True)]
        backward = [[*first, y, x] for first, (x, y) in zip(given, shown, strict=True)]
        made = Provenance(self.name, prompt.version, "reason")
        said = [self._choices(prompt, images) for images in (forward, backward)]
        likely = [self._choice_probabilities(prompt, images) for images in (forward, backward)]
        return [
            _combine_choices((said[0][i], said[1][i]), (likely[0][i], likely[1][i]), made) for i in range(len(a))
        ]

    def _choices(self, prompt: Prompt, images: Sequence[Sequence[Tensor]]) -> list[tuple[str, Choice | Unparsed]]:
        text = question(self.checkpoint, prompt)
        pieces = _chunks(images, max(1, self.batch_size // 2))
        rows: list[tuple[str, Choice | Unparsed]] = []
        for piece in pieces:
            rows.extend(write_parsed(self.checkpoint, text, piece, answers.parse_choice, seed=self.seed))
        return rows

    @torch.no_grad()
    def _choice_probabilities(self, prompt: Prompt, images: Sequence[Sequence[Tensor]]) -> list[float]:
        """Probability that the image shown as A is better, ties split, from the likelihood of the three answers."""
        text = question(self.checkpoint, prompt) + "<think> </think><answer> "
        branches = ["Image A </answer>", "Image B </answer>", "Similar </answer>"]
        rows: list[float] = []
        for piece in _chunks(images, max(1, self.batch_size // 2)):
            p = branch_log_probs(self.checkpoint, text, piece, branches).softmax(-1)
            rows.extend((p[:, 0] + p[:, 2] / 2).tolist())
        return rows

    # -- description ------------------------------------------------------------------------------------------------

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Each image's quality in words."""
        text = question(self.checkpoint, self._prompt("describe"))
        views = [[single_view(image, self.checkpoint.views)] for image in images]
        return [
            sentence.strip()
            for piece in _chunks(views, self.batch_size)
            for sentence in write(self.checkpoint, text, piece)
        ]

    # -- shared -----------------------------------------------------------------------------------------------------

    def _prompt(self, task: TaskName) -> Prompt:
        known = self.checkpoint.source.prompts
        if task not in known or (task not in self.checkpoint.tasks and task != "score"):
            raise CriticError(f"{self.name} was not trained to answer {task!r}: it can {', '.join(self.checkpoint.tasks)}")
        return known[task]

    def _prefixed(self, prompt: Prompt) -> str:
        return question(self.checkpoint, prompt, self.text_first) + prompt.answer_prefix


def thurstone(a: Sequence[Rating | Unparsed], b: Sequence[Rating | Unparsed], model: str) -> list[Preference | Unparsed]:
    """Preferences from ratings: P(A better) = Phi((mu_A - mu_B) / sqrt(sigma_A^2 + sigma_B^2)) (Thurstone 1927, case III)."""
    preferences: list[Preference | Unparsed] = []
    for x, y in zip(a, b, strict=True):
        if isinstance(x, Unparsed) or isinstance(y, Unparsed):
            preferences.append(x if isinstance(x, Unparsed) else y)  # type: ignore[arg-type]
            continue
        spread = math.sqrt(x.std**2 + y.std**2 + 1e-6)
        p = 0.5 * (1 + math.erf((x.mean - y.mean) / spread / math.sqrt(2)))
        choice: Choice = "similar" if abs(p - 0.5) < SIMILAR_BAND else ("A" if p > 0.5 else "B")
        made = replace(x.provenance, model=model)
        preferences.append(Preference(choice, p, method="thurstone", provenance=made))
    return preferences


def _per_view(
    views: Sequence[Sequence[View]], batch_size: int, ask: Callable[[list[Tensor]], Sequence[T]]
) -> list[list[T]]:
    """Ask about every view, batched with views of its own size (equal lengths need no padding); regrouped by image."""
    places = [(i, j) for i, group in enumerate(views) for j in range(len(group))]
    places.sort(key=lambda place: tuple(views[place[0]][place[1]].pixels.shape))
    found: dict[tuple[int, int], T] = {}
    for piece in _chunks(places, batch_size):
        replies = ask([views[i][j].pixels for i, j in piece])
        found.update(zip(piece, replies, strict=True))
    return [[found[i, j] for j in range(len(group))] for i, group in enumerate(views)]


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _combine_ratings(
    views: Sequence[View], ratings: Sequence[Rating | Unparsed], made: Provenance
) -> Rating | Unparsed:
    """The mixture of the views' ratings: weighted mean, and the deviation within and between views."""
    usable = [(v.weight, r) for v, r in zip(views, ratings, strict=True) if isinstance(r, Rating)]
    total = sum(weight for weight, _ in usable)
    if total == 0:
        worst = next(r for r in ratings if isinstance(r, Unparsed))
        return replace(worst, provenance=made)
    mean = sum(weight * r.mean for weight, r in usable) / total
    square = sum(weight * (r.std**2 + r.mean**2) for weight, r in usable) / total
    masses = [r.digit_mass for _, r in usable if r.digit_mass is not None]
    heaviest = max(usable, key=lambda pair: pair[0])[1]
    mass = sum(masses) / len(masses) if masses else None
    return Rating(mean, math.sqrt(max(square - mean * mean, 0.0)), mass, heaviest.raw, made)


def _average(views: Sequence[View], logs: Sequence[Tensor]) -> Tensor:
    """Weighted geometric mean of the views' distributions, as log-probabilities."""
    weights = torch.tensor([view.weight for view in views], device=logs[0].device)
    total = (torch.stack(list(logs)) * weights[:, None]).sum(0) / weights.sum()
    return total.log_softmax(-1)


def _from_log_probs(log_probs: Tensor, made: Provenance) -> Degradation:
    p = log_probs.exp().double().cpu()
    joint = p[: len(_LABELS)].view(len(CLASSES) - 1, len(SEVERITIES))
    kinds = [kind for kind in CLASSES if kind != "null"]
    by_class = {kind: float(joint[i].sum()) for i, kind in enumerate(kinds)} | {"null": float(p[-1])}
    by_severity: dict[str, dict[str, float]] = {
        str(kind): {word: float(joint[i, j] / joint[i].sum().clamp_min(1e-12)) for j, word in enumerate(SEVERITIES)}
        for i, kind in enumerate(kinds)
    }
    likeliest = max(CLASSES, key=lambda kind: by_class[kind])
    severity: Severity = "null"
    if likeliest != "null":
        severity = max(SEVERITIES, key=lambda word: by_severity[likeliest][word])
    return Degradation(likeliest, severity, by_class, by_severity, provenance=made)


def _combine_degradations(
    views: Sequence[View],
    said: Sequence[tuple[str, answers.ParsedDegradation | Unparsed]],
    logs: Sequence[Tensor],
    made: Provenance,
) -> Degradation | Unparsed:
    """One verdict of all views: the class that most weight speaks for, its weighted median severity, a view's words."""
    likely = _from_log_probs(_average(views, logs), made)
    spoken = [
        (view.weight, raw, value)
        for view, (raw, value) in zip(views, said, strict=True)
        if not isinstance(value, Unparsed)
    ]
    if not spoken:
        raw, value = said[0]
        return replace(value, provenance=made) if isinstance(value, Unparsed) else likely
    votes = {kind: sum(w for w, _, v in spoken if v.distortion_class == kind) for kind in CLASSES}
    kind = max(CLASSES, key=lambda k: (votes[k], likely.probabilities[k]))
    agreeing = [(w, raw, v.severity) for w, raw, v in spoken if v.distortion_class == kind]
    severity: Severity = "null"
    if kind != "null":
        levels = sorted((SEVERITIES.index(word), w) for w, _, word in agreeing)
        half, passed = sum(w for _, w in levels) / 2, 0.0
        for level, weight in levels:
            passed += weight
            if passed >= half:
                severity = SEVERITIES[level]
                break
    raw = next(raw for _, raw, word in agreeing if word == severity)
    parts = answers.split(raw)
    return replace(
        likely, distortion_class=kind, severity=severity, raw=raw, reasoning=parts.reasoning if parts else ""
    )


def _combine_choices(
    said: tuple[tuple[str, Choice | Unparsed], tuple[str, Choice | Unparsed]],
    likely: tuple[float, float],
    made: Provenance,
) -> Preference | Unparsed:
    """Both orders, the second turned round; disagreement is "similar"."""
    (raw, first), (raw_swapped, second) = said
    for value in (first, second):
        if isinstance(value, Unparsed):
            return replace(value, provenance=made)
    agreed = (first, second) in (("A", "B"), ("B", "A"))
    choice: Choice = cast(Choice, first) if agreed else "similar"
    parts = answers.split(raw)
    probability = (likely[0] + 1 - likely[1]) / 2
    return Preference(choice, probability, parts.reasoning if parts else "", (raw, raw_swapped), provenance=made)


