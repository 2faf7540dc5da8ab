"""``iqloop rerank``: several candidates of a generator, and which of them is best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents.choose import Sample
    from iqloop.agents.ranking import By
    from iqloop.critic.protocol import Critic

GENERATOR = "ldm-mini-x2"
"""The pipeline that an image is given to unless another is named."""
LARGEST = 1.0
"""Megapixels of an image that a pipeline is given whole."""
_IMAGE = click.Path(dir_okay=False)


@click.command("rerank")
@click.argument("image", type=_IMAGE, required=False)
@click.option(
    "--pipeline",
    metavar="NAME_OR_PATH",
    help=f"A diffusers pipeline: {GENERATOR}, a folder, or OWNER/NAME on the hub.  [default: {GENERATOR}]",
)
@click.option(
    "--tool",
    metavar="NAME",
    help="A restoration tool with a seed instead: of  iqloop tools, or NAME=FOLDER, a pipeline that is run in tiles.",
)
@click.option("-n", "--candidates", "count", type=click.IntRange(1), default=8, show_default=True, help="How many.")
@click.option(
    "--steps", type=click.IntRange(1), help="Of each candidate.  [default: the pipeline's; 10 for the own one]"
)
@click.option("--prompt", help="What the image shows, or is to show.")
@click.option("--negative-prompt", help="What it is not to show.")
@click.option(
    "--mask", type=_IMAGE, metavar="FILE", help="Of an inpainting: white where something new is to be painted."
)
@click.option(
    "--strength", type=click.FloatRange(0, 1, min_open=True), help="Share of the schedule that an image goes."
)
@click.option("--guidance", type=float, help="Weight of the prompt.  [default: the pipeline's]")
@click.option("--size", metavar="WxH", help="Of an image that is made from a text, in pixels.")
@click.option(
    "--keep-colours/--own-colours",
    default=None,
    help="The image's colours, and only light and shade of what is made, or all of it.  [default: own, but for the "
    "package's generator]",
)
@click.option(
    "--by",
    type=click.Choice(["score", "comparison", "hybrid"]),
    help="As of  iqloop rank.  [default: hybrid if the critic compares, else score]",
)
@click.option(
    "--prune",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of the candidates that is left halfway, the worst by what they are to become; 0 finishes all.  "
    "[default: 0.5]",
)
@click.option(
    "--scorer",
    "scorers",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="A further critic whose standardised score is added to that of --critic, such as one of a plug-in that rates "
    "how well a prompt is met; it is given --prompt if it takes one. Repeatable.",
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the candidates, the best one and manifest.json.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Draw a contact sheet as well.")
@click.option("--resume", is_flag=True, help="Go on with -o: candidates that are there are not made again.")
@click.option("--overwrite", is_flag=True, help="Replace what is in -o.")
@options.ask_critic(decoding=True)
@options.talk
def command(
    image: str | None,
    pipeline: str | None,
    tool: str | None,
    count: int,
    out: Path,
    by: str | None,
    prune: float | None,
    scorers: tuple[str, ...],
    html: Path | None,
    resume: bool,
    overwrite: bool,
    choice: options.CriticChoice,
    console: Console,
    **asked: Any,
) -> int:
    """Make several candidates and put the best first: enlarged photographs, images from a text, filled-in holes.

    Candidate i has the seed --seed + i and is made alone: the same again with -n 1 and that seed. IMAGE is enlarged or
    refined; a pipeline that makes images from a text takes none.
    """
    from iqloop.agents.choose import PRUNE, choose
    from iqloop.io.files import refuse_existing
    from iqloop.recipes.loading import load_critic
    from iqloop.recipes.rank.command import settle
    from iqloop.recipes.rerank.manifest import open_manifest
    from iqloop.recipes.rerank.tell import draw, tell

    if pipeline and tool:
        raise UsageError("--pipeline and --tool both make candidates: give one of them")
    if html is not None:
        refuse_existing(html, overwrite or resume)
    pixels = None if image is None else _read(image, console)
    generator, made_by = _generator(pipeline, tool, pixels, asked, choice, console)
    critic = load_critic(choice, ("score", "compare") if by == "comparison" else ("score",))
    more = _scorers(scorers, asked["prompt"], choice)
    way: By = "score" if more else settle(cast("By | None", by), critic, console)
    manifest = open_manifest(out, made_by, image, PRUNE if prune is None else prune, resume, overwrite)
    with console.progress(count, "making") as progress:

        def keep(samples: Sequence[Sample]) -> None:
            manifest.keep(samples)
            progress.advance(len(samples))

        ready = manifest.ready(range(choice.seed, choice.seed + count))
        progress.advance(len(ready))
        found = choose(
            generator,
            count,
            critic=critic,
            seed=choice.seed,
            by=way,
            prune=manifest.prune,
            reference=pixels,
            scorers=more,
            on_samples=keep,
            ready=ready,
        )
    manifest.finish(found, critic, [scorer.name for scorer, _ in more])
    result = tell(found, manifest, critic, console)
    if html is not None:
        draw(html, result, manifest, image, overwrite or resume)
    return failures.SOME_FAILED if console.failed else failures.DONE


def _read(name: str, console: Console) -> Tensor:
    from iqloop.recipes.inputs import first_frame, gather

    (source,) = gather([name])
    return first_frame(source.read(), source, console)


def _generator(
    pipeline: str | None,
    tool: str | None,
    pixels: Tensor | None,
    asked: dict[str, Any],
    choice: options.CriticChoice,
    console: Console,
) -> tuple[Any, dict[str, Any]]:
    """What makes candidates, and what a manifest says of it."""
    from iqloop.agents.choose import generator_of
    from iqloop.recipes.loading import tool_device

    place = tool_device(choice.device)
    if tool is not None:
        if pixels is None:
            raise UsageError("--tool restores an image: name one")
        fitting = ("steps", "prompt", "strength", "keep_colours")
        unfit = [key for key, value in asked.items() if value is not None and key not in fitting]
        if unfit:
            raise UsageError(f"--tool takes no --{unfit[0].replace('_', '-')}: leave it out, or use --pipeline")
        restorer = _tool(tool, asked, place)
        tried: Any = generator_of(restorer, pixels, None, {"keep_colours": asked["keep_colours"]}, None)
        said = {"tool": restorer.info.name, "version": restorer.info.version, "keep_colours": tried.keep_colours}
        return tried, said
    if pixels is None and pipeline is None:
        raise UsageError(
            f"name an IMAGE to enlarge with {GENERATOR}, or a --pipeline that makes images from a --prompt"
        )
    if pixels is not None and pixels.shape[-1] * pixels.shape[-2] > LARGEST * 1e6:
        raise UsageError(
            f"the image has {pixels.shape[-1] * pixels.shape[-2] / 1e6:.1f} megapixels, a pipeline is given at most "
            f"{LARGEST:g} at once: cut out what matters, or use  --tool {pipeline or GENERATOR}, which works in tiles"
        )
    name = pipeline or GENERATOR
    if asked["steps"] is None and name == GENERATOR:
        asked["steps"] = STEPS
    mask = None if asked["mask"] is None else _read(asked["mask"], console).mean(0, keepdim=True)
    size = None if asked["size"] is None else _size(asked["size"])
    request = {key: value for key, value in asked.items() if key not in ("mask", "size")} | {"size": size}
    made: Any = generator_of(name, pixels, mask, request, place)
    from iqloop.restorers.diffusion.opening import version_of

    told = {key: value for key, value in asked.items() if value is not None and key != "mask"}
    told["keep_colours"] = made.request.keep_colours
    return made, {"pipeline": name, "kind": made.kind, "version": version_of(name, made.pipeline), **told}


STEPS = 10
"""Of the embedded generator unless told: more change little (docs/benchmarks/rerank.md)."""


def _tool(name: str, asked: dict[str, Any], place: str) -> Any:
    from iqloop.restorers import default_registry
    from iqloop.restorers.diffusers_tool import load_pipeline_tool
    from iqloop.restorers.diffusion.opening import EMBEDDED

    called, equals, folder = name.partition("=")
    where = EMBEDDED.get(name) or (Path(folder) if equals else Path(name) if Path(name).is_dir() else None)
    if where is None or not where.is_dir():
        unfit = [key for key, value in asked.items() if value is not None and key != "keep_colours"]
        if unfit:
            raise UsageError(f"--{unfit[0]} is for pipelines, {name} is none: leave it out")
        registry = default_registry()
        return registry.get(registry.add_file(name, place).name if equals else name)
    steps = asked["steps"] or (STEPS if name in EMBEDDED else None)
    return load_pipeline_tool(
        where,
        called if equals or name in EMBEDDED else None,
        device=place,
        prompt=asked["prompt"] or "",
        strength=asked["strength"],
        steps=steps,
    )


def _size(text: str) -> tuple[int, int]:
    """``WxH`` as height and width."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UsageError(f"--size takes WxH in pixels, such as 512x512, got {text!r}")
    return int(height), int(width)


def _scorers(named: tuple[str, ...], prompt: str | None, choice: options.CriticChoice) -> list[tuple[Critic, float]]:
    """``NAME[=WEIGHT]`` as critics and weights; a plug-in's critic that takes a prompt is given it."""
    from dataclasses import replace

    from iqloop.critic.known import plugin_critics
    from iqloop.recipes.loading import load_critic

    found: list[tuple[Critic, float]] = []
    for text in named:
        name, equals, weight = text.partition("=")
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            raise UsageError(f"--scorer takes NAME or NAME=WEIGHT, got {text!r}") from None
        plugin = plugin_critics().get(name)
        if prompt is not None and plugin is not None and plugin.takes("prompt"):
            found.append((plugin.create({"prompt": prompt}), value))
        else:
            found.append((load_critic(replace(choice, name=name, more=())), value))
    return found
