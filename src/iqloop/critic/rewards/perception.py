"""Q-Insight's rewards (Li et al. 2025): verifiable, one answer at a time.

The published code differs from the paper in ways that no prompt shows (line breaks around the tags, JSON that is never
parsed, a JSON null that never matches); here the paper's equations hold on what `iqloop.critic.answers` can read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from iqloop.critic.answers import parse_choice, parse_degradation, parse_rating, split
from iqloop.critic.prompts import TaskName
from iqloop.critic.verdicts import Choice, DistortionClass, Severity, Unparsed

EPSILON = 0.35
"""How near a score must come to count (section 4.1, Table B)."""
CLASS_WEIGHT, LEVEL_WEIGHT = 0.25, 0.75
"""alpha_1 and alpha_2 of equation 6 (section 4.1)."""


def format_reward(text: str, task: TaskName) -> float:
    """1 for an answer of the form that the system prompt shows, else 0 (section 3.3, "format reward").

    Score and degradation must be answered with one JSON object without another in it, really parsed; a comparison and
    a description with words. Whether the content is right, or even of the task, is for the other rewards.
    """
    parts = split(text)
    if parts is None:
        return 0.0
    if task not in ("score", "degradation"):
        return float(bool(parts.answer))
    try:
        value = json.loads(parts.answer)
    except (json.JSONDecodeError, RecursionError):
        return 0.0
    return float(isinstance(value, dict) and not any(isinstance(item, dict) for item in value.values()))


def score_reward(text: str, opinion: float, epsilon: float = EPSILON, thinks: bool = True) -> float:
    """1 if |score - opinion| < epsilon, else 0 (equation 3); both on [1, 5].

    ``thinks`` False is for prompts that ask for the answer alone, see `iqloop.critic.answers.parse_rating`.
    """
    score = parse_rating(text, thinks=thinks)
    return float(not isinstance(score, Unparsed) and abs(score - opinion) < epsilon)


def degradation_reward(
    text: str,
    distortion_class: DistortionClass,
    severity: Severity,
    class_weight: float = CLASS_WEIGHT,
    level_weight: float = LEVEL_WEIGHT,
) -> float:
    """alpha_1 r_deg + alpha_2 r_lev (equations 4 to 6): the class counts, and the severity if the class is right.

    The class ``"null"`` has the one severity ``"null"``, so it earns both.
    """
    said = parse_degradation(text)
    if isinstance(said, Unparsed) or said.distortion_class != distortion_class:
        return 0.0
    return class_weight + level_weight * (said.severity == severity)


def comparison_reward(text: str, choice: Choice) -> float:
    """1 for the right one of "Image A", "Image B" and "Similar", else 0 (equation 7)."""
    return float(parse_choice(text) == choice)


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """Rewards of the N answers to one question, less their mean, over their deviation (equation 1).

    The deviation is the unbiased one plus 1e-4, as in the published code and in trl; N is at least 2.
    """
    values = np.asarray(rewards, dtype=np.float64)
    return [float(value) for value in (values - values.mean()) / (values.std(ddof=1) + 1e-4)]
