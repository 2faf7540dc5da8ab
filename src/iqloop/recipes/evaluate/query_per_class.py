"""Asking about one class of distortions at a time, as AgenticIR does (Zhu et al. 2025), for comparison with one query.

Each class has a question of its own, answered by a severity or "none"; the class that is said to be worst is what the
image has, and none of them means a clean image. A mini learns these questions in `iqloop.recipes.bench.ablations`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint, CheckpointSource, load
from iqloop.critic.context import look, see, tokens_of
from iqloop.critic.inputs import question
from iqloop.critic.prompts import IMAGE, Q_INSIGHT_SYSTEM, Prompt
from iqloop.critic.reason import Draw, write
from iqloop.critic.training.crops import Label
from iqloop.critic.training.reasoning import NAMES
from iqloop.critic.training.warmstart import Question
from iqloop.critic.verdicts import CLASSES, SEVERITIES
from iqloop.critic.views import single_view

NONE = "none"
_BEGIN = "<think> </think><answer>"


def _asked(kind: str) -> Question:
    def answer(label: Label, rng: np.random.Generator) -> str:
        has = label.distortion_class is not None and CLASSES[label.distortion_class] == kind
        severity = SEVERITIES[label.severity - 1] if has and label.severity is not None else NONE
        return f"{_BEGIN} {severity} </answer>"

    text = f"How severe is {NAMES[kind]} in this image? Answer with one of: none, {', '.join(SEVERITIES)}."
    return Question(Prompt(f"iqloop/severity/{kind}/1", (IMAGE, text), Q_INSIGHT_SYSTEM), answer, rated_too=False)


QUESTIONS: tuple[Question, ...] = tuple(_asked(kind) for kind in NAMES)
"""One for each class; of a mixture, which has one label, only the strongest distortion is known."""


def perceiver(folder: Path) -> Callable[[Tensor], tuple[str, str]]:
    """What names class and severity of an image ``(3, H, W)`` in [0, 1], with the weights of ``folder``."""
    checkpoint = load(CheckpointSource("per class", str(folder)), device="cpu")
    return lambda image: perceive(checkpoint, image)


@torch.no_grad()
def perceive(checkpoint: Checkpoint, image: Tensor) -> tuple[str, str]:
    """The class whose severity is said to be greatest (the first of equals); ``("null", "null")`` without any."""
    seen = see(checkpoint, [single_view(image, checkpoint.views)])
    said: dict[str, int] = {}
    for asked, kind in zip(QUESTIONS, NAMES, strict=True):
        opening = question(checkpoint, asked.prompt)
        cut = opening.index("<|vision_end|>") + len("<|vision_end|>")
        context = look(checkpoint, opening[:cut], [seen])
        stem = tokens_of(checkpoint, opening[cut:] + _BEGIN)
        (text,) = write(checkpoint, context, [stem], [Draw()], max_new_tokens=16)
        word = text.split("<")[0].strip()
        said[kind] = SEVERITIES.index(word) + 1 if word in SEVERITIES else 0
    worst = max(said, key=lambda kind: said[kind])
    return (worst, SEVERITIES[said[worst] - 1]) if said[worst] else ("null", "null")
