"""``iqloop apply``: one tool on every image, no questions asked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, inputs, options, outputs
from iqloop.recipes.console import Console
from iqloop.recipes.inputs import Filter, Input
from iqloop.recipes.outputs import Target

if TYPE_CHECKING:
    from iqloop.restorers.tool import Tool


@dataclass(frozen=True)
class Applied:
    """What came of one tool on one image."""

    input: str
    output: str
    tool: str
    seconds: float


def apply_tool(
    source: Input,
    target: Target,
    tool: Tool,
    *,
    seed: int = 0,
    overwrite: bool = False,
    keep_metadata: bool = True,
) -> Applied:
    """Run ``tool`` on one image and write the result; alpha, depth, greyscale and metadata are kept.

    Raises `iqloop.errors.ImageError` or `iqloop.errors.ToolError`.
    """
    from iqloop.restorers import restore_photo

    target.check(overwrite)
    photo = source.read()
    inputs.refuse_animation(photo, source.shown)
    began = time.monotonic()
    result = restore_photo(tool, photo, seed)
    seconds = time.monotonic() - began
    outputs.send(outputs.encoded(result, target, keep_metadata), target, overwrite)
    return Applied(source.shown, target.shown, tool.info.name, seconds)


def apply_fields(done: Applied) -> dict[str, Any]:
    """The line of ``--json``."""
    return {"input": done.input, "output": done.output, "tool": done.tool, "seconds": done.seconds}


@click.command("apply")
@click.argument("tool_name", metavar="TOOL")
@options.inputs()
@options.writes("restored")
@options.filtered
@options.on_device
@options.tiles
@options.seeded
@options.metadata
@options.model_files
@options.talk
def command(
    tool_name: str,
    inputs: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    chosen: Filter,
    device: str | None,
    tile: int | str | None,
    seed: int,
    keep_metadata: bool,
    files: tuple[str, ...],
    console: Console,
) -> int:
    """Run one restoration tool on images.

    TOOL is a name that `iqloop tools` lists, a model file (.safetensors, .pth) of any architecture that spandrel knows,
    or a folder of a diffusers pipeline. Nothing judges the result: `iqloop restore` does. FILE_OR_FOLDER may be - with
    -o - or -o FILE.
    """
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.loading import is_model_file, load_registry
    from iqloop.recipes.outputs import place

    sources = gather(inputs, stream=True, chosen=chosen, out=out)
    targets = place(sources, out, "restored")
    if console.json and targets[0].path is None:
        raise click.UsageError("--json and -o - both want standard output: write the image to a file")
    as_file = is_model_file(tool_name)
    registry = load_registry((*files, tool_name) if as_file else files, device, console.notice, tile)
    tool = registry.get(registry.names()[-1] if as_file else tool_name)
    console.stdout_taken = targets[0].path is None
    with console.progress(len(sources), tool.info.name) as progress:
        for source, target in zip(sources, targets, strict=True):
            try:
                done = apply_tool(source, target, tool, seed=seed, overwrite=overwrite, keep_metadata=keep_metadata)
            except BrokenPipeError:
                raise
            except Exception as error:
                console.fail(source.shown, error)
            else:
                console.fields(apply_fields(done))
                if not console.quiet:
                    console.line(f"{done.input} -> {done.output}  {done.tool}, {done.seconds:.2f} s")
            progress.advance()
    return failures.SOME_FAILED if console.failed else failures.DONE
