"""A click group that imports a command's module only when the command is invoked or helped, so that help is instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Knows its commands by name.

    A command is ``command`` in the module of its name behind ``modules``; where that is a package, in its
    ``command.py``.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, str], modules: str, **options: Any) -> None:
        """Hold the help line of each command, in the order of a user's interest, and where their modules are."""
        super().__init__(*arguments, **options)
        self.lazy, self.modules = lazy, modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were given."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.lazy:
            return None
        module = importlib.import_module(self.modules + cmd_name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(module.__name__ + ".command")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy.items()))
