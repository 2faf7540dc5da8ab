"""Probabilities of labels from the words that were written, for servers that tell no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from iqloop.critic.answers import ParsedDegradation
from iqloop.critic.pooling import LABELS
from iqloop.critic.reason import Written
from iqloop.critic.verdicts import Degradation, Unparsed
from iqloop.critic.views import View


def shares(views: Sequence[View], said: Sequence[Written[ParsedDegradation]]) -> Tensor:
    """Share ``(21,)`` of the views' weight that says each of `LABELS` and "null"; uniform when none could be read."""
    found = torch.zeros(len(LABELS) + 1, dtype=torch.float64)
    for view, one in zip(views, said, strict=True):
        if not isinstance(one.value, Unparsed):
            label = (one.value.distortion_class, one.value.severity)
            found[LABELS.index(label) if label in LABELS else -1] += view.weight
    return found / found.sum() if found.any() else torch.full_like(found, 1 / len(found))


def without_unspoken(verdict: Degradation | Unparsed) -> Degradation | Unparsed:
    """Without the severities of classes that nothing speaks for, which are not known."""
    if isinstance(verdict, Unparsed):
        return verdict
    known = {kind: words for kind, words in verdict.severity_probabilities.items() if any(words.values())}
    return replace(verdict, severity_probabilities=known)
