"""``iqloop train``: critics, the published recipes and the one of the embedded model; restorers."""

from __future__ import annotations

import click

from iqloop.recipes.lazy_group import LazyGroup

COMMANDS: dict[str, str] = {
    "critic": "Train a critic by reinforcement (GRPO, RL2R) on labelled images.",
    "judge": "Measure what a critic's answers are worth to the loop.",
    "mini": "Train qinsight-mini, the embedded critic, from nothing.",
    "nss": "Train nss-mini, the embedded critic by natural scene statistics.",
    "order": "Measure in which order to mend two degradations, from the tools at hand.",
    "diffusion": "Train a diffusion pipeline with the critic: from its preferences, or by its gradient.",
    "generator": "Train a small diffusion pipeline that enlarges photographs.",
    "restorer": "Train a small net that restores: noise, JPEG, blur, darkness, size.",
}
"""Each job and its help line. Its module is ``iqloop.recipes.train_NAME``, its click command ``command``."""


@click.group("train", cls=LazyGroup, lazy=COMMANDS, modules="iqloop.recipes.train.")
def command() -> None:
    """Train critics and restorers. Started again, a run resumes from its folder."""
