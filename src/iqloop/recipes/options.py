"""Options that several commands share; each decorator hands the command one value instead of many flags."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from iqloop.agents.budget import Budget
from iqloop.recipes.console import Console, State
from iqloop.recipes.inputs import Filter

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_CRITIC = "qinsight-mini"
"""`iqloop.critic.known.DEFAULT`, which cannot be imported here: it would load torch for ``--help``."""
_LIMITS = Budget()


@dataclass(frozen=True)
class CriticChoice:
    """Which critic, and how it runs."""

    name: str = DEFAULT_CRITIC
    device: str | None = None
    dtype: str | None = None
    seed: int = 0
    batch_size: int = 8
    decoding: str = "expected"
    samples: int = 1
    more: tuple[str, ...] = ()
    """Further options of `iqloop.create_critic`, as ``KEY=VALUE``."""


def inputs(required: bool = True, name: str = "inputs") -> Callable[[Command], Command]:
    """Files, folders or ``-``."""
    return click.argument(name, nargs=-1, required=required, type=click.Path(), metavar="FILE_OR_FOLDER...")


def talk(command: Command) -> Command:
    """``--json --quiet --verbose``, handed over as ``console``."""

    @click.option("--json", "as_json", is_flag=True, help="JSON Lines on standard output, and nothing else there.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress and no notices; errors only.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on standard error; show tracebacks.")
    @click.pass_context
    @functools.wraps(command)
    def with_console(ctx: click.Context, /, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> Any:
        state = ctx.find_object(State)
        if state is not None:
            state.verbose, state.quiet = verbose, quiet
        return command(console=Console(as_json, quiet, verbose), **options)

    return with_console  # type: ignore[return-value]


def ask_critic(batched: bool = True, decoding: bool = False) -> Callable[[Command], Command]:
    """``--critic --device --dtype --seed --critic-option`` (``--batch-size --decode --samples``), as ``choice``."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_choice(
            critic: str, device: str | None, dtype: str | None, seed: int, more: tuple[str, ...], **options: Any
        ) -> Any:
            fields = {key: options.pop(key) for key in ("batch_size", "decoding", "samples") if key in options}
            if "decoding" not in fields:  # a command without the flag takes it as an option like any other
                said = [text for text in more if text.replace(" ", "").startswith("decoding=")]
                more = tuple(text for text in more if text not in said)
                if said:
                    fields["decoding"] = said[-1].partition("=")[2].strip()
            elif fields["decoding"] is None:
                # Samples are written answers: whoever asks for several wants them.
                fields["decoding"] = "reason" if fields["samples"] > 1 else "expected"
            return command(choice=CriticChoice(critic, device, dtype, seed, more=more, **fields), **options)

        wrapped: Any = click.option(
            "--critic-option",
            "more",
            multiple=True,
            metavar="KEY=VALUE",
            help="Another option of iqloop.create_critic, such as thinking=false, max_new_tokens=300 or "
            "quantization=4bit. Repeatable.",
        )(with_choice)
        if decoding:
            wrapped = click.option(
                "--samples",
                type=click.IntRange(1),
                default=1,
                show_default=True,
                help="Written answers per image, drawn by --seed: mean and deviation of the score.",
            )(wrapped)
            wrapped = click.option(
                "--decode",
                "--decoding",
                "decoding",
                type=click.Choice(["expected", "reason", "reason+expected"]),
                help="How a score is read out: expectation over the digits, a written answer, or both.  "
                "[default: expected; reason with --samples]",
            )(wrapped)
        if batched:
            wrapped = click.option(
                "--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Images per forward pass."
            )(wrapped)
        wrapped = seeded(wrapped)
        wrapped = click.option(
            "--dtype",
            envvar="IQLOOP_DTYPE",
            type=click.Choice(["float32", "bfloat16", "float16"]),
            help="Precision of the critic.  [default: float32 on a CPU, bfloat16 on a GPU]",
        )(wrapped)
        wrapped = on_device(wrapped)
        return click.option(  # type: ignore[no-any-return]
            "--critic",
            envvar="IQLOOP_CRITIC",
            default=DEFAULT_CRITIC,
            show_default=True,
            metavar="NAME|FOLDER|URL",
            help="A critic of `iqloop metrics`, a checkpoint or adapter folder, pyiqa:NAME, or a model on a server: "
            "http://HOST:PORT/v1#MODEL.",
        )(wrapped)

    return decorate


