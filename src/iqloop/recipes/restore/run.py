"""A run over many files: what is left to do, who does it, and what is said of it in the order of the inputs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from iqloop.recipes import failures
from iqloop.recipes.console import Console, complain, reason_for
from iqloop.recipes.machine import fitting_workers, on_gpu
from iqloop.recipes.restore import report as restore_report
from iqloop.recipes.restore import summary as restore_summary
from iqloop.recipes.restore.file import Failure, Restored, restore_fields
from iqloop.recipes.restore.jobs import Job, Manner, refuse_early
from iqloop.recipes.restore.resume import Earlier, find_earlier, sweep
from iqloop.recipes.restore.site import Deadline, Result, Setup, Site, Task, Workplace, without_trace
from iqloop.recipes.restore.workers import Pool


class Run:
    """Restores files, and reports each as soon as those before it are done."""

    def __init__(
        self, jobs: Sequence[Job], setup: Setup, workers: int | None, deadline: Deadline, console: Console
    ) -> None:
        self.jobs, self.setup, self.workers, self.deadline, self.console = jobs, setup, workers, deadline, console
        self.manner = setup.manner
        self.began = time.monotonic()
        self.results: dict[int, Result] = {}
        self.told = 0
        """How many, from the first on, were reported."""

    def all(self) -> int:
        """Do what there is to do; the exit code."""
        if self.manner.resume:
            sweep(self.jobs)
        try:
            self._work()
        except KeyboardInterrupt:
            if len(self.jobs) == 1:
                raise
            done = sum(isinstance(result, Restored) and result.output is not None for result in self.results.values())
            complain(f"interrupted, {done} of {len(self.jobs)} done{self._way_on(': ')}")
            return failures.INTERRUPTED
        return self._conclude()

    def _work(self) -> None:
        tasks, earlier = self._survey()
        if not tasks and not earlier:
            self._report()
            return
        site = self._site(len(tasks) + len(earlier))
        try:
            self._restore(self._confirm(tasks, earlier, site), site)
        finally:
            site.close()
            if len(self.jobs) > 1:
                sweep(self.jobs)  # after workers that were killed

    def _restore(self, tasks: Sequence[Task], site: Site) -> None:
        shown = self.console.draws and len(self.jobs) > 1
        sizes = {task.index: restore_summary.megapixels(task.job.source) if shown else 0.0 for task in tasks}
        tally = restore_summary.Tally(sizes, site.size)
        with self.console.progress(len(self.jobs), "restoring", tally) as progress:
            for index, result in self.results.items():
                tally.add(index, result)
                progress.advance()
            self._report()
            for index, result in site.work(tasks, self.deadline):
                self.results[index] = result
                tally.add(index, result)
                progress.advance()
                self._report()

    def _survey(self) -> tuple[list[Task], dict[int, Earlier]]:
        """What is to do, and what was done already; what cannot be done becomes a result."""
        tasks, earlier = [], {}
        for index, job in enumerate(self.jobs):
            found = find_earlier(job, self.manner) if self.manner.resume else None
            if found is not None:
                earlier[index] = found
                continue
            error = _refusal(job, self.manner)
            if error is None:
                tasks.append(Task(index, job))
            else:
                self.results[index] = Failure(job.source.shown, reason_for(job.source.shown, error))
        return tasks, earlier

    def _site(self, files: int) -> Site:
        workers = self.workers
        if workers is None:
            threads = self.setup.threads
            workers = 1 if threads is None or on_gpu(self.setup.choice.device) else fitting_workers(files, threads)
        if min(workers, files) > 1:
            return Pool(self.setup, min(workers, files), self.console.notice, self.console.detail)
        return Workplace(self.setup, self.console.notice, self.console.detail)

    def _confirm(self, tasks: list[Task], earlier: dict[int, Earlier], site: Site) -> list[Task]:
        """Add what was done with other settings, or cut short; the rest of ``earlier`` becomes results."""
        changes: Counter[str] = Counter()
        critic = site.critic() if earlier else None
        again = []
        for index, found in earlier.items():
            different = found.differs(critic)
            changes.update(different)
            if different or (found.cut and not found.final):
                again.append((index, bool(different)))
            else:
                self.results[index] = found.done
        different_files = sum(different for _, different in again)
        if different_files:
            what = ", ".join(sorted(changes))
            self.console.notice(f"{different_files} of {len(self.jobs)} were restored with another {what}: done again")
        redone = [Task(index, self.jobs[index], ours=True) for index, _ in again]
        return sorted([*tasks, *redone], key=lambda task: task.index)

    def _report(self) -> None:
        """Say what is next in order, as far as it is there."""
        while (result := self.results.get(self.told)) is not None:
            self.told += 1
            self._tell(result)
            self.results[self.told - 1] = without_trace(result)

    def _tell(self, result: Result) -> None:
        if isinstance(result, Failure):
            if self.console.verbose and result.details:
                sys.stderr.write(result.details)
            self.console.fail(result.path, result.reason)
            return
        self.console.fields(restore_fields(result))
        if not self.console.quiet:
            alone = len(self.jobs) == 1
            for line in restore_report.lines(result) if alone else [restore_report.summary(result)]:
                self.console.line(line)

    def _conclude(self) -> int:
        results = [self.results[index] for index in range(len(self.jobs))]
        first = self.jobs[0]
        if first.target.folder is not None and (len(results) > 1 or first.source.root is not None):
            try:
                restore_summary.write_summary(first.target.folder, results)
            except Exception as error:
                self.console.fail(restore_summary.FILE, error)
        if len(results) > 1 and not self.console.json:
            self.console.facts(restore_summary.facts(results, time.monotonic() - self.began))
        done = [result for result in results if not isinstance(result, Failure)]
        late = [result for result in done if result.stop_reason == "total-time-limit" and not result.earlier]
        if late:
            begun = sum(result.output is not None for result in late)
            cut = f", {begun} cut short" if begun else ""
            complain(f"the time is up: {len(late) - begun} of {len(results)} not begun{cut}{self._way_on(': ')}")
        if self.console.failed or late:
            return failures.SOME_FAILED
        useful = self.manner.scale > 1 or any(result.improved for result in done)
        return failures.DONE if useful else failures.NOT_IMPROVED

    def _way_on(self, before: str) -> str:
        return "" if any(job.trace is None for job in self.jobs) else f"{before}go on with --resume"


def look(jobs: Sequence[Job], setup: Setup, console: Console) -> int:
    """``--dry-run``: only say what a run would begin with, here and one after the other; the exit code."""
    from iqloop.recipes.restore.plan import plan_fields, plan_file

    manner = replace(setup.manner, settings=replace(setup.manner.settings, search="none"))
    refused = {job: error for job in jobs if (error := _refusal(job, manner)) is not None}
    # A critic takes seconds to load: not for files that are refused.
    place = Workplace(setup, console.notice, console.detail) if len(refused) < len(jobs) else None
    with console.progress(len(jobs), "perceiving") as progress:
        for job in jobs:
            try:
                if place is None or job in refused:
                    raise refused[job]
                planned = plan_file(job, manner, place.judge, place.tools, lambda event: console.detail(event.message))
            except BrokenPipeError:
                raise
            except Exception as error:
                console.fail(job.source.shown, error)
            else:
                console.fields(plan_fields(planned))
                for line in restore_report.plan_lines(planned):
                    console.line(line)
            progress.advance()
    return failures.SOME_FAILED if console.failed else failures.DONE


def _refusal(job: Job, manner: Manner) -> Exception | None:
    """Why a file cannot be restored, as far as that is known before anything is loaded."""
    try:
        refuse_early(job, manner)
    except Exception as error:
        return error
    return None
