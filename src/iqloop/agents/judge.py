"""Is a candidate better than the current best and than the input, and still the same picture?

Published agents tested on real photographs made them worse than leaving them alone (docs/design.md, "The loop"),
because they accept by an absolute threshold or by a severity word, and never keep the input as a candidate. Here a
candidate must pass every check, cheap ones first:

1. the input is not clean (a probable "null" leaves nothing to gain; by evidence, point 3, no tool would help it);
2. fidelity: the input's structure is kept (`iqloop.agents.fidelity`), no critic asked;
3. where it was measured what this critic's answers are worth (`iqloop.agents.evidence`): the chance that the candidate
   is better than what it was made from, by score, severities, comparison in both orders and measured properties
   together, is above a threshold, and other opponents (the input, the current best) are not clearly preferred to it;
   with any other critic:
4. the score rises by a minimum against the current best and against the input;
5. the expected severity of the treated degradation does not rise, nor does the sum over all degradations by much;
6. the candidate is preferred to both: by the critic's comparison with the degraded input as reference, in both orders,
   or, without that capability, by Thurstone's law of comparative judgement (case V with the two ratings' own
   deviations): P = Phi((a - b) / sqrt(sa^2 + sb^2)).

A small critic's single answers are noisy, which is why all of them must agree, or be weighed. An answer that could not
be read is no evidence, and without evidence nothing is accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from iqloop.agents.candidate import Candidate
from iqloop.agents.diagnosis import UNKNOWN_SEVERITY, null_probability, severity_of, total_severity
from iqloop.agents.evidence import LIGHT
from iqloop.agents.fidelity import Fidelity, measure_fidelity
from iqloop.agents.questions import Questions
from iqloop.agents.resize import at_size
from iqloop.agents.witness import Witness
from iqloop.critic.thurstone import prefer
from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed
from iqloop.errors import UsageError
from iqloop.restorers.tool import Treatment

SCORE_SPAN = 4.0
"""Width of the range [1, 5] in whose points `JudgeSettings.min_gain` is given."""
ROUNDING = 1e-6
"""Slack for sums of probabilities that should be equal."""


@dataclass(frozen=True)
class JudgeSettings:
    """Every threshold of the loop. Raising any ``min_`` or lowering any ``max_`` makes the loop more careful."""

    min_severity: float = 0.5
    """Least expected severity in [0, 5] at which a degradation is suspected (0.5: a slight one, held for even odds)."""
    clean_probability: float = 0.7
    """Probability of "null" in [0, 1] from which the input counts as clean and nothing is accepted; 1 nearly turns
    this off."""
    clean_said_probability: float = 0.4
    """The same for an input that the critic also calls "null" in words: most photographs are good, and a small critic
    is seldom sure of it. After an accepted step the photograph is known to have been damaged: then only
    `clean_probability` counts."""
    min_gain: float = 0.05
    """Least rise of the score, in points of a range of width 4 such as [1, 5]; scaled to the critic's range."""
    max_severity_change: float = 0.0
    """Most by which the treated degradation's expected severity may change, in [-5, 5]: 0 lets it stay, -0.2 demands
    a fall."""
    max_total_rise: float = 0.5
    """Most by which the sum of all expected severities may rise: what a tool mends it must not pay for with another
    fault."""
    min_probability: float = 0.5
    """The candidate must be preferred with more than this probability, in [0, 1)."""
    use_evidence: bool = True
    """Weigh the answers where weights were measured for this critic; False judges by the rules, as with any other."""
    min_evidence: float = 0.5
    """Least probability by evidence that the candidate is better than what it was made from, in [0, 1)."""
    min_relight_evidence: float = 0.985
    """The same for brightening, in [0, 1): a photograph that was dark by intention loses several times what a darkened
    one gains, and looks like it. Chosen on photographs of `iqloop train judge` and on held-out ones, a fifth of them
    dark scenes: a quarter of what could be gained, 1 and 3 in 100 pictures worse (docs/log.md)."""
    min_promise: float = 0.2
    """Least probability by evidence that a tool would improve the picture, in [0, 1), for it to be tried."""
    min_unbeaten: float = 0.25
    """With evidence: least probability that the candidate is preferred to an opponent that it was not made from."""
    use_comparison: bool = True
    """Ask the critic to compare when it can; False uses the ratings alone."""
    min_structure: float = 0.93
    """Least mean structure in [-1, 1]. On crops of scikit-image's astronaut, coffee and chelsea, true restorations of
    noise (deviation up to 0.2), blur (sigma up to 4), JPEG (quality down to 5) and darkening have 0.96 or more, other
    photographs 0.75 or less."""
    min_worst_structure: float = 0.75
    """Least mean structure of the worst 5 % of the blocks. On the same images true restorations have 0.83 or more, a
    shift by 6 pixels or a blur of sigma 10 has 0.60 or less."""
    max_colour_shift: float = 0.1
    """Largest mean colour difference of blocks in [0, 1]. True restorations have 0.05 or less."""
    max_relighted_colour_shift: float = 0.2
    """Largest difference of the whole image's chromaticity after brightening. True restorations have 0.15 or less."""
    base_sigma: float = 1.0
    """Low-pass of the fidelity gate in pixels when nothing is wrong."""
    sigma_per_severity: float = 0.5
    """Growth of that low-pass in pixels per unit of the input's total expected severity."""
    block: int = 16
    """Side of a block of the fidelity gate, in pixels."""

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "min_severity": (0, 5),
            "clean_probability": (0, 1),
            "clean_said_probability": (0, 1),
            "min_gain": (0, 100),
            "max_severity_change": (-5, 5),
            "max_total_rise": (-5, 5),
            "min_probability": (0, 1),
            "min_evidence": (0, 1),
            "min_relight_evidence": (0, 1),
            "min_promise": (0, 1),
            "min_unbeaten": (0, 1),
            "min_structure": (-1, 1),
            "min_worst_structure": (-1, 1),
            "max_colour_shift": (0, 1),
            "max_relighted_colour_shift": (0, 1),
            "base_sigma": (0.1, 20),
            "sigma_per_severity": (0, 20),
            "block": (4, 256),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} must be between {low} and {high}, got {value}")


