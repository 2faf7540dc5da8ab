"""Weighs the critic's answers by measured evidence, where there is some for this very critic."""

from __future__ import annotations

from collections.abc import Mapping

from iqloop.agents.candidate import Candidate, pixel_hash
from iqloop.agents.diagnosis import with_certainty
from iqloop.agents.evidence import Evidence, Features, Look, evidence_for, from_afar, measure
from iqloop.agents.fidelity import Fidelity
from iqloop.agents.questions import Questions
from iqloop.critic.verdicts import Degradation, Preference, Unparsed
from iqloop.restorers.full_reference import tensor_psnr as psnr
from iqloop.restorers.tool import Treatment


class Witness:
    """The evidence of one run; ``None`` answers say that there is none, and rules must do."""

    def __init__(self, questions: Questions, evidence: Evidence | None = None) -> None:
        critic = questions.critic
        found = evidence_for(critic.name, critic.version, evidence)
        self.evidence = found if "perceive" in critic.capabilities else None
        self.questions = questions
        self._measured: dict[str, tuple[Candidate, Features]] = {}
        """By hash: a picture seen from afar, and what was measured of it."""

    def promises(self, candidate: Candidate) -> Mapping[Treatment, float] | None:
        """For each treatment with evidence: the probability that its tool would improve the candidate.

        May raise `iqloop.agents.budget.OverBudget`, as `better` may.
        """
        if self.evidence is None:
            return None
        look = self._look(candidate)
        if isinstance(look, Unparsed):
            return None
        features = self.evidence.promising(look)
        return {treatment: one.probability(features) for treatment, one in self.evidence.promise.items()}

    def knows(self, treatment: Treatment) -> bool:
        """Whether outputs for a treatment can be weighed."""
        return self.evidence is not None and treatment in self.evidence.verdict

    def better(
        self, candidate: Candidate, start: Candidate, treatment: Treatment, kept: Fidelity
    ) -> tuple[float, Preference | None] | Unparsed:
        """Probability that a candidate is better than what it was made from, with the comparison that it rests on.

        ``kept`` is the candidate's fidelity to ``start``. Call it only where `knows` says so.
        """
        assert self.evidence is not None
        old, new = self._look(start), self._look(candidate)
        for look in (old, new):
            if isinstance(look, Unparsed):
                return look
        assert isinstance(old, Look) and isinstance(new, Look)
        preference = self.questions.compare(candidate, start, start)
        if isinstance(preference, Unparsed):
            return preference
        chance = None if preference is None else preference.probability
        features = self.evidence.deciding(old, new, kept, psnr(candidate.image, start.image), chance)
        return self.evidence.verdict[treatment].probability(features), preference

    def _look(self, candidate: Candidate) -> Look | Unparsed:
        rating, perceived = self.questions.score(candidate), self.questions.perceive(candidate)
        if isinstance(rating, Unparsed):
            return rating
        if not isinstance(perceived, Degradation):
            assert perceived is not None, "only a critic that perceives has evidence"
            return perceived
        known = self._measured.get(candidate.sha256)
        if known is None:
            small = from_afar(candidate.image)
            known = (Candidate(f"{candidate.id} from afar", small, pixel_hash(small)), measure(candidate.image))
            self._measured[candidate.sha256] = known
        afar = self.questions.perceive(known[0])
        if not isinstance(afar, Degradation):
            assert afar is not None, "it perceives, as above"
            return afar
        return Look(rating, with_certainty(perceived), with_certainty(afar), known[1])
