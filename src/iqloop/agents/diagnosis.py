"""From a critic's perception to a ranked list of what may be wrong.

The label alone decides nothing: a degradation is suspected when its expected severity (probability of the class times
mean of the severity ladder, 1 slight ... 5 catastrophic) reaches a threshold. So a second degradation that the label
hides is tried too, and a label given with little confidence is not. Suspecting costs tool calls only: the judge
decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Unparsed
from iqloop.restorers.tool import Treatment

PERCEIVED: tuple[Treatment, ...] = ("noise", "blur", "compression", "darken")
"""The treatments that a critic can perceive the need for."""
UNKNOWN_SEVERITY = 2.5
"""Severity assumed when nobody measured it: the middle of the ladder."""


@dataclass(frozen=True)
class Suspect:
    """One degradation worth trying to mend."""

    treatment: Treatment
    severity: float
    """Expected severity in [0, 5]; `UNKNOWN_SEVERITY` when it was not measured."""
    tool: str | None = None
    """The one tool to use, when the user named it."""
    promise: float | None = None
    """Probability that the tool first in line would improve the picture, where that was measured."""

    @property
    def label(self) -> str:
        """How it is named: the tool, or the treatment."""
        return self.tool or self.treatment


def with_certainty(perceived: Degradation) -> Degradation:
    """The verdict with probabilities: a critic that only gives labels is taken at its word."""
    label, word = perceived.distortion_class, perceived.severity
    if not perceived.probabilities:
        certain: dict[str, float] = {name: float(name == label) for name in CLASSES}
        perceived = replace(perceived, probabilities=certain)
    if not perceived.severity_probabilities and label != "null":
        ladder: dict[str, float] = {level: float(level == word) for level in SEVERITIES}
        perceived = replace(perceived, severity_probabilities={label: ladder})
    return perceived


def severity_of(perceived: Degradation, treatment: Treatment) -> float:
    """Expected severity in [0, 5] of what ``treatment`` mends; 0 for ``low-resolution``, which is not perceived."""
    return with_certainty(perceived).expected_severity(treatment)


def total_severity(perceived: Degradation) -> float:
    """Sum of the expected severities of all classes, in [0, 5]; it does not depend on which class was named."""
    return sum(severity_of(perceived, treatment) for treatment in PERCEIVED)


def null_probability(perceived: Degradation) -> float:
    """Probability in [0, 1] that nothing is wrong."""
    return with_certainty(perceived).probabilities.get("null", 0.0)


def looks_clean(perceived: Degradation, sure: float, said: float) -> bool:
    """Whether nothing is wrong: "null" with probability ``sure``, or with ``said`` when the verdict says so too."""
    null = null_probability(perceived)
    return null >= sure or (perceived.distortion_class == "null" and null >= said)


def diagnose(perceived: Degradation | None, threshold: float) -> tuple[Suspect, ...]:
    """Suspected degradations, worst first (ties in the order of `PERCEIVED`).

    ``perceived`` None means that the critic cannot perceive: then everything is suspected with `UNKNOWN_SEVERITY`.
    ``threshold`` is the least expected severity in [0, 5].
    """
    if perceived is None:
        return tuple(Suspect(treatment, UNKNOWN_SEVERITY) for treatment in PERCEIVED)
    suspects = [Suspect(treatment, severity_of(perceived, treatment)) for treatment in PERCEIVED]
    return tuple(sorted((s for s in suspects if s.severity >= threshold), key=lambda s: -s.severity))


def suspect(
    perceived: Degradation | None, treatment: Treatment, tool: str | None = None, promise: float | None = None
) -> Suspect:
    """What is to be treated though nobody called it severe, with its perceived severity where there is one."""
    severity = UNKNOWN_SEVERITY if perceived is None else severity_of(perceived, treatment)
    return Suspect(treatment, severity, tool, promise)


def describe(perceived: Degradation | Unparsed | None) -> str:
    """A diagnosis in a few words, for progress lines."""
    if perceived is None:
        return "this critic cannot perceive; everything is suspected"
    if isinstance(perceived, Unparsed):
        return f"unreadable answer ({perceived.reason})"
    if perceived.distortion_class == "null":
        return "nothing is wrong"
    return f"{perceived.severity} {perceived.distortion_class}"