@dataclass(frozen=True)
class Judgement:
    """Whether a candidate replaces the current best, and why. What was not asked is None: a failed check ends the
    questions."""

    accepted: bool
    reason: str
    """One sentence with the figures that decided."""
    probability: float | None = None
    """Probability in [0, 1] that the candidate is better; the lower one of those against the current best and the
    input."""
    score_before: float | None = None
    """The current best's mean rating, on the critic's range."""
    score_after: float | None = None
    """The candidate's."""
    fidelity: Fidelity | None = None
    severity_before: float | None = None
    """Expected severity of the treated degradation in the current best, in [0, 5]."""
    severity_after: float | None = None
    comparison: Preference | None = None
    """The comparison (or Thurstone's figure) that gave ``probability``; A is the candidate."""
    evidence: float | None = None
    """Probability in [0, 1], all answers weighed, that the candidate is better than what it was made from."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a candidate must beat; all at the candidate's pixel size."""

    best: Candidate
    reference: Candidate
    """The input; for upscaling the input enlarged by bicubic interpolation."""
    original: Candidate
    """The input at its own size, for the fidelity gate."""
    diagnosis: Degradation | None
    """The input's diagnosis; None when the critic cannot perceive."""
    start: Candidate
    """What the candidate was made from, at its own size."""
    clean_counts: bool = True
    """False when the user ordered the plan: then the judge does not refuse because the input looks clean."""


def needed_evidence(treatment: Treatment, settings: JudgeSettings) -> float:
    """The probability by evidence above which an output for a treatment is taken."""
    return settings.min_relight_evidence if treatment == LIGHT else settings.min_evidence


def scaled_gain(min_gain: float, score_range: tuple[float, float]) -> float:
    """``min_gain`` from points of a range of width 4 to a critic's range; unchanged for a range without an end."""
    width = score_range[1] - score_range[0]
    return min_gain * width / SCORE_SPAN if math.isfinite(width) else min_gain


