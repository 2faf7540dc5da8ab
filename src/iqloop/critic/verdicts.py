"""What a critic says: frozen values that keep the raw answer and how it was made.

Labels are those of Q-Insight's degradation prompt (Li et al., "Q-Insight: Understanding Image Quality via Visual
Reinforcement Learning", 2025, Table A); severities are the five words of the same prompt, mildest first.
An answer that does not parse is an `Unparsed` value: never a random number, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DistortionClass = Literal["noise", "blur", "compression", "darken", "null"]
"""What is wrong with an image; the string ``"null"`` when nothing is."""
Severity = Literal["slight", "moderate", "obvious", "serious", "catastrophic", "null"]
"""How bad it is; ``"null"`` exactly when the class is ``"null"``."""
Choice = Literal["A", "B", "similar"]
"""Which of two images is better."""
DecodingMode = Literal["expected", "reason", "reason+expected"]
"""How an answer is read out: see `iqloop.critic.engine`."""

CLASSES: tuple[DistortionClass, ...] = ("noise", "blur", "compression", "darken", "null")
SEVERITIES: tuple[Severity, ...] = ("slight", "moderate", "obvious", "serious", "catastrophic")


@dataclass(frozen=True)
class Provenance:
    """Where a verdict comes from; enough to repeat it."""

    model: str
    """Name or path of the checkpoint, or of the method for critics without one."""
    prompt: str = ""
    """Version of the prompt text, such as ``"q-insight/score/1"``."""
    decoding: str = ""
    """Decoding mode and its parameters."""


@dataclass(frozen=True)
class Unparsed:
    """An answer that is not in the published form, kept as it came."""

    raw: str
    """The whole text."""
    reason: str
    """What was expected and is not there."""
    provenance: Provenance = Provenance("")
    unparsed: int = 1
    """How many answers did not parse, this one and its retries."""


@dataclass(frozen=True)
class Rating:
    """The score of one image on its critic's range."""

    mean: float
    std: float
    """Standard deviation of the critic's own distribution (or of its samples); 0 when it gives none."""
    digit_mass: float | None = None
    """Probability that the model gave to a digit of the range at the answer; low means that the score is a guess."""
    raw: str = ""
    """The answer, when one was written; the first that parsed, when there are several."""
    answers: tuple[str, ...] = ()
    """Every answer that was written: one per sample and view."""
    unparsed: int = 0
    """How many answers on the way did not parse: they were asked for again, or left out."""
    provenance: Provenance = Provenance("")


@dataclass(frozen=True)
class Degradation:
    """What is wrong with one image, and how much."""

    distortion_class: DistortionClass
    severity: Severity
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Probability of each class of `CLASSES`; sums to 1."""
    severity_probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each class but ``"null"``: probability of each severity of `SEVERITIES` given that class; each sums to 1."""
    reasoning: str = ""
    raw: str = ""
    unparsed: int = 0
    """How many answers on the way did not parse: they were asked for again, or left out."""
    provenance: Provenance = Provenance("")

    def expected_severity(self, distortion_class: str) -> float:
        """Expected severity of a class in [0, 5]: its probability times the mean of its severity (1 slight ... 5)."""
        given = self.severity_probabilities.get(distortion_class, {})
        mean = sum((level + 1) * given.get(word, 0.0) for level, word in enumerate(SEVERITIES))
        return self.probabilities.get(distortion_class, 0.0) * mean


@dataclass(frozen=True)
class Preference:
    """Which of two images is better, judged in both presentation orders."""

    choice: Choice
    """What was written, ``"similar"`` where the orders disagree; or the likelier image, "similar" near one half, for
    a checkpoint with a `iqloop.critic.checkpoint.Checkpoint.tie_band` that does not decode by ``reason``."""
    probability: float
    """Probability in [0, 1] that A is better; ties are split."""
    reasoning: str = ""
    raw: tuple[str, ...] = ()
    """The answers of the two orders, (A, B) first."""
    method: Literal["comparison", "thurstone"] = "comparison"
    """``"thurstone"`` when the critic has no comparison task and the two ratings were used instead."""
    position_bias: float | None = None
    """Mean probability of the image shown first, over both orders, less one half: in [-0.5, 0.5], 0 is fair; None when
    nothing was shown side by side."""
    unparsed: int = 0
    """How many answers on the way did not parse: they were asked for again, or left out."""
    provenance: Provenance = Provenance("")
