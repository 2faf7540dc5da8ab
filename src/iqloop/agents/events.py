"""What a run tells while it runs, for progress lines and for keeping intermediate images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from iqloop.agents.candidate import Candidate
from iqloop.restorers.tool import Treatment

EventKind = Literal["diagnosed", "step", "enlarged", "running", "judged", "decided", "stopped"]


@dataclass(frozen=True, eq=False)
class Event:
    """One thing that happened."""

    kind: EventKind
    message: str
    """One line for people."""
    step: int = 0
    """The step it belongs to, from 1; 0 outside of steps."""
    treatment: Treatment | None = None
    tool: str | None = None
    candidate: Candidate | None = None
    """With ``judged`` the output that was judged (None when the tool failed), with ``enlarged`` what interpolation made
    for comparison, with ``decided`` the new best, if any. Its image may be saved at once; keeping a reference keeps the
    memory."""


Listener = Callable[[Event], None]