def check_fidelity(
    candidate: Candidate, original: Candidate, diagnosis: Degradation | None, settings: JudgeSettings
) -> tuple[Fidelity, str | None]:
    """Measure the content kept; the second value says why it is refused, or is None.

    An enlarged candidate is shrunk to the input's size first (consistency).
    """
    relighted = "darken" in candidate.treated
    severity = UNKNOWN_SEVERITY if diagnosis is None else total_severity(diagnosis)
    kept = keeps(candidate, original, severity, settings, relighted)
    most = settings.max_relighted_colour_shift if relighted else settings.max_colour_shift
    if kept.mean < settings.min_structure:
        return (kept, f"content not kept: structure {kept.mean:.3f} is below {settings.min_structure:g}")
    if kept.worst < settings.min_worst_structure:
        return kept, (
            f"content not kept: structure of the worst blocks {kept.worst:.3f} "
            f"is below {settings.min_worst_structure:g}"
        )
    if kept.colour_shift > most:
        return (kept, f"content not kept: colours shift by {kept.colour_shift:.3f}, more than {most:g}")
    return kept, None


def keeps(
    candidate: Candidate, start: Candidate, severity: float, settings: JudgeSettings, relighted: bool
) -> Fidelity:
    """How much of ``start`` a candidate keeps, at the size of ``start``; ``severity`` is the input's total."""
    sigma = settings.base_sigma + settings.sigma_per_severity * severity
    same_size = at_size(candidate.image, start.size)
    return measure_fidelity(start.image, same_size, sigma=sigma, block=settings.block, relighted=relighted)


def judge(
    candidate: Candidate,
    treatment: Treatment,
    baseline: Baseline,
    questions: Questions,
    settings: JudgeSettings,
    witness: Witness | None = None,
) -> Judgement:
    """Judge one sane candidate; without a ``witness`` by the rules alone.

    Raises `iqloop.agents.budget.OverBudget` before a question that exceeds the budget.
    """
    perceived = treatment != "low-resolution"
    weigh = witness is not None and settings.use_evidence and witness.knows(treatment)
    if perceived and baseline.diagnosis is not None and baseline.clean_counts and not weigh:
        null = null_probability(baseline.diagnosis)
        if null >= settings.clean_probability:
            return Judgement(False, f"the input looks clean: null with probability {null:.2f}")
    if candidate.sha256 == baseline.best.sha256:
        return Judgement(False, "the output equals the current best")
    fidelity, refusal = check_fidelity(candidate, baseline.original, baseline.diagnosis, settings)
    found = Judgement(False, refusal or "", fidelity=fidelity)
    if not refusal and witness is not None and weigh:
        return _judge_evidence(found, candidate, treatment, baseline, questions, settings, witness)
    if not refusal:
        found = _judge_score(found, candidate, baseline, questions, settings)
    if not found.reason and perceived:
        found = _judge_severity(found, candidate, treatment, baseline.best, questions, settings)
    if not found.reason:
        found = _judge_preference(found, candidate, baseline, questions, settings)
    return found


# Each check below returns what it found; an empty reason means that nothing speaks against the candidate so far.


def _judge_evidence(
    found: Judgement,
    candidate: Candidate,
    treatment: Treatment,
    baseline: Baseline,
    questions: Questions,
    settings: JudgeSettings,
    witness: Witness,
) -> Judgement:
    start = baseline.start
    severity = total_severity(baseline.diagnosis) if baseline.diagnosis is not None else UNKNOWN_SEVERITY
    kept = keeps(candidate, start, severity, settings, treatment == "darken")
    weighed = witness.better(candidate, start, treatment, kept)
    if isinstance(weighed, Unparsed):
        return replace(found, reason=f"no evidence: an answer could not be read ({weighed.reason})")
    chance, preference = weighed
    best, new = questions.score(baseline.best), questions.score(candidate)
    old_look, new_look = questions.perceive(start), questions.perceive(candidate)
    assert isinstance(new, Rating) and isinstance(old_look, Degradation) and isinstance(new_look, Degradation)
    found = replace(
        found,
        evidence=chance,
        comparison=preference,
        probability=None if preference is None else preference.probability,
        score_before=best.mean if isinstance(best, Rating) else None,
        score_after=new.mean,
        severity_before=severity_of(old_look, treatment),
        severity_after=severity_of(new_look, treatment),
    )
    least = needed_evidence(treatment, settings)
    if not chance > least:
        reason = f"better than {start.id} with probability {chance:.3f} by all evidence, not above {least:g}"
        return replace(found, reason=reason)
    for name, opponent in (("current best", baseline.best), ("input", baseline.reference)):
        if opponent.sha256 == start.sha256:
            continue
        against = _prefer(candidate, opponent, baseline.reference, questions, settings.use_comparison)
        if isinstance(against, Unparsed):
            reason = f"no evidence: the comparison with the {name} could not be read ({against.reason})"
            return replace(found, reason=reason)
        if not against.probability > settings.min_unbeaten:
            odds = f"probability {against.probability:.2f} ({against.method})"
            reason = f"the {name} is clearly preferred: {odds} is not above {settings.min_unbeaten:g}"
            return replace(found, reason=reason)
    return replace(found, accepted=True, reason=f"better than {start.id} with probability {chance:.2f} by all evidence")


