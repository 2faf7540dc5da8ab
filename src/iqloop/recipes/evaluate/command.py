"""``iqloop evaluate``: how well a critic sees, as figures."""

from __future__ import annotations

import click

from iqloop.recipes.lazy_group import LazyGroup

COMMANDS: dict[str, str] = {
    "score": "Agreement of a critic's scores with people's.",
    "degradation": "Class and severity of distortions that are known.",
    "ranking": "Pairs that a critic orders as people do.",
    "comparison": "Pairs of which it is known which image is better.",
    "stability": "Spread of drawn scores over seeds.",
}
"""Each measurement and its help line. Its module is ``iqloop.recipes.evaluate_NAME``, its click command ``command``."""


@click.group("evaluate", cls=LazyGroup, lazy=COMMANDS, modules="iqloop.recipes.evaluate.")
def command() -> None:
    """Measure how well a critic sees.

    With -o FOLDER every answer is kept as it comes (predictions.jsonl), so that --resume goes on where a run was
    interrupted; the folder gets config.json, summary.json and the plots too.
    """
