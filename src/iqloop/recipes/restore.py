"""``iqloop restore``: the loop on files. Perceive, try, judge; keep only what is better, else the file as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.agents import Budget, Event, Toolbox
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.restore_file import Job, Manner, Restored
    from iqloop.recipes.restore_plan import Planned


def _list_of(name: str, text: str) -> Callable[[options.Command], options.Command]:
    return click.option(name, multiple=True, metavar="A,B", help=text)


@click.command("restore")
@options.inputs()
@options.writes("restored")
@click.option("--scale", type=click.Choice(["1", "2", "4"]), default="1", show_default=True, help="Size of the output.")
@_list_of("--plan", "Treat exactly these, in this order: noise, blur, compression, darken.")
@_list_of("--only", "Treat none but these.")
@_list_of("--exclude", "Never treat these.")
@options.model_files
@options.tiles
@click.option(
    "--search",
    type=click.Choice(["greedy", "none"]),
    default="greedy",
    show_default=True,
    help="greedy keeps the best accepted output of each step; none only looks.",
)
@click.option(
    "--trace", type=click.Path(path_type=Path), help="Write the run as JSON.  [default: OUT/.iqloop/NAME.json]"
)
@click.option("--keep-steps", is_flag=True, help="Keep every output that was judged, beside the trace.")
@click.option(
    "--resume", is_flag=True, help="Skip files whose output and trace are there and belong to the same input."
)
@click.option("--dry-run", is_flag=True, help="Only say what is wrong and what would be tried; write nothing.")
@options.metadata
@options.budgeted
@options.ask_critic(batched=False)
@options.talk
def command(
    inputs: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    scale: str,
    plan: tuple[str, ...],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    files: tuple[str, ...],
    tile: int | str | None,
    search: str,
    trace: Path | None,
    keep_steps: bool,
    resume: bool,
    dry_run: bool,
    keep_metadata: bool,
    budget: Budget,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Restore photographs, keeping only what the critic finds better.

    A photograph that nothing improves is copied byte for byte. FILE_OR_FOLDER may be - for one image on standard input
    (with -o - or -o FILE). Exit codes: 0 done, 1 some files failed, 2 wrong usage or a missing prerequisite, 3 no file
    improved.
    """
    from iqloop.agents import RestoreSettings
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.loading import load_critic, load_registry
    from iqloop.recipes.outputs import place
    from iqloop.recipes.restore_file import Manner, make_jobs, needs_work

    sources = gather(inputs, stream=True)
    targets = place(sources, out, "restored")
    if targets[0].path is None:
        if console.json and not dry_run:
            raise click.UsageError("--json and -o - both want standard output: write the image to a file")
        console.stdout_taken = True
    settings = RestoreSettings(
        search=search,  # type: ignore[arg-type]  # click.Choice
        plan=options.words(plan),  # type: ignore[arg-type]  # checked by the settings
        only=options.words(only),  # type: ignore[arg-type]
        exclude=options.words(exclude) or (),  # type: ignore[arg-type]
    )
    jobs = make_jobs(sources, targets, trace, keep_steps)
    if resume and any(job.trace is None for job in jobs):
        raise click.UsageError("--resume needs traces: write to a folder with -o FOLDER, or give --trace FILE")
    manner = Manner(settings, budget, int(scale), choice.seed, keep_metadata, overwrite, resume)
    tools = load_registry(files, choice.device, console.notice, tile)
    # A critic takes seconds to load: not for a folder that is done, or whose outputs may not be written.
    critic = load_critic(choice) if any(needs_work(job, manner) for job in jobs) else None
    run = _DryRun(critic, tools, manner, console) if dry_run else _Run(critic, tools, manner, console)
    with console.progress(len(jobs), "perceiving" if dry_run else "restoring") as progress:
        for job in jobs:
            try:
                run.one(job, alone=len(jobs) == 1)
            except BrokenPipeError:
                raise
            except Exception as error:
                console.fail(job.source.shown, error)
            progress.advance()
    if console.failed:
        return failures.SOME_FAILED
    return failures.DONE if run.useful else failures.NOT_IMPROVED


class _Run:
    """Restores one file after the other and reports each."""

    def __init__(self, critic: Critic | None, tools: Toolbox, manner: Manner, console: Console) -> None:
        self.critic, self.tools, self.manner, self.console = critic, tools, manner, console
        self.useful = False
        """Some output is more than a copy of its input."""

    def one(self, job: Job, alone: bool) -> None:
        """Restore one file. Raises whatever went wrong with it."""
        from iqloop.recipes import restore_report
        from iqloop.recipes.restore_file import restore_fields, restore_file

        done: Restored = restore_file(job, self.manner, self.critic, self.tools, self._listen)
        self.useful = self.useful or done.improved or self.manner.scale > 1
        self.console.fields(restore_fields(done))
        if not self.console.quiet:
            for line in restore_report.lines(done) if alone else [restore_report.summary(done)]:
                self.console.line(line)

    def _listen(self, event: Event) -> None:
        self.console.detail(event.message)


class _DryRun(_Run):
    """Says what a run would begin with."""

    def one(self, job: Job, alone: bool) -> None:
        """Perceive and plan one file."""
        from iqloop.recipes import restore_report
        from iqloop.recipes.restore_plan import plan_fields, plan_file

        looking = replace(self.manner, settings=replace(self.manner.settings, search="none"))
        planned: Planned = plan_file(job, looking, self.critic, self.tools, self._listen)
        self.useful = True
        self.console.fields(plan_fields(planned))
        for line in restore_report.plan_lines(planned):
            self.console.line(line)
