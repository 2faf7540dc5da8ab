"""``iqloop report``: a restoration as a page to read, drawn from its trace and the images that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from iqloop.errors import ImageWriteError, UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.restore.jobs import TRACES


@dataclass(frozen=True)
class Source:
    """One trace."""

    path: Path
    relative: Path
    """Below the folder that was given, or the name alone."""
    named: bool
    """It was named itself, not found in a folder."""


@click.command("report")
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TRACE_OR_FOLDER...")
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    help="File, or folder (relative names are kept).  [default: NAME.html beside the trace]",
)
@click.option(
    "--images",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Look for the trace's images here too, as for originals that lie elsewhere. Repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace pages that exist.")
@options.talk
def command(
    traces: tuple[Path, ...], out: Path | None, images: tuple[Path, ...], overwrite: bool, console: Console
) -> int:
    """Draw a restoration as one HTML page, from its trace.

    The page holds everything it shows: before and after, each try with the critic's reasons, scores and cost. Images
    are looked for about the trace and in the current folder, and shown only if they are those of the run; pictures of
    the tries need  iqloop restore --keep-steps. Exit codes: 0 done, 1 some pages failed, 2 wrong usage or no trace.
    """
    sources = list(find_traces(traces))
    if not sources:
        raise UsageError(f"no traces in {', '.join(map(str, traces))}: name the output folder of  iqloop restore")
    targets = place(sources, out)
    with console.progress(len(sources), "drawing") as progress:
        for source, target in zip(sources, targets, strict=True):
            try:
                missing = draw(source.path, target, images, overwrite)
            except (UsageError, ImageWriteError) as error:
                if len(sources) == 1 and isinstance(error, UsageError):
                    raise UsageError(f"{source.path}: {error}") from error
                console.fail(str(source.path), error)
            else:
                console.fields({"input": str(source.path), "output": str(target)})
                if missing:
                    console.notice(f"{source.path}: {missing}")
                if not console.quiet:
                    console.line(f"{source.path} -> {target}")
            progress.advance()
    return failures.SOME_FAILED if console.failed else failures.DONE


def draw(trace: Path, target: Path, images: Sequence[Path], overwrite: bool) -> str:
    """Write the page of one trace; return what is missing of before and after, if anything.

    Raises `UsageError` for what is no trace, `ImageWriteError` for a page that cannot be written.
    """
    from iqloop.io.files import refuse_existing, write_bytes_atomic
    from iqloop.recipes.report.images import gather, search_folders
    from iqloop.recipes.report.json import read_trace
    from iqloop.recipes.report.page import draw_page

    document = read_trace(trace)
    refuse_existing(target, overwrite)
    try:
        pictures = gather(document, search_folders(trace, images))
        page = draw_page(document, pictures, trace.stem)
    except RecursionError:
        raise UsageError("not a trace: its values are nested too deeply") from None
    write_bytes_atomic(target, page.encode(), overwrite)
    ends = (("before", pictures.before), ("after", pictures.after))
    return "; ".join(f"the picture {when} is not shown: {one.reason}" for when, one in ends if not one.url)


def find_traces(given: Sequence[Path]) -> Iterator[Source]:
    """The traces: files that are named, and in folders (hidden ones too) every JSON file that is a trace."""
    from iqloop.recipes.report.json import read_trace

    for path in given:
        if not path.is_dir():
            yield Source(path, Path(path.name), named=True)
            continue
        for file in sorted(path.rglob("*.json")):
            try:
                read_trace(file)
            except UsageError:
                continue
            # The folder of traces is hidden; pages in a folder that was asked for are not.
            below = [part for part in file.relative_to(path).parts if part != TRACES]
            yield Source(file, Path(*below), named=False)


def place(sources: Sequence[Source], out: Path | None) -> list[Path]:
    """Where each page goes. Raises `UsageError` when ``out`` cannot mean what it would have to."""
    if out is None:
        return [source.path.with_suffix(".html") for source in sources]
    if not out.is_dir() and out.suffix.lower() in (".html", ".htm"):
        if len(sources) > 1 or not sources[0].named:
            raise UsageError(f"-o {out} names one file but there may be many traces: give a folder")
        return [out]
    targets = [out / source.relative.with_suffix(".html") for source in sources]
    if twice := {target for target in targets if targets.count(target) > 1}:
        raise UsageError(f"several traces would become {min(twice)}: draw them into different folders")
    return targets
