"""The state of one run and what every search does with it: perceive, plan, try, judge, record; the size asked for last.

In which order that happens is a strategy's business (`greedy`, `beam`, `exhaustive`, `look_only`): a generator that
yields each step's record as soon as it is known and returns why it ended.

Every candidate descends from the input through outputs of tools only: what was refused leaves no mark. The input is
the current best until something beats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from iqloop.agents.budget import OverBudget, Spending
from iqloop.agents.candidate import Candidate
from iqloop.agents.diagnosis import UNKNOWN_SEVERITY, Suspect, describe, diagnose, looks_clean, suspect
from iqloop.agents.events import Listener
from iqloop.agents.evidence import LIGHT, Evidence
from iqloop.agents.journal import Journal
from iqloop.agents.judge import Baseline, Judgement, judge, needed_evidence
from iqloop.agents.plan import make_plan, ordered_plan
from iqloop.agents.questions import Questions
from iqloop.agents.records import Decision, StepKind, StepRecord, TryRecord
from iqloop.agents.resize import enlarge
from iqloop.agents.settings import RestoreSettings
from iqloop.agents.stop import StopReason
from iqloop.agents.toolbox import Entry, Toolbox, choose_tools
from iqloop.agents.witness import Witness
from iqloop.agents.workshop import Workshop
from iqloop.critic.verdicts import Degradation, Unparsed
from iqloop.restorers.tool import Treatment

Steps = Generator[StepRecord, None, StopReason]
"""What a strategy is: records as they are made, and in the end the reason to stop."""
Strategy = Callable[["Search"], Steps]


@dataclass(frozen=True)
class Output:
    """What a tool made of a candidate in a step, judged."""

    candidate: Candidate
    accepted: bool
    goodness: float
    """The score as a number that rises with quality; minus infinity where it was not asked for."""


FINAL: frozenset[StopReason] = frozenset(
    {"max-steps", "max-tool-calls", "max-critic-calls", "time-limit", "total-time-limit", "unparsed"}
)
"""Reasons after which no upscaler is tried: there is nothing left to pay it or to judge it with."""
EVEN = 0.5
"""Chance from which something is likely."""
UPSCALED: dict[StopReason, StopReason] = {
    "clean": "done",
    "no-tools": "no-further-improvement",
    "no-improvement": "no-further-improvement",
}
"""What a reason becomes when an upscaler's output was taken after it."""


def plan_for(
    perceived: Degradation | None,
    settings: RestoreSettings,
    toolbox: Toolbox,
    untouched: bool = True,
    promises: Mapping[Treatment, float] | None = None,
) -> tuple[Suspect, ...]:
    """What would be treated, in order, after a diagnosis; ``untouched`` while no step has been accepted yet.

    ``promises`` are the probabilities that a tool would help, where that is known (`iqloop.agents.witness`); else what
    is severe enough is suspected.
    """
    if settings.plan is not None:
        return ordered_plan(perceived, settings.plan, toolbox, only=settings.only, exclude=settings.exclude)
    if perceived is not None and promises is not None and settings.judge.use_evidence:
        # An output for light is judged by what is known before it is made.
        least = {LIGHT: needed_evidence(LIGHT, settings.judge)}
        promising = ((one, p) for one, p in promises.items() if p > least.get(one, settings.judge.min_promise))
        suspects = tuple(suspect(perceived, one, promise=p) for one, p in promising)
    elif perceived is not None and _is_clean(perceived, settings, untouched):
        suspects = ()
    else:
        suspects = diagnose(perceived, settings.judge.min_severity)
    return make_plan(suspects, stages=settings.order, only=settings.only, exclude=settings.exclude)


def entries_for(toolbox: Toolbox, suspect: Suspect, settings: RestoreSettings, scale: int = 1) -> list[Entry]:
    """The tools that would be tried for a suspect, in order."""
    return choose_tools(
        toolbox,
        suspect.treatment,
        suspect.severity,
        settings.tools_per_step,
        scale,
        named=suspect.tool,
        only=settings.only,
        exclude=settings.exclude,
    )


def _is_clean(perceived: Degradation, settings: RestoreSettings, untouched: bool) -> bool:
    judge_settings = settings.judge
    said = judge_settings.clean_said_probability if untouched else judge_settings.clean_probability
    return looks_clean(perceived, judge_settings.clean_probability, said)


