"""Asking the critic: one question about one candidate, cached by content and counted against the budget.

An answer that is found on a disk is counted like one that was given: a run costs what it would cost without the disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import torch

from iqloop.agents.budget import Spending
from iqloop.agents.cache import Cache, Key
from iqloop.agents.candidate import Candidate
from iqloop.critic.fingerprint import fingerprint
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Degradation, Preference, Provenance, Rating, Unparsed

_Verdict = TypeVar("_Verdict", bound=Rating | Degradation | Preference | Unparsed)


class Questions:
    """A critic behind a cache and a budget. Any method may raise `iqloop.agents.budget.OverBudget`."""

    def __init__(self, critic: Critic, spending: Spending, cache: Cache) -> None:
        self.critic = critic
        self.spending = spending
        self.cache = cache.for_run()
        self.provenances: dict[str, list[Provenance]] = {}
        """For each question asked: the distinct origins of the answers, in order."""
        self._fingerprints: dict[str, str] = {}

    def score(self, candidate: Candidate) -> Rating | Unparsed:
        """The rating of a candidate; a rating that is not a finite number is `Unparsed`."""
        return self._ask("score", (candidate,), lambda: _finite(self.critic.score([candidate.image])[0]))

    def perceive(self, candidate: Candidate) -> Degradation | Unparsed | None:
        """What is wrong with a candidate; None when the critic cannot perceive."""
        if "perceive" not in self.critic.capabilities:
            return None
        return self._ask("perceive", (candidate,), lambda: self.critic.perceive([candidate.image])[0])

    def compare(self, a: Candidate, b: Candidate, reference: Candidate) -> Preference | Unparsed | None:
        """Which is better given the degraded input ``reference``; None when the critic cannot compare.

        The critic itself asks in both presentation orders (`iqloop.critic.protocol.Critic`).
        """
        if "compare" not in self.critic.capabilities:
            return None
        return self._ask(
            "compare", (a, b, reference), lambda: self.critic.compare([a.image], [b.image], [reference.image])[0]
        )

    def goodness(self, rating: Rating) -> float:
        """The rating as a number that rises with quality."""
        return -rating.mean if self.critic.lower_better else rating.mean

    def _ask(self, question: str, about: tuple[Candidate, ...], ask: Callable[[], _Verdict]) -> _Verdict:
        key: Key = (self.critic.name, self.critic.version, question, *(candidate.sha256 for candidate in about))
        known = cast(_Verdict | None, self.cache.answer(key))
        if known is not None:
            self.spending.critic_cache_hits += 1
        else:
            self.spending.call_critic()
            known = self._find_or_ask(question, about, ask)
            self.cache.keep_answer(key, known)
        origins = self.provenances.setdefault(question, [])
        if known.provenance not in origins:
            origins.append(known.provenance)
        return known

    def _find_or_ask(self, question: str, about: tuple[Candidate, ...], ask: Callable[[], _Verdict]) -> _Verdict:
        """The answer that the disk knows, or the critic's, which the disk then keeps."""
        disk = self.cache.disk
        key = self._disk_key(question, about)
        known = None if disk is None or key is None else cast(_Verdict | None, disk.answer(key))
        if known is not None:
            return known
        with torch.no_grad():
            known = ask()
        # Anew: a critic may load what answers, and can say who that is, when it is asked.
        key = self._disk_key(question, about)
        if disk is not None and key is not None:
            disk.keep_answer(key, known)
        return known

    def _disk_key(self, question: str, about: tuple[Candidate, ...]) -> Key | None:
        """Everything that the answer follows from; None when it is not to be kept."""
        # A hash is that of float32 values: two images of doubles may share it.
        if self.cache.disk is None or any(candidate.image.dtype != torch.float32 for candidate in about):
            return None
        known = self._fingerprints.get(question) or fingerprint(self.critic, question)
        if known is None:
            return None
        self._fingerprints[question] = known
        devices = (str(candidate.image.device) for candidate in about)
        return (known, question, *(candidate.sha256 for candidate in about), *devices)


def _finite(rating: Rating | Unparsed) -> Rating | Unparsed:
    if isinstance(rating, Unparsed) or (math.isfinite(rating.mean) and math.isfinite(rating.std)):
        return rating
    return Unparsed(rating.raw, f"expected a finite rating, got {rating.mean} +- {rating.std}", rating.provenance)