def _judge_score(
    found: Judgement, candidate: Candidate, baseline: Baseline, questions: Questions, settings: JudgeSettings
) -> Judgement:
    best, reference, new = (questions.score(image) for image in (baseline.best, baseline.reference, candidate))
    for rating in (best, reference, new):
        if isinstance(rating, Unparsed):
            return replace(found, reason=f"no evidence: a score could not be read ({rating.reason})")
    assert isinstance(best, Rating) and isinstance(reference, Rating) and isinstance(new, Rating)
    found = replace(found, score_before=best.mean, score_after=new.mean)
    needed = scaled_gain(settings.min_gain, questions.critic.score_range)
    for name, rating in (("current best", best), ("input", reference)):
        gain = questions.goodness(new) - questions.goodness(rating)
        if gain < needed:
            return replace(found, reason=f"score gain over the {name} {gain:+.3f} is below {needed:g}")
    return found


def _judge_severity(
    found: Judgement,
    candidate: Candidate,
    treatment: Treatment,
    best: Candidate,
    questions: Questions,
    settings: JudgeSettings,
) -> Judgement:
    before, after = questions.perceive(best), questions.perceive(candidate)
    for verdict in (before, after):
        if isinstance(verdict, Unparsed):
            return replace(found, reason=f"no evidence: a diagnosis could not be read ({verdict.reason})")
    if not isinstance(before, Degradation) or not isinstance(after, Degradation):
        return found  # the critic cannot perceive
    old, new = severity_of(before, treatment), severity_of(after, treatment)
    found = replace(found, severity_before=old, severity_after=new)
    if new - old > settings.max_severity_change + ROUNDING:
        most = f"more than {settings.max_severity_change:+g}"
        return replace(found, reason=f"expected severity of {treatment} changes by {new - old:+.2f}, {most}")
    rise = total_severity(after) - total_severity(before)
    if rise > settings.max_total_rise + ROUNDING:
        most = f"more than {settings.max_total_rise:g}"
        return replace(found, reason=f"expected severity of all degradations rises by {rise:.2f}, {most}")
    return found


def _judge_preference(
    found: Judgement, candidate: Candidate, baseline: Baseline, questions: Questions, settings: JudgeSettings
) -> Judgement:
    opponents = [("current best", baseline.best)]
    if baseline.reference.sha256 != baseline.best.sha256:
        opponents.append(("input", baseline.reference))
    for name, opponent in opponents:
        preference = _prefer(candidate, opponent, baseline.reference, questions, settings.use_comparison)
        if isinstance(preference, Unparsed):
            reason = f"no evidence: the comparison with the {name} could not be read ({preference.reason})"
            return replace(found, reason=reason)
        if found.probability is None or preference.probability < found.probability:
            found = replace(found, probability=preference.probability, comparison=preference)
        if not preference.probability > settings.min_probability:
            chance = f"probability {preference.probability:.2f} ({preference.method})"
            reason = f"not preferred to the {name}: {chance} is not above {settings.min_probability:g}"
            return replace(found, reason=reason)
    assert found.score_after is not None and found.score_before is not None
    assert found.probability is not None and found.comparison is not None
    chance = f"preferred with probability {found.probability:.2f} ({found.comparison.method})"
    return replace(found, accepted=True, reason=f"score {found.score_before:.2f} to {found.score_after:.2f}, {chance}")


def _prefer(
    candidate: Candidate, opponent: Candidate, reference: Candidate, questions: Questions, use_comparison: bool
) -> Preference | Unparsed:
    preference = questions.compare(candidate, opponent, reference) if use_comparison else None
    if preference is not None:
        return preference
    new, old = questions.score(candidate), questions.score(opponent)
    for rating in (new, old):
        if isinstance(rating, Unparsed):
            return rating
    assert isinstance(new, Rating) and isinstance(old, Rating)
    return prefer(new, old, questions.critic.lower_better, similar_band=0)
