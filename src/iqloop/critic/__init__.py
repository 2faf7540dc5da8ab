"""What sees: critics that score, perceive, compare and describe images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Preference, Provenance, Rating, Unparsed

if TYPE_CHECKING:
    from iqloop.critic.engine import QwenCritic
    from iqloop.critic.known import KNOWN, create_critic
    from iqloop.critic.loss import CriticLoss, ViewJitter
    from iqloop.critic.metric import DifferentiableCritic, Metric, create_metric, list_metrics
    from iqloop.critic.protocol import Critic

__all__ = [
    "CLASSES",
    "KNOWN",
    "SEVERITIES",
    "Critic",
    "CriticLoss",
    "Degradation",
    "DifferentiableCritic",
    "Metric",
    "Preference",
    "Provenance",
    "QwenCritic",
    "Rating",
    "Unparsed",
    "ViewJitter",
    "create_critic",
    "create_metric",
    "list_metrics",
]

_LAZY = {
    "Critic": "iqloop.critic.protocol",
    "CriticLoss": "iqloop.critic.loss",
    "DifferentiableCritic": "iqloop.critic.metric",
    "KNOWN": "iqloop.critic.known",
    "Metric": "iqloop.critic.metric",
    "QwenCritic": "iqloop.critic.engine",
    "ViewJitter": "iqloop.critic.loss",
    "create_critic": "iqloop.critic.known",
    "create_metric": "iqloop.critic.metric",
    "list_metrics": "iqloop.critic.metric",
}


def __getattr__(name: str) -> Any:
    # torch is imported when a critic is made, not when its verdicts are named.
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
