"""Greedy search: treat what is suspected in plan order, keep what the judge accepts, never anything else.

Every tool of a step starts from the current best, which descends from the input through accepted outputs only: a
failed step leaves no mark. When it fails although the degradation was in the input, an earlier accepted step may have
hidden or baked it in; then its tools are tried once on the input itself ("redo from the original": HarnessIR measured
62.0 for it against 57.2 for repairing the last output and 59.6 for giving up). The redone candidate must beat the
current best like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from iqloop.agents.budget import OverBudget, Spending
from iqloop.agents.candidate import Candidate
from iqloop.agents.diagnosis import UNKNOWN_SEVERITY, Suspect, describe, diagnose, looks_clean, suspect_all
from iqloop.agents.events import Listener
from iqloop.agents.journal import Journal
from iqloop.agents.judge import Baseline, Judgement, judge
from iqloop.agents.plan import make_plan
from iqloop.agents.questions import Questions
from iqloop.agents.records import Decision, StepKind, TryRecord
from iqloop.agents.resize import enlarge
from iqloop.agents.settings import RestoreSettings
from iqloop.agents.stop import StopReason
from iqloop.agents.toolbox import Entry, Toolbox, choose_tools
from iqloop.agents.workshop import Workshop
from iqloop.critic.verdicts import Degradation, Unparsed
from iqloop.restorers.tool import Treatment

FINAL: frozenset[StopReason] = frozenset({"max-steps", "max-tool-calls", "max-critic-calls", "time-limit", "unparsed"})
"""Reasons after which no upscaler is tried: there is nothing left to pay it or to judge it with."""


def plan_for(perceived: Degradation | None, settings: RestoreSettings, untouched: bool = True) -> tuple[Suspect, ...]:
    """What would be treated, in order, after a diagnosis; ``untouched`` while no step has been accepted yet."""
    if settings.plan is not None:
        suspects = suspect_all(perceived, settings.plan)
    elif perceived is not None and _is_clean(perceived, settings, untouched):
        suspects = ()
    else:
        suspects = diagnose(perceived, settings.judge.min_severity)
    return make_plan(suspects, order=settings.plan, only=settings.only, exclude=settings.exclude)


def _is_clean(perceived: Degradation, settings: RestoreSettings, untouched: bool) -> bool:
    judge_settings = settings.judge
    said = judge_settings.clean_said_probability if untouched else judge_settings.clean_probability
    return looks_clean(perceived, judge_settings.clean_probability, said)


class Search:
    """The state of one run. `run` may be called once."""

    def __init__(
        self,
        original: Candidate,
        questions: Questions,
        workshop: Workshop,
        toolbox: Toolbox,
        settings: RestoreSettings,
        scale: int = 1,
        on_event: Listener | None = None,
    ) -> None:
        self.original = original
        self.questions = questions
        self.workshop = workshop
        self.toolbox = toolbox
        self.settings = settings
        self.scale = scale
        self.journal = Journal(original, on_event)
        self.best = original
        """The current best; the input until something beats it."""
        self.reference = original
        """The input at the output's size."""
        self.diagnosis: Degradation | Unparsed | None = None
        """The input's."""
        self.final_diagnosis: Degradation | Unparsed | None = None
        """The last one made of a current best."""

    @property
    def spending(self) -> Spending:
        """What has been spent."""
        return self.questions.spending

    def run(self) -> StopReason:
        """Search; afterwards `best` and `journal` hold the result."""
        reason: StopReason
        try:
            reason = self._perceive_only() if self.settings.search == "none" else self._treat()
        except OverBudget as over:
            reason = over.reason
        if self.scale > 1 and self.settings.search != "none":
            reason = self._upscale(reason)
        return reason

    # -- perceiving and planning

    def _perceive_only(self) -> StopReason:
        self._perceive(self.original)
        return "unparsed" if isinstance(self.diagnosis, Unparsed) else "perceive-only"

    def _perceive(self, candidate: Candidate) -> Degradation | Unparsed | None:
        perceived = self.questions.perceive(candidate)
        if candidate is self.original:
            self.diagnosis = perceived
        self.final_diagnosis = perceived
        self.journal.tell("diagnosed", f"{candidate.id}: {describe(perceived)}", candidate=candidate)
        return perceived

    def _plan(self, perceived: Degradation | None) -> tuple[Suspect, ...]:
        return plan_for(perceived, self.settings, untouched=self.best is self.original)

    # -- treating

    def _treat(self) -> StopReason:
        perceived = self._perceive(self.original)
        if isinstance(perceived, Unparsed) or isinstance(self.questions.score(self.original), Unparsed):
            return "unparsed"
        in_original = {suspect.treatment for suspect in self._plan(perceived)}
        failed: set[Treatment] = set()
        untreatable: set[Treatment] = set()
        redone: set[Treatment] = set()
        while True:
            plan = self._plan(perceived)
            open_suspects = [suspect for suspect in plan if self._is_open(suspect.treatment, failed | untreatable)]
            if not open_suspects:
                return self._conclude(plan, untreatable)
            suspect = open_suspects[0]
            entries = choose_tools(self.toolbox, suspect.treatment, suspect.severity, self.settings.tools_per_step)
            if not entries:
                untreatable.add(suspect.treatment)
                self.journal.close_step("treat", suspect.treatment, suspect.severity, self.best, perceived, [], None)
                continue
            taken = self._step("treat", suspect, self.best, perceived, entries)
            if taken is None and self._may_redo(suspect.treatment, in_original, redone):
                redone.add(suspect.treatment)
                taken = self._step("redo", suspect, self.original, perceived, entries)
            if taken is None:
                failed.add(suspect.treatment)
                continue
            # The picture has changed: what failed on the former one may succeed now.
            failed.clear()
            perceived = self._perceive(self.best)
            if isinstance(perceived, Unparsed):
                return "unparsed"

    def _is_open(self, treatment: Treatment, closed: set[Treatment]) -> bool:
        return treatment not in closed and self.best.treated.count(treatment) < self.settings.repeats

    def _may_redo(self, treatment: Treatment, in_original: set[Treatment], redone: set[Treatment]) -> bool:
        changed = self.best is not self.original
        return self.settings.redo and changed and treatment in in_original and treatment not in redone

    def _conclude(self, plan: Sequence[Suspect], untreatable: set[Treatment]) -> StopReason:
        if self.best is not self.original:
            return "no-further-improvement" if plan else "done"
        if not plan:
            return "clean"
        return "no-tools" if all(suspect.treatment in untreatable for suspect in plan) else "no-improvement"

    # -- one step

    def _step(
        self,
        kind: StepKind,
        suspect: Suspect,
        start: Candidate,
        perceived: Degradation | Unparsed | None,
        entries: Sequence[Entry],
        best: Candidate | None = None,
    ) -> Candidate | None:
        """Try ``entries`` on ``start``; the best accepted output becomes the current best and is returned."""
        self.spending.begin_step()
        number = len(self.journal.steps) + 1
        self.journal.tell("step", f"{kind} {suspect.treatment} from {start.id}", number, suspect.treatment)
        baseline = Baseline(
            best=best or self.best,
            reference=self.reference,
            original=self.original,
            diagnosis=self.diagnosis if isinstance(self.diagnosis, Degradation) else None,
            clean_counts=self.settings.plan is None,
        )
        tries: list[TryRecord] = []
        winner: tuple[float, Candidate] | None = None
        over: OverBudget | None = None
        for entry in entries:
            try:
                candidate, judgement = self._try(entry, start, suspect.treatment, baseline, number, tries)
            except OverBudget as error:
                over = error
                break
            if candidate is None or judgement is None or not judgement.accepted or judgement.score_after is None:
                continue
            value = -judgement.score_after if self.questions.critic.lower_better else judgement.score_after
            if winner is None or value > winner[0]:
                winner = (value, candidate)
        taken = None if winner is None else winner[1]
        if taken is not None:
            self.best = taken
        severity = None if kind == "upscale" else suspect.severity
        self.journal.close_step(kind, suspect.treatment, severity, start, perceived, tries, taken)
        if over is not None:
            raise over
        return taken

    def _try(
        self,
        entry: Entry,
        start: Candidate,
        treatment: Treatment,
        baseline: Baseline,
        number: int,
        tries: list[TryRecord],
    ) -> tuple[Candidate | None, Judgement | None]:
        """Run and judge one tool; its record is appended to ``tries`` even when the budget ends the judging."""
        info = entry.info
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
                judgement = judge(candidate, treatment, baseline, self.questions, self.settings.judge)
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
        return candidate, judgement

    # -- the size asked for

    def _upscale(self, reason: StopReason) -> StopReason:
        start = self.best
        if start is self.original:
            bicubic = self.reference = self.journal.add(enlarge(start.image, self.scale), start, "bicubic", None)
        else:
            self.reference = self.journal.add(enlarge(self.original.image, self.scale), self.original, "bicubic", None)
            bicubic = self.journal.add(enlarge(start.image, self.scale), start, "bicubic", None)
        suspect = Suspect("low-resolution", UNKNOWN_SEVERITY)
        recorded = len(self.journal.steps)
        taken: Candidate | None = None
        if reason not in FINAL and "low-resolution" not in self.settings.exclude:
            entries = choose_tools(
                self.toolbox, "low-resolution", UNKNOWN_SEVERITY, self.settings.tools_per_step, self.scale
            )
            try:
                if entries:
                    taken = self._step("upscale", suspect, start, self.final_diagnosis, entries, bicubic)
            except OverBudget as over:
                reason = over.reason
                taken = None if self.best is start else self.best
        if taken is not None:
            changed: dict[StopReason, StopReason] = {
                "clean": "done",
                "no-tools": "no-further-improvement",
                "no-improvement": "no-further-improvement",
            }
            return changed.get(reason, reason)
        self.best = bicubic
        if len(self.journal.steps) == recorded:
            self.journal.close_step("upscale", "low-resolution", None, start, self.final_diagnosis, [], None)
        return reason if reason in FINAL else "bicubic"
