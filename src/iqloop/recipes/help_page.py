"""The page ``docs/cli.md``, made of the help texts: ``python -m iqloop.recipes.help_page > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator

import click

FIELDS: dict[str, tuple[str, ...]] = {
    "score": (
        *("path", "score", "std", "metric", "lower_better", "range"),
        *("digit_mass", "unparsed", "answers"),
    ),
    "perceive": ("path", "distortion_class", "severity", "probabilities", "reasoning", "unparsed"),
    "describe": ("path", "description"),
    "compare": (
        *("a", "b", "preference", "probability", "reasoning"),
        *("method", "position_bias", "unparsed"),
    ),
    "rank": ("path", "rank", "strength", "error", "standard_error", "score", "group", "comparisons"),
    "rerank": ("path", "rank", "strength", "error", "standard_error", "score", "seed", "pruned"),
    "apply": ("input", "output", "tool", "seconds"),
    "restore": (
        *("input", "output", "steps", "stop_reason", "score_before", "score_after"),
        *("calls", "critic_calls", "seconds"),
    ),
    "report": ("input", "output"),
}
"""The fields of a line of ``--json``, by command; tested against what the commands print."""

_MEANING = """## Exit codes

0 done; 1 some files failed, each named on standard error, or were not begun in time; 2 wrong usage or a missing
prerequisite, with what mends it; 3 no file improved (`restore`: each output is a byte copy of its input); 130
interrupted.

## Lines of `--json`

One JSON object a line on standard output, nothing else there; a file that failed is `{"path", "error"}`. An unknown or
infinite number is `null`.

| command | fields |
|---|---|
"""
_EXPLAINED = """
`std`: deviation of the critic's own distribution, or of its drawn answers. `digit_mass`: probability of any
digit of the range where the rating was read out; low means a guess. `unparsed`: answers on the way that could
not be read. `answers`: every answer that was written. `preference`: `A`, `B` or `similar`; `probability`: that
A is better, ties split; `method`: `comparison` (both orders were asked) or `thurstone` (from two scores);
`position_bias`: mean probability of the image shown first, less one half. `strength`: log-strength of mean 0, or
by score the score; `standard_error`: of the strength, by score the rating's own deviation; `comparisons`: in how
many the image stood. `pruned`: the candidate was left halfway."""

WIDTH = 100
"""Columns of the help texts, whatever the terminal."""


def help_page() -> str:
    """The page as Markdown."""
    from iqloop.recipes.cli import cli

    rows = "\n".join(f"| {name} | {', '.join(fields)} |" for name, fields in FIELDS.items())
    parts = ["# The command line", "Made by `python -m iqloop.recipes.help_page`; do not edit."]
    parts.append(_MEANING + rows + "\n" + _EXPLAINED)
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
