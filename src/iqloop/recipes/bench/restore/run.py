"""One run of ``iqloop bench restore``: load, measure what is missing, tell and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iqloop.agents.settings import RestoreSettings
from iqloop.recipes import failures
from iqloop.recipes.bench.critic import machine
from iqloop.recipes.bench.measured import write_page
from iqloop.recipes.bench.restore import mixtures as bench_mixtures
from iqloop.recipes.bench.restore.cases import Wanted, cases, command_line
from iqloop.recipes.bench.restore.figures import summary
from iqloop.recipes.bench.restore.judge import Judged
from iqloop.recipes.bench.restore.measure import config, nets_of, rows_of, run
from iqloop.recipes.bench.restore.page import page
from iqloop.recipes.bench.restore.plot import gains_plot, oracle_plot
from iqloop.recipes.bench.restore.workers import Setup, Site, measured
from iqloop.recipes.bench.tools import use_threads
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate.run import Run
from iqloop.recipes.loading import load_critic, load_registry
from iqloop.recipes.options import CriticChoice

PAGE = "restore.md"


def command(
    asked: Mapping[str, Any],
    *,
    search: str,
    workers: int,
    threads: int | None,
    out: Path | None,
    resume: bool,
    tile: int | str | None,
    files: Sequence[str],
    choice: CriticChoice,
    console: Console,
) -> int:
    """Run it; ``asked`` holds fields of `Wanted`. Returns an exit code. Raises `UsageError` before the work."""
    wanted = Wanted(**asked, settings=RestoreSettings(search=search))
    threads = threads or (1 if workers > 1 else None)
    if threads is not None:
        use_threads(threads)
    mixtures = bench_mixtures.load(wanted.mixtures)
    mixtures.choose(wanted.only)
    registry = load_registry(files, choice.device, tile=tile)
    nets = nets_of(registry)
    critic = load_critic(choice)
    kept = Run(out, config(wanted, mixtures, critic, registry), resume)
    wished = cases(wanted, mixtures)
    site = Site(wanted, registry, critic, wished)
    setup = Setup(wanted, threads or 1, tile, tuple(files), choice)
    answers = run(
        [case.key for case in wished],
        site.each if workers == 1 else lambda keys: measured(setup, keys, workers),
        kept,
        console,
    )
    rows = rows_of(answers)
    if not rows:
        return failures.SOME_FAILED
    judged = judged_of(answers) if wanted.judge else None
    figures = summary(rows, judged, wanted.seed)
    for row in rows:
        console.fields(asdict(row))
    console.fields({"summary": figures})
    versions = ", ".join(f"{net.name} {net.version}" for net in nets)
    told = page(
        rows,
        judged,
        wanted,
        mixtures,
        command_line(wanted, choice.name, threads, workers),
        f"critic {critic.name} {critic.version}; {versions}",
        machine(("torch", "transformers")),
    )
    for line in told.splitlines():
        console.line(line)
    if out is not None:
        kept.finish(figures, {"gains": gains_plot(rows, wanted.seed), "oracle": oracle_plot(rows)})
        write_page(out / PAGE, told)
    return failures.SOME_FAILED if console.failed else failures.DONE


def judged_of(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Judged]]:
    """The judge's decisions of a run's answers, by photograph."""
    found: dict[str, list[Judged]] = {}
    for answer in answers.values():
        found.setdefault(answer["rows"][0]["photo"], []).extend(Judged(**fields) for fields in answer["judged"])
    return found
