"""What decides: diagnosis, plan, search, judge, budget and trace; ranking of candidates.

Names are imported when first used, so that importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqloop.agents.budget import Budget as Budget
    from iqloop.agents.cache import Cache as Cache
    from iqloop.agents.candidate import Candidate as Candidate
    from iqloop.agents.candidate import pixel_hash as pixel_hash
    from iqloop.agents.choose import BestOf as BestOf
    from iqloop.agents.choose import best_of as best_of
    from iqloop.agents.diagnosis import Suspect as Suspect
    from iqloop.agents.diagnosis import diagnose as diagnose
    from iqloop.agents.disk_cache import open_cache as open_cache
    from iqloop.agents.events import Event as Event
    from iqloop.agents.evidence import Evidence as Evidence
    from iqloop.agents.evidence import load_evidence as load_evidence
    from iqloop.agents.fidelity import Fidelity as Fidelity
    from iqloop.agents.fidelity import measure_fidelity as measure_fidelity
    from iqloop.agents.judge import Judgement as Judgement
    from iqloop.agents.judge import JudgeSettings as JudgeSettings
    from iqloop.agents.loop import Restoration as Restoration
    from iqloop.agents.loop import restore as restore
    from iqloop.agents.order import load_stages as load_stages
    from iqloop.agents.order import order_prior as order_prior
    from iqloop.agents.plan import make_plan as make_plan
    from iqloop.agents.ranking import Match as Match
    from iqloop.agents.ranking import Ranked as Ranked
    from iqloop.agents.ranking import Ranking as Ranking
    from iqloop.agents.ranking import rank as rank
    from iqloop.agents.ranking import rank_by_score as rank_by_score
    from iqloop.agents.ranking import rank_ratings as rank_ratings
    from iqloop.agents.settings import PROFILES as PROFILES
    from iqloop.agents.settings import RestoreSettings as RestoreSettings
    from iqloop.agents.settings import profile as profile
    from iqloop.agents.stop import STOP_REASONS as STOP_REASONS
    from iqloop.agents.stop import StopReason as StopReason
    from iqloop.agents.toolbox import Toolbox as Toolbox
    from iqloop.agents.trace import Trace as Trace
    from iqloop.agents.trace import to_document as to_document
    from iqloop.agents.trace import to_json as to_json
    from iqloop.agents.trace import trace_schema as trace_schema
    from iqloop.agents.trace import with_files as with_files
    from iqloop.agents.trace import without_times as without_times

_HOMES = {
    "choose": ("BestOf", "best_of"),
    "budget": ("Budget",),
    "cache": ("Cache",),
    "candidate": ("Candidate", "pixel_hash"),
    "diagnosis": ("Suspect", "diagnose"),
    "disk_cache": ("open_cache",),
    "events": ("Event",),
    "evidence": ("Evidence", "load_evidence"),
    "fidelity": ("Fidelity", "measure_fidelity"),
    "judge": ("JudgeSettings", "Judgement"),
    "loop": ("Restoration", "restore"),
    "order": ("load_stages", "order_prior"),
    "plan": ("make_plan",),
    "ranking": ("Match", "Ranked", "Ranking", "rank", "rank_by_score", "rank_ratings"),
    "settings": ("PROFILES", "RestoreSettings", "profile"),
    "stop": ("STOP_REASONS", "StopReason"),
    "toolbox": ("Toolbox",),
    "trace": ("Trace", "to_document", "to_json", "trace_schema", "with_files", "without_times"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "PROFILES",
    "STOP_REASONS",
    "BestOf",
    "Budget",
    "Cache",
    "Candidate",
    "Event",
    "Evidence",
    "Fidelity",
    "JudgeSettings",
    "Judgement",
    "Match",
    "Ranked",
    "Ranking",
    "Restoration",
    "RestoreSettings",
    "StopReason",
    "Suspect",
    "Toolbox",
    "Trace",
    "best_of",
    "diagnose",
    "load_evidence",
    "load_stages",
    "make_plan",
    "measure_fidelity",
    "open_cache",
    "order_prior",
    "pixel_hash",
    "profile",
    "rank",
    "rank_by_score",
    "rank_ratings",
    "restore",
    "to_document",
    "to_json",
    "trace_schema",
    "with_files",
    "without_times",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
