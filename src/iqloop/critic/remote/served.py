"""What is known of the model that a server has: its prompts, its tasks, its views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqloop.critic.checkpoint import CheckpointSource, tie_band_of
from iqloop.critic.known import KNOWN, source_of
from iqloop.critic.locate import read_json
from iqloop.critic.prompts import VISUALQUALITY_R1, VISUALQUALITY_R1_DIRECT, Prompt, TaskName
from iqloop.critic.views import ViewPolicy
from iqloop.errors import UsageError


@dataclass(frozen=True)
class Served:
    """How a served model is asked."""

    prompts: Mapping[TaskName, Prompt]
    tasks: tuple[TaskName, ...]
    views: ViewPolicy
    """Published checkpoints get a whole image, within the budget of Qwen2.5-VL's processor."""
    max_new_tokens: int
    answer_begin: str = ""
    """What a reasoned answer is made to begin with."""
    tie_band: float | None = None
    """See `iqloop.critic.checkpoint.CheckpointSource.tie_band`."""
    template: str | None = None
    """The chat template, where the checkpoint's folder is on this machine."""


def served_as(model: str, base: str | None = None, thinking: bool = True) -> Served:
    """What a model is, by the folder of this machine that it is named after or by its name.

    Args:
        model: as the server calls it.
        base: the critic or folder whose prompts, tasks and views it has; None finds out: a folder is looked into, a
            name with "visualquality" in it is VisualQuality-R1, one with "mini" the embedded critic, and any other
            Q-Insight.
        thinking: False asks VisualQuality-R1 for its answer alone.
    """
    source = _source(model, base)
    prompts = source.prompts
    if not thinking:
        if prompts is not VISUALQUALITY_R1:
            raise UsageError(f"thinking=False is for visualquality-r1, got the model {model}: leave it out")
        prompts = VISUALQUALITY_R1_DIRECT
    folder = Path(source.location) / source.subfolder
    own: Mapping[str, Any] = {}
    if source.is_local:
        own = read_json(folder / "config.json").get("iqloop") or {}
    tasks = source.tasks or tuple(own.get("tasks", ("score", "degradation")))
    views = ViewPolicy.from_dict(own["views"]) if "views" in own else ViewPolicy()
    template = folder / "chat_template.jinja"
    return Served(
        prompts,
        tasks,
        views,
        source.max_new_tokens,
        str(own.get("answer_begin", "")),
        tie_band_of(source, own),
        template.read_text(encoding="utf-8") if source.is_local and template.is_file() else None,
    )


def _source(model: str, base: str | None) -> CheckpointSource:
    if base is not None:
        return source_of(base)
    name = Path(model).name.lower()
    if Path(model).is_dir():
        found = source_of(model)
        own = found.is_local and "iqloop" in read_json(Path(found.location) / found.subfolder / "config.json")
        if own or "visualquality" not in name:
            return found
    if "visualquality" in model.lower():
        return KNOWN["visualquality-r1"].source
    return KNOWN["qinsight-mini" if "mini" in name else "qinsight"].source
