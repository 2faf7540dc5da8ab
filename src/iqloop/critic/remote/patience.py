"""How long a question is insisted on: bounded tries, bounded pauses, and none at all for a server that has gone."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from iqloop.critic.remote.faults import Fault, fault_of
from iqloop.errors import CriticError

T = TypeVar("T")

LONGEST_PAUSE = 60.0
"""Seconds that one pause takes at most, whatever a server asks for."""
ALL_PAUSES = 120.0
"""Seconds that the pauses of one question take together at most."""
LATE_RETRIES = 1
"""Tries after one that waited in vain, at most: each costs minutes where others cost a pause."""
FAILURES = 3
"""So many questions that finally failed, one after the other, and the server is taken to have gone."""
LOOK_AGAIN = 10.0
"""Seconds after which a server that has gone is looked at again."""


def pause_before(attempt: int, fault: Fault, jitter: Callable[[], float]) -> float:
    """Seconds before try ``attempt`` (1 is the second): what the server asks for, or twice as long each time.

    ``jitter`` is uniform in [0, 1); it spreads the tries of many clients and changes no result.
    """
    base = fault.retry_after if fault.retry_after is not None else 0.5 * 2 ** (attempt - 1)
    return float(min(base * (1 + jitter() / 2), LONGEST_PAUSE))


@dataclass
class Patience:
    """The tries of all questions to one server; safe to share between threads."""

    url: str
    """How the server is named in errors."""
    is_alive: Callable[[], bool]
    """A cheap look whether it answers."""
    retries: int = 4
    """Tries after the first."""
    pause: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _jitter: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: int = 0
    _looked: float | None = None
    """When a server that seems to have gone was last looked at and did not answer."""
    _last: Fault | None = None

    def insist(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns, after as many tries as are due.

        Raises `CriticError` when all failed, and at once while the server does not answer.
        """
        self._require_presence()
        waited = 0.0
        attempt = 0
        while True:
            attempt += 1
            try:
                found = ask()
            except Exception as error:
                fault = fault_of(error)
                if fault is None:
                    raise
                pause = pause_before(attempt, fault, self._jitter)
                # While it is in doubt whether the server is there, one try is enough to find out.
                due = self.retries if self._failures < FAILURES else 0
                due = min(due, LATE_RETRIES) if fault.late else due
                if not fault.passing or attempt > due or waited + pause > ALL_PAUSES:
                    self._note(fault)
                    raise fault.final(self.url, attempt) from error
                self.pause(pause)
                waited += pause
            else:
                self._note(None)
                return found

    def _note(self, fault: Fault | None) -> None:
        with self._lock:
            self._failures = self._failures + 1 if fault is not None and fault.passing else 0
            self._last = fault

    def _require_presence(self) -> None:
        with self._lock:  # one looks, and the others wait for what it sees
            if self._failures < FAILURES:
                return
            recently = self._looked is not None and self.clock() - self._looked < LOOK_AGAIN
            if not recently and self.is_alive():
                self._looked = None
                return
            if not recently:
                self._looked = self.clock()
            last = self._last.what if self._last is not None else "failed"
        raise CriticError(
            f"{self.url} has gone: it {last}, and answers no more; start it again, then ask for what is missing"
        )
