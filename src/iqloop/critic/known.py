"""The critics that have a name, and how a name or a path becomes a critic."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from iqloop.critic.checkpoint import CheckpointSource
from iqloop.critic.engine import QwenCritic
from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1
from iqloop.critic.verdicts import DecodingMode
from iqloop.errors import UsageError

MINI_FOLDER = Path(__file__).resolve().parent.parent / "weights" / "qinsight-mini"
"""The embedded critic's checkpoint, inside the package."""

DEFAULT = "qinsight-mini"


@dataclass(frozen=True)
class KnownCritic:
    """What is known of a critic before it is loaded."""

    source: CheckpointSource
    summary: str
    """One line for ``iqloop metrics``."""
    score_range: tuple[float, float] = (1.0, 5.0)
    lower_better: bool = False


KNOWN: dict[str, KnownCritic] = {
    "qinsight-mini": KnownCritic(
        CheckpointSource("qinsight-mini", str(MINI_FOLDER), max_new_tokens=160, licence="Apache-2.0"),
        "embedded; trained here on synthetic degradations, reads an image's own pixels",
    ),
    "qinsight": KnownCritic(
        CheckpointSource(
            "qinsight",
            "ByteDance/Q-Insight",
            "score_degradation",
            ("score", "degradation"),
            Q_INSIGHT,
            licence="Apache-2.0",
        ),
        "Q-Insight 7B (Li et al. 2025): scores and names degradations",
    ),
    "qinsight-compare": KnownCritic(
        CheckpointSource(
            "qinsight-compare",
            "ByteDance/Q-Insight",
            "comparison",
            ("score", "compare-reference"),
            Q_INSIGHT,
            licence="Apache-2.0",
        ),
        "Q-Insight 7B, trained further to compare two outputs given their input",
    ),
    "visualquality-r1": KnownCritic(
        CheckpointSource(
            "visualquality-r1",
            "TianheWu/VisualQuality-R1-7B",
            "",
            ("score", "describe"),
            VISUALQUALITY_R1,
            2048,
            licence="Apache-2.0",
        ),
        "VisualQuality-R1 7B (Wu et al. 2025): ranks by reinforcement learning to rank",
    ),
}


def source_of(name: str) -> CheckpointSource:
    """The checkpoint that a name or a folder stands for; raises `UsageError` for anything else."""
    if name in KNOWN:
        return KNOWN[name].source
    folder = Path(name).expanduser()
    if folder.is_dir():
        return CheckpointSource(folder.name, str(folder))
    close = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"unknown critic {name!r}: expected one of {', '.join(KNOWN)}, or a checkpoint folder{hint}")


def create_critic(
    name: str = DEFAULT,
    *,
    device: str | None = None,
    dtype: str | None = None,
    decoding: DecodingMode = "expected",
    batch_size: int = 8,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> QwenCritic:
    """Load a critic by name or checkpoint folder.

    Args:
        name: one of `KNOWN`, or a folder with a Qwen2.5-VL checkpoint.
        device: torch device; None takes a GPU when there is one.
        dtype: float32, bfloat16 or float16; None is float32 on a CPU and bfloat16 on a GPU.
        decoding: how scores are read out; see `iqloop.critic.engine`.
        batch_size: views per forward.
        seed: for retries of answers that do not parse.
        max_new_tokens: bound on an answer's length; None is the checkpoint's own.
    """
    from iqloop.critic.checkpoint import load

    source = source_of(name)
    if max_new_tokens is not None:
        source = replace(source, max_new_tokens=max_new_tokens)
    return QwenCritic(load(source, device, dtype), decoding=decoding, batch_size=batch_size, seed=seed)
