"""One verdict of many answers: of several drawn answers, of an image's views, of both orders of a pair.

Whoever wrote the answers, the engine here or a server elsewhere, they are pooled by the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from iqloop.critic import answers
from iqloop.critic.reason import Written
from iqloop.critic.thurstone import likelier
from iqloop.critic.verdicts import (
    CLASSES,
    SEVERITIES,
    Choice,
    Degradation,
    Preference,
    Provenance,
    Rating,
    Severity,
    Unparsed,
)
from iqloop.critic.views import View

LABELS = [(kind, word) for kind in CLASSES if kind != "null" for word in SEVERITIES]
"""The 20 degradations with their severity, in the order of the label words' probabilities; "null" comes last."""


def pool_answers(
    said: Sequence[Written[float]], values: Sequence[float], expectations: Sequence[Rating] | None
) -> Rating | Unparsed:
    """One rating of all answers that parsed: of what they say, or of the expectations taken at them."""
    unparsed = sum(one.unparsed for one in said)
    texts = tuple(one.raw for one in said)
    for one in said:
        if not isinstance(one.value, Unparsed):
            raw = one.raw
            break
    else:
        return replace(cast(Unparsed, said[0].value), unparsed=unparsed)
    if expectations is None:
        mean = sum(values) / len(values)
        spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        return Rating(mean, math.sqrt(spread), None, raw, texts, unparsed)
    mean = sum(one.mean for one in expectations) / len(expectations)
    square = sum(one.std**2 + one.mean**2 for one in expectations) / len(expectations)
    mass = sum(one.digit_mass or 0.0 for one in expectations) / len(expectations)
    return Rating(mean, math.sqrt(max(square - mean * mean, 0.0)), mass, raw, texts, unparsed)


def combine_ratings(views: Sequence[View], ratings: Sequence[Rating | Unparsed], made: Provenance) -> Rating | Unparsed:
    """The mixture of the views' ratings: weighted mean, and the deviation within and between views."""
    unparsed = sum(rating.unparsed for rating in ratings)
    usable = [(v.weight, r) for v, r in zip(views, ratings, strict=True) if isinstance(r, Rating)]
    total = sum(weight for weight, _ in usable)
    if total == 0:
        worst = next(r for r in ratings if isinstance(r, Unparsed))
        return replace(worst, unparsed=unparsed, provenance=made)
    mean = sum(weight * r.mean for weight, r in usable) / total
    square = sum(weight * (r.std**2 + r.mean**2) for weight, r in usable) / total
    masses = [r.digit_mass for _, r in usable if r.digit_mass is not None]
    heaviest = max(usable, key=lambda pair: pair[0])[1]
    mass = sum(masses) / len(masses) if masses else None
    texts = tuple(text for _, r in usable for text in r.answers)
    return Rating(mean, math.sqrt(max(square - mean * mean, 0.0)), mass, heaviest.raw, texts, unparsed, made)


def average(views: Sequence[View], logs: Sequence[Tensor]) -> Tensor:
    """Weighted geometric mean of the views' distributions, as log-probabilities."""
    weights = torch.tensor([view.weight for view in views], device=logs[0].device)
    total = (torch.stack(list(logs)) * weights[:, None]).sum(0) / weights.sum()
    return total.log_softmax(-1)


def from_log_probs(log_probs: Tensor, made: Provenance) -> Degradation:
    """The likeliest labels of ``(21,)`` log-probabilities of `LABELS` and "null", with all probabilities."""
    p = log_probs.exp().double().cpu()
    joint = p[: len(LABELS)].view(len(CLASSES) - 1, len(SEVERITIES))
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


def combine_degradations(
    views: Sequence[View],
    said: Sequence[Written[answers.ParsedDegradation]],
    logs: Sequence[Tensor],
    made: Provenance,
) -> Degradation | Unparsed:
    """One verdict of all views: the class that most weight speaks for, its weighted median severity, a view's words."""
    unparsed = sum(one.unparsed for one in said)
    likely = replace(from_log_probs(average(views, logs), made), unparsed=unparsed)
    spoken = [
        (view.weight, one.raw, one.value)
        for view, one in zip(views, said, strict=True)
        if not isinstance(one.value, Unparsed)
    ]
    if not spoken:
        return replace(cast(Unparsed, said[0].value), unparsed=unparsed, provenance=made)
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


def combine_choices(
    there: tuple[Written[Choice], float],
    back: tuple[Written[Choice], float],
    made: Provenance,
    tie_band: float | None = None,
) -> Preference | Unparsed:
    """Both orders, the second turned round.

    Args:
        there: what was written, and the probability that the image shown first is better.
        back: the same of the other order.
        made: how the verdict came about.
        tie_band: the choice is the `likelier` by the mean probability, with the first order's words where they say so
            too; None takes it from what was written, and disagreement is "similar".
    """
    (first, likely), (second, likely_back) = there, back
    unparsed = first.unparsed + second.unparsed
    for one in (first, second):
        if isinstance(one.value, Unparsed):
            return replace(one.value, unparsed=unparsed, provenance=made)
    probability = (likely + 1 - likely_back) / 2
    if tie_band is None:
        agreed = (first.value, second.value) in (("A", "B"), ("B", "A"))
        choice: Choice = cast(Choice, first.value) if agreed else "similar"
        explains = True
    else:
        choice = likelier(probability, tie_band)
        # What is reasoned for another choice explains nothing, and the other order calls the images by other names.
        explains = first.value == choice
    parts = answers.split(first.raw) if explains else None
    return Preference(
        choice,
        probability=probability,
        reasoning=parts.reasoning if parts else "",
        raw=(first.raw, second.raw),
        position_bias=(likely + likely_back - 1) / 2,
        unparsed=unparsed,
        provenance=made,
    )


def pool_choices(looks: Sequence[Preference | Unparsed], tie_band: float | None = None) -> Preference | Unparsed:
    """One verdict of several looks at a pair: what most of them say, in the words of one that does.

    With ``tie_band`` what the mean of their probabilities says. Looks that cannot be read are left out; none left is
    unparsed.
    """
    unparsed = sum(one.unparsed for one in looks)
    read = [one for one in looks if isinstance(one, Preference)]
    if not read:
        return replace(cast(Unparsed, looks[0]), unparsed=unparsed)
    lead = sum({"A": 1, "B": -1, "similar": 0}[one.choice] for one in read)
    choice: Choice = "A" if lead > 0 else "B" if lead < 0 else "similar"
    probability = sum(one.probability for one in read) / len(read)
    if tie_band is not None:
        choice = likelier(probability, tie_band)
    # One that says so; a look that says something else lends its answers, but no reasoning.
    silent = replace(read[0], reasoning="") if tie_band is not None else read[0]
    speaker = next((one for one in read if one.choice == choice), silent)
    biases = [one.position_bias for one in read if one.position_bias is not None]
    return replace(
        speaker,
        choice=choice,
        probability=probability,
        position_bias=sum(biases) / len(biases) if biases else None,
        unparsed=unparsed,
    )
