"""What sees: critics that score, perceive, compare and describe images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Preference, Provenance, Rating, Unparsed

if TYPE_CHECKING:
    from iqloop.critic.engine import QwenCritic
    from iqloop.critic.known import KNOWN, create_critic
    from iqloop.critic.protocol import Critic

__all__ = [
    "CLASSES",
    "KNOWN",
    "SEVERITIES",
    "Critic",
    "Degradation",
    "Preference",
    "Provenance",
    "QwenCritic",
    "Rating",
    "Unparsed",
    "create_critic",
]

_LAZY = {
    "Critic": "iqloop.critic.protocol",
    "KNOWN": "iqloop.critic.known",
    "QwenCritic": "iqloop.critic.engine",
    "create_critic": "iqloop.critic.known",
}


def __getattr__(name: str) -> Any:
    # torch is imported when a critic is made, not when its verdicts are named.
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