def on_device(command: Command) -> Command:
    """``--device``."""
    text = "cpu, cuda, cuda:1, mps.  [default: a GPU when there is one]"
    return click.option("--device", envvar="IQLOOP_DEVICE", help=text)(command)


def seeded(command: Command) -> Command:
    """``--seed``."""
    text = "The same seed gives the same result."
    return click.option("--seed", type=int, default=0, show_default=True, help=text)(command)


def writes(suffix: str) -> Callable[[Command], Command]:
    """``--output --overwrite``; ``suffix`` is what one file's output is called by."""

    def decorate(command: Command) -> Command:
        out = click.option(
            "-o",
            "--output",
            "out",
            type=click.Path(path_type=Path),
            help="File or folder (relative names are kept), - for standard output.  "
            f"[default: NAME.{suffix}.EXT beside the file]",
        )
        over = click.option(
            "--overwrite", is_flag=True, help="Replace outputs that exist, in place if they are inputs."
        )
        return out(over(command))

    return decorate


def clean_photos(command: Command) -> Command:
    """``--photos``."""
    text = "Folder of clean photographs.  [default: scikit-image's]"
    return click.option("--photos", type=click.Path(path_type=Path), help=text)(command)


def training_study(command: Command) -> Command:
    """``--critic --data -o`` of benches that train several runs from the same weights, and go on where they stopped."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("-o", "--out", type=path, required=True, help="Folder of the runs; resumed from."),
        click.option("--data", type=path, required=True, help="Folder with photos/train, photos/val and rated/*.csv."),
        click.option(
            "--critic", default=DEFAULT_CRITIC, show_default=True, help="Name or folder of what all start from."
        ),
    ):
        command = option(command)
    return command


def result_file(text: str) -> Callable[[Command], Command]:
    """``--output --overwrite`` of a command that writes one file of figures."""

    def decorate(command: Command) -> Command:
        place = click.Path(path_type=Path, dir_okay=False)
        out = click.option("-o", "--output", "out", type=place, required=True, help=text)
        return out(click.option("--overwrite", is_flag=True, help="Replace an output that exists.")(command))

    return decorate


def metadata(command: Command) -> Command:
    """``--keep-metadata/--strip-metadata``."""
    text = "Keep EXIF, XMP, IPTC and comments, or leave them out; the colour profile is always kept."
    flags = "--keep-metadata/--strip-metadata"
    return click.option(flags, "keep_metadata", default=True, show_default=True, help=text)(command)


def stamped(command: Command) -> Command:
    """``--stamp/--no-stamp``, handed over as ``stamp``."""
    text = "Write the program, its version and the tools into the EXIF Software tag."
    return click.option("--stamp/--no-stamp", "stamp", default=False, show_default=True, help=text)(command)


def cached(command: Command) -> Command:
    """``--cache/--no-cache``, handed over as ``cache``: the folder, or None for no disk."""

    @functools.wraps(command)
    def with_folder(cache: bool, **options: Any) -> Any:
        from iqloop.agents.cache_folder import cache_folder

        return command(cache=cache_folder() if cache else None, **options)

    wrapped: Any = with_folder
    text = "Take tool outputs and answers of earlier runs from disk, and keep those of this one; the result is the "
    text += "same. See  iqloop cache."
    option = click.option("--cache/--no-cache", "cache", default=True, show_default=True, help=text)
    return option(wrapped)  # type: ignore[no-any-return]


def model_files(command: Command) -> Command:
    """``--tool NAME=PATH``, repeatable, handed over as ``files``."""
    text = "Add a model file (.safetensors, .pth) or a diffusers folder as a tool; say what it treats by "
    text += "NAME:noise+blur=PATH. Repeatable."
    return click.option("--tool", "files", multiple=True, metavar="NAME=PATH", help=text)(command)


def tiles(command: Command) -> Command:
    """``--tile``, handed over as ``tile``: pixels, None for whole images, or ``"auto"``."""

    def read(ctx: click.Context, option: click.Parameter, value: str) -> int | str | None:
        if value in ("auto", "whole"):
            return "auto" if value == "auto" else None
        if not value.isdecimal() or int(value) < 1:
            raise click.BadParameter(f"expected auto, whole, or a number of pixels, got {value!r}.")
        return int(value)

    text = "Side of the tiles in which nets see an image; whole needs memory for all of it at once."
    return click.option(
        "--tile", default="auto", show_default=True, metavar="auto|whole|PIXELS", callback=read, help=text
    )(command)


def budgeted(command: Command) -> Command:
    """The limits of a run on one image, handed over as ``budget``."""

    @functools.wraps(command)
    def with_budget(
        max_steps: int, max_tool_calls: int, max_critic_calls: int, time_limit: float | None, **options: Any
    ) -> Any:
        return command(budget=Budget(max_steps, max_tool_calls, max_critic_calls, time_limit), **options)

    wrapped: Any = with_budget
    for flag, default, text in (
        ("--max-critic-calls", _LIMITS.max_critic_calls, "Questions to the critic, per image."),
        ("--max-tool-calls", _LIMITS.max_tool_calls, "Runs of a tool, per image."),
        ("--max-steps", _LIMITS.max_steps, "Degradations worked on, per image."),
    ):
        option = click.option(flag, type=click.IntRange(0), default=default, show_default=True, help=text)
        wrapped = option(wrapped)
    limit = click.option(
        "--time-limit", type=click.FloatRange(0), help="Seconds per image; a call under way is not interrupted."
    )
    return limit(wrapped)  # type: ignore[no-any-return]


def filtered(command: Command) -> Command:
    """``--include --ignore``, handed over as ``chosen``."""

    @functools.wraps(command)
    def with_filter(include: tuple[str, ...], ignore: tuple[str, ...], **options: Any) -> Any:
        return command(chosen=Filter(include, ignore), **options)

    wrapped: Any = with_filter
    rule = "Matched against the path below the folder; ** is any number of folders, capitals do not matter; repeatable."
    for flag, text in (
        ("--ignore", "Leave out these files in folders, included or not."),
        ("--include", "Of folders take only these files."),
    ):
        wrapped = click.option(flag, multiple=True, metavar="GLOB", help=f"{text} {rule}")(wrapped)
    return wrapped  # type: ignore[no-any-return]


def parallel(command: Command) -> Command:
    """``--workers --threads``, handed over as numbers; None is for the command to choose."""

    def read(ctx: click.Context, option: click.Parameter, value: str) -> int | None:
        if value == "auto":
            return None
        if not value.isdecimal() or int(value) < 1:
            raise click.BadParameter(f"expected auto or a number from 1, got {value!r}.")
        return int(value)

    many = "Processes that restore side by side; the result is the same. auto: as many as cores, files and free memory "
    many += "allow, one on a GPU."
    each = "CPU threads of each process; another number may change the last bits.  [default: 1 for several files on a "
    each += "CPU, else all cores]"
    threads = click.option("--threads", type=click.IntRange(1), help=each)(command)
    return click.option("--workers", default="auto", show_default=True, metavar="auto|N", callback=read, help=many)(
        threads
    )


def words(values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Repeatable options that also take commas: ``a,b`` and ``c`` become (a, b, c); None for none."""
    found = tuple(word.strip() for value in values for word in value.split(",") if word.strip())
    return found or None
