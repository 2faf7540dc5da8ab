"""iqloop: an image-restoration loop with a reasoning critic.

    >>> import iqloop
    >>> "qinsight-mini" in iqloop.KNOWN
    True

What is listed here is the public API; heavy libraries are imported when a name is used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from iqloop import distort
    from iqloop.agents import (
        BestOf,
        Budget,
        Ranking,
        Restoration,
        RestoreSettings,
        best_of,
        profile,
        rank,
        rank_by_score,
        restore,
    )
    from iqloop.critic import Critic, Degradation, Preference, Rating, Unparsed
    from iqloop.critic.known import KNOWN, create_critic
    from iqloop.critic.loss import CriticLoss
    from iqloop.critic.metric import Metric, create_metric, list_metrics
    from iqloop.io import Photo, read, write
    from iqloop.restorers import Registry, Tool, ToolInfo, default_registry, load_tool

__all__ = [
    "KNOWN",
    "BestOf",
    "Budget",
    "Critic",
    "CriticLoss",
    "Degradation",
    "Metric",
    "Photo",
    "Preference",
    "Ranking",
    "Rating",
    "Registry",
    "Restoration",
    "RestoreSettings",
    "Tool",
    "ToolInfo",
    "Unparsed",
    "__version__",
    "best_of",
    "create_critic",
    "create_metric",
    "default_registry",
    "distort",
    "list_metrics",
    "load_tool",
    "profile",
    "rank",
    "rank_by_score",
    "read",
    "restore",
    "write",
]

_HOMES = {
    "KNOWN": "iqloop.critic.known",
    "create_critic": "iqloop.critic.known",
    "CriticLoss": "iqloop.critic.loss",
    "Metric": "iqloop.critic.metric",
    "create_metric": "iqloop.critic.metric",
    "list_metrics": "iqloop.critic.metric",
    "Critic": "iqloop.critic.protocol",
    "Degradation": "iqloop.critic.verdicts",
    "Preference": "iqloop.critic.verdicts",
    "Rating": "iqloop.critic.verdicts",
    "Unparsed": "iqloop.critic.verdicts",
    "BestOf": "iqloop.agents",
    "best_of": "iqloop.agents",
    "Budget": "iqloop.agents",
    "rank": "iqloop.agents",
    "Ranking": "iqloop.agents",
    "Restoration": "iqloop.agents",
    "profile": "iqloop.agents",
    "RestoreSettings": "iqloop.agents",
    "rank_by_score": "iqloop.agents",
    "restore": "iqloop.agents",
    "Photo": "iqloop.io",
    "read": "iqloop.io",
    "write": "iqloop.io",
    "Registry": "iqloop.restorers",
    "Tool": "iqloop.restorers",
    "ToolInfo": "iqloop.restorers",
    "default_registry": "iqloop.restorers",
    "load_tool": "iqloop.restorers",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "distort":
        return importlib.import_module("iqloop.distort")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