class Search:
    """One run. `run` may be called once."""

    def __init__(
        self,
        original: Candidate,
        questions: Questions,
        workshop: Workshop,
        toolbox: Toolbox,
        settings: RestoreSettings,
        scale: int = 1,
        on_event: Listener | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self.original = original
        self.questions = questions
        self.workshop = workshop
        self.toolbox = toolbox
        self.settings = settings
        self.scale = scale
        self.witness = Witness(questions, evidence)
        self.journal = Journal(original, on_event)
        self.best = original
        """The current best; the input until something beats it."""
        self.reference = original
        """The input at the output's size."""
        self.diagnosis: Degradation | Unparsed | None = None
        """The input's."""
        self.planned: tuple[Suspect, ...] = ()
        """What was to be treated in the input, in order."""
        self.final_diagnosis: Degradation | Unparsed | None = None
        """The last one made of a current best."""

    @property
    def spending(self) -> Spending:
        """What has been spent."""
        return self.questions.spending

    def run(self, strategy: Strategy) -> Steps:
        """Search; afterwards `best` and `journal` hold the result."""
        reason: StopReason
        # Not when it was made: a run may be looked at later.
        self.spending.started = self.spending.clock()
        try:
            reason = yield from strategy(self)
        except OverBudget as over:
            reason = over.reason
            # The step that the budget cut short is on record, but was not handed on.
            yield from self.journal.untold()
        if self.scale > 1 and self.settings.search != "none":
            reason = yield from self._upscale(reason)
        return reason

    # -- perceiving and planning

    def begin(self) -> Degradation | Unparsed | None:
        """Look at the input; `Unparsed` when its diagnosis or its score cannot be read."""
        perceived = self.perceive(self.original)
        if isinstance(perceived, Unparsed):
            return perceived
        score = self.questions.score(self.original)
        return score if isinstance(score, Unparsed) else perceived

    def perceive(self, candidate: Candidate) -> Degradation | Unparsed | None:
        """What is wrong with a candidate; None when the critic cannot perceive."""
        perceived = self.questions.perceive(candidate)
        if candidate is self.original:
            self.diagnosis = perceived
        if candidate is self.best:
            self.final_diagnosis = perceived
        self.journal.tell("diagnosed", f"{candidate.id}: {describe(perceived)}", candidate=candidate)
        return perceived

    def plan(self, perceived: Degradation | None, candidate: Candidate) -> tuple[Suspect, ...]:
        """What is left to treat in a candidate, in order."""
        found = self._plan(perceived, candidate)
        if candidate is self.original:
            self.planned = found
        return tuple(suspect for suspect in found if not self._spent(suspect, candidate))

    def suspected(self, perceived: Degradation | None) -> bool:
        """Whether anything is left to wish for in the current best: something is still seen, or still to be done."""
        if self.settings.plan is not None:
            return bool(self.plan(perceived, self.best))
        return bool(self._plan(perceived, self.best))

    def _plan(self, perceived: Degradation | None, candidate: Candidate) -> tuple[Suspect, ...]:
        untouched = candidate is self.original
        return plan_for(perceived, self.settings, self.toolbox, untouched, self.witness.promises(candidate))

    def _spent(self, suspect: Suspect, candidate: Candidate) -> bool:
        done = candidate.tools.count(suspect.tool) if suspect.tool else candidate.treated.count(suspect.treatment)
        return done >= self.settings.repeats

    def entries(self, suspect: Suspect) -> list[Entry]:
        """The tools to try for a suspect, in order."""
        return entries_for(self.toolbox, suspect, self.settings)

    def conclude(self, suspected: bool, treatable: bool) -> StopReason:
        """Why a search ends that tried all it wanted: what is still suspected, and could any tool be tried?"""
        doubtful = not suspected and self._may_be_dark()
        if self.best is not self.original:
            return "no-further-improvement" if suspected or doubtful else "done"
        if not suspected:
            return "no-improvement" if doubtful else "clean"
        return "no-improvement" if treatable else "no-tools"

    def _may_be_dark(self) -> bool:
        """Whether light is likely to be missing in the current best, though not surely enough to bring it."""
        perceived = self.diagnosis if self.best is self.original else self.final_diagnosis
        promises = self.witness.promises(self.best)
        if promises is None or self.settings.plan is not None or not isinstance(perceived, Degradation):
            return False
        rules = self.settings.judge
        lenient = replace(
            self.settings, judge=replace(rules, min_relight_evidence=min(EVEN, rules.min_relight_evidence))
        )
        plan = plan_for(perceived, lenient, self.toolbox, self.best is self.original, promises)
        return any(one.treatment == LIGHT and not self._spent(one, self.best) for one in plan)

    # -- one step

    def step(
        self,
        kind: StepKind,
        suspect: Suspect,
        start: Candidate,
        perceived: Degradation | Unparsed | None,
        entries: Sequence[Entry],
        against: Candidate,
        first: bool = False,
    ) -> list[Output]:
        """Try ``entries`` on ``start`` and judge each output against ``against`` and the input.

        The best of those accepted becomes the current best if it is better than that too. ``first`` ends the tries at
        the first output that is accepted. Raises `OverBudget` with the step on record.
        """
        self.spending.begin_step()
        number = len(self.journal.steps) + 1
        self.journal.tell("step", f"{kind} {suspect.label} from {start.id}", number, suspect.treatment)
        baseline = Baseline(
            best=against,
            reference=self.reference,
            original=self.original,
            start=start,
            diagnosis=self.diagnosis if isinstance(self.diagnosis, Degradation) else None,
            clean_counts=self.settings.plan is None,
        )
        tries: list[TryRecord] = []
        outputs: list[Output] = []
        taken: Candidate | None = None
        over: OverBudget | None = None
        try:
            for entry in entries:
                found = self._try(entry, start, suspect, baseline, number, tries)
                if found is not None:
                    outputs.append(found)
                    if first and found.accepted:
                        break
        except OverBudget as error:
            over = error
        if accepted := [output for output in outputs if output.accepted]:
            taken = self._crown(max(accepted, key=lambda output: output.goodness).candidate, against)
        self.journal.close_step(kind, suspect, start, perceived, tries, taken)
        if over is not None:
            raise over
        return outputs

    def skip(self, suspect: Suspect, start: Candidate, perceived: Degradation | Unparsed | None) -> None:
        """Put on record that no tool treats a suspect; costs nothing."""
        self.journal.close_step("treat", suspect, start, perceived, [], None)

    def _crown(self, candidate: Candidate, beaten: Candidate) -> Candidate | None:
        """Make a candidate that beat ``beaten`` the current best, unless the best is another one with a score as
        good."""
        if beaten is not self.best and self.best is not self.original:
            new, old = self.questions.score(candidate), self.questions.score(self.best)
            if isinstance(new, Unparsed) or isinstance(old, Unparsed):
                return None
            if self.questions.goodness(new) <= self.questions.goodness(old):
                return None
        self.best = candidate
        return candidate

    def _try(
        self,
        entry: Entry,
        start: Candidate,
        suspect: Suspect,
        baseline: Baseline,
        number: int,
        tries: list[TryRecord],
    ) -> Output | None:
        """Run and judge one tool; None when it failed. Its record is appended to ``tries`` even when the budget ends
        the judging."""
        info, treatment = entry.info, suspect.treatment
        self.journal.tell("running", f"{info.name} on {start.id}", number, treatment, info.name)
        run = self.workshop.run(entry, start)
        candidate: Candidate | None = None
        judgement: Judgement | None = None
        over: OverBudget | None = None
        decision: Decision = "failed"
        reason = run.fault
        if run.output is not None:
            candidate = self.journal.add(run.output, start, info.name, treatment)
            try:
                judgement = judge(candidate, treatment, baseline, self.questions, self.settings.judge, self.witness)
                decision = "accepted" if judgement.accepted else "refused"
                reason = judgement.reason
            except OverBudget as error:
                over, decision, reason = error, "refused", f"not judged: {error.reason}"
        name = None if candidate is None else candidate.id
        tries.append(
            TryRecord(info.name, info.version, start.id, name, decision, reason, run.cached, run.seconds, judgement)
        )
        self.journal.tell("judged", f"{info.name}: {decision}, {reason}", number, treatment, info.name, candidate)
        if over is not None:
            raise over
        if candidate is None or judgement is None:
            return None
        score = judgement.score_after
        goodness = -math.inf if score is None else -score if self.questions.critic.lower_better else score
        return Output(candidate, judgement.accepted, goodness)

    # -- the size asked for

    def _enlarged(self, start: Candidate) -> Candidate:
        made = self.journal.add(enlarge(start.image, self.scale), start, "bicubic", None)
        message = f"{start.id} enlarged by bicubic interpolation"
        self.journal.tell("enlarged", message, treatment="low-resolution", tool="bicubic", candidate=made)
        return made

    def _upscale(self, reason: StopReason) -> Steps:
        start = self.best
        self.reference = bicubic = self._enlarged(self.original)
        if start is not self.original:
            bicubic = self._enlarged(start)
        self.best = bicubic
        suspect = Suspect("low-resolution", UNKNOWN_SEVERITY)
        recorded = len(self.journal.steps)
        if reason not in FINAL and "low-resolution" not in self.settings.exclude:
            entries = entries_for(self.toolbox, suspect, self.settings, self.scale)
            try:
                if entries:
                    self.step("upscale", suspect, start, self.final_diagnosis, entries, bicubic)
            except OverBudget as over:
                reason = over.reason
        taken = self.best is not bicubic
        if len(self.journal.steps) == recorded:
            self.journal.close_step("upscale", suspect, start, self.final_diagnosis, [], None)
        yield from self.journal.untold()
        if taken:
            return UPSCALED.get(reason, reason)
        return reason if reason in FINAL else "bicubic"
