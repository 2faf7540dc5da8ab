"""Hyper-parameters of a run of reinforcement, and the papers' presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1, Prompt, TaskName
from iqloop.critic.rewards import Variant
from iqloop.critic.rewards.perception import CLASS_WEIGHT, EPSILON, LEVEL_WEIGHT
from iqloop.errors import UsageError


@dataclass(frozen=True)
class GrpoSettings:
    """Hyper-parameters; the defaults are those of Q-Insight's score and degradation training (section 4.1)."""

    prompts: Literal["q-insight", "visualquality-r1"] = "q-insight"
    score_by: Literal["threshold", "ranking"] = "threshold"
    """Scores are rewarded for being near people's (Q-Insight), or for their order (VisualQuality-R1)."""
    variant: Variant = "fidelity"
    """Of the ranking reward."""
    epsilon: float = EPSILON
    """How near a score must come."""
    class_weight: float = CLASS_WEIGHT
    level_weight: float = LEVEL_WEIGHT
    generations: int = 8
    """N (K in VisualQuality-R1): answers to each question."""
    prompts_per_step: int = 16
    """Questions per optimiser step, of all processes together; times N is the papers' total batch (128)."""
    prompts_per_device: int = 2
    """Questions of one forward and backward pass on one device."""
    epochs: int = 10
    steps: int | None = None
    """Optimiser steps, instead of epochs."""
    rate: float = 1e-6
    final_rate: float = 1e-9
    """The rate falls linearly to this."""
    warm_up: int = 0
    """Steps in which the rate rises from 0 to `rate` first; the papers do without."""
    beta: float = 1e-3
    """Weight of the KL term."""
    clip: float = 0.2
    temperature: float = 1.0
    max_new_tokens: int = 256
    lora: int = 0
    """Rank of adapters on the language model's matrices; 0 trains all weights."""
    freeze_vision: bool = False
    seed: int = 0
    save_every: int = 100
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        counts = {
            "generations": (self.generations, 2),
            "prompts_per_step": (self.prompts_per_step, 1),
            "prompts_per_device": (self.prompts_per_device, 1),
            "epochs": (self.epochs, 1),
            "max_new_tokens": (self.max_new_tokens, 8),
            "save_every": (self.save_every, 1),
            "warm_up": (self.warm_up, 0),
        }
        for name, (value, least) in counts.items():
            if value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps must be at least 1, got {self.steps}")
        if self.rate <= 0 or not 0 <= self.final_rate <= self.rate or self.beta < 0 or self.epsilon <= 0:
            raise UsageError("expected rate > 0, 0 <= final_rate <= rate, beta >= 0 and epsilon > 0")
        if self.score_by == "ranking" and self.prompts_per_step < 2:
            raise UsageError("ranking needs at least 2 prompts_per_step: an image is ranked against the others")


PRESETS: dict[str, GrpoSettings] = {
    "q-insight": GrpoSettings(),
    "q-insight-comparison": GrpoSettings(prompts_per_step=4, prompts_per_device=1, epochs=8),
    "visualquality-r1": GrpoSettings(
        prompts="visualquality-r1",
        score_by="ranking",
        generations=6,
        prompts_per_step=8,
        prompts_per_device=8,
        beta=0.04,
        final_rate=0.0,
    ),
}
"""Q-Insight section 4.1 (score and degradation: batch 128, 10 epochs; comparison: batch 32, 8 epochs) and
VisualQuality-R1's released script (K = 6, 48 answers a device, its beta)."""


def prompts_of(settings: GrpoSettings) -> Mapping[TaskName, Prompt]:
    """The words that a run asks with."""
    return VISUALQUALITY_R1 if settings.prompts == "visualquality-r1" else Q_INSIGHT
