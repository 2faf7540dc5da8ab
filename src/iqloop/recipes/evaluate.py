"""``iqloop evaluate``: how well a critic sees, as figures."""

from __future__ import annotations

import importlib

import click

COMMANDS: dict[str, str] = {
    "score": "Agreement of a critic's scores with people's.",
    "degradation": "Class and severity of distortions that are known.",
    "ranking": "Pairs that a critic orders as people do.",
    "stability": "Spread of drawn scores over seeds.",
}
"""Each measurement and its help line. Its module is ``iqloop.recipes.evaluate_NAME``, its click command ``command``."""


class Measurements(click.Group):
    """Imports a measurement's module only when it is invoked or helped."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one measurement."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"iqloop.recipes.evaluate_{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of measurements, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("evaluate", cls=Measurements)
def command() -> None:
    """Measure how well a critic sees.

    With -o FOLDER every answer is kept as it comes (predictions.jsonl), so that --resume goes on where a run was
    interrupted; the folder gets config.json, summary.json and the plots too.
    """
