"""The page ``docs/cli.md``, made of the help texts: ``python -m iqloop.recipes.help_page > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator

import click

WIDTH = 100
"""Columns of the help texts, whatever the terminal."""


def help_page() -> str:
    """The page as Markdown."""
    from iqloop.recipes.cli import cli

    parts = ["# The command line", "Made by `python -m iqloop.recipes.help_page`; do not edit."]
    for path, command in _walk("iqloop", cli):
        context = click.Context(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
        context.help_option_names = ["-h", "--help"]
        parts.append(f"## {path}\n\n```text\n{command.get_help(context).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The command and all below it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _walk(f"{path} {name}", found)


if __name__ == "__main__":
    click.echo(help_page(), nl=False)
