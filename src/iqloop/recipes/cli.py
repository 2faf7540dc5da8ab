"""The command line: ``iqloop COMMAND ...``. Commands are imported when they are asked for, so that help is instant.

Exit codes: 0 done; 1 some files failed; 2 wrong usage or a missing prerequisite; 3 no file improved; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

import iqloop
from iqloop.recipes import console, failures, waiting
from iqloop.recipes.lazy_group import LazyGroup

COMMANDS: dict[str, str] = {
    "restore": "Restore photographs, keeping only what the critic finds better.",
    "report": "Draw a restoration as one HTML page, from its trace.",
    "apply": "Run one restoration tool on images.",
    "score": "Score images with a critic.",
    "perceive": "Name what is wrong with images, and how much.",
    "describe": "Describe the quality of images in words.",
    "compare": "Say which of two images is better.",
    "rank": "Order images from best to worst.",
    "rerank": "Make several candidates with a diffusion pipeline, and put the best first.",
    "metrics": "List the critics, and which are at hand.",
    "models": "List the weights of critics and restorers, and fetch them.",
    "tools": "List the restoration tools, and add your own.",
    "distort": "Degrade clean images: seeded, at a chosen severity.",
    "train": "Train critics and restorers.",
    "evaluate": "Measure how well a critic sees.",
    "bench": "Measure speed and gain on this machine.",
    "serve": "Answer over HTTP: critic and restorer on this machine.",
    "cache": "Show or empty what is kept on disk for later runs.",
    "doctor": "Show what is installed: packages, devices, critics, caches.",
}
"""Each command and its help line. Its module is ``iqloop.recipes.NAME``, and its click command there ``command``."""


class CommandLine(LazyGroup):
    """The outermost group, whose errors become exit codes."""

    # mypy: click's two overloads differ in standalone_mode only, which is ours to choose
    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run and exit; `main` maps errors to exit codes."""
        main(args, prog_name or "iqloop", **extra)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"iqloop {iqloop.__version__}")
        ctx.exit()


@click.group(
    cls=CommandLine,
    lazy=COMMANDS,
    modules="iqloop.recipes.",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "IQLOOP"},
    epilog="Any option can be set in the environment: --seed of restore is IQLOOP_RESTORE_SEED.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Image restoration with a reasoning critic in the loop."""


def main(args: Sequence[str] | None = None, prog_name: str = "iqloop", **extra: Any) -> NoReturn:
    """Run the command line and exit; no traceback unless ``--verbose``."""
    waiting.sleep_soon()
    state = console.State()
    extra |= {"standalone_mode": False, "obj": state}
    with failures.as_exit_code(state) as outcome:
        result = click.Group.main(cli, args, prog_name, **extra)
        outcome.code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    sys.exit(outcome.code)
