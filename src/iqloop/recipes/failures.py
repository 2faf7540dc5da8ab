"""From an exception to one line for people and to an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from iqloop.errors import ImageError, IqloopError
from iqloop.recipes.console import State, complain

DONE, SOME_FAILED, USAGE, NOT_IMPROVED, INTERRUPTED = 0, 1, 2, 3, 130
_PACKAGE = str(Path(__file__).resolve().parent.parent)


@dataclass
class ExitCode:
    """What the process will exit with."""

    code: int = DONE


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong, without the traceback."""
    if is_out_of_memory(error):
        return "out of memory: use a smaller image, a smaller --batch-size, or another --device"
    if isinstance(error, IqloopError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """True for Python's, numpy's and torch's ways of saying so (torch is not imported for it)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error))


@contextmanager
def as_exit_code(state: State) -> Iterator[ExitCode]:
    """Turn whatever ends the run into one line on standard error and an exit code."""
    outcome = ExitCode()
    try:
        with _quiet_warnings(state):
            yield outcome
    except (KeyboardInterrupt, click.exceptions.Abort):
        complain("interrupted")
        outcome.code = INTERRUPTED
    except click.exceptions.Exit as error:
        outcome.code = error.exit_code
    except click.ClickException as error:
        _complain_usage(error)
        outcome.code = USAGE
    except BrokenPipeError:
        # The reader has gone (``iqloop score ... | head``): nobody is left to tell. Click exits with 1 too.
        _drop_stdout()
        outcome.code = SOME_FAILED
    except Exception as error:
        _explain(error, state)
        outcome.code = USAGE if isinstance(error, IqloopError) and not isinstance(error, ImageError) else SOME_FAILED
        if isinstance(error, OSError):
            _drop_stdout()


def _explain(error: BaseException, state: State) -> None:
    if state.verbose:
        traceback.print_exception(error, file=sys.stderr)
    complain(f"error: {reason_of(error)}")


def _complain_usage(error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "iqloop"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(context.get_help() if context is not None else "", err=True)
        return
    complain(f"{path}: {error.format_message().rstrip('.')}; see  {path} --help")


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, or Python would complain of it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _quiet_warnings(state: State) -> Iterator[None]:
    """Our own warnings become one line; those of libraries are for developers and are shown with --verbose only."""
    # Read by torch and transformers when they are imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def show(message: Warning | str, category: type[Warning], filename: str, *_: object) -> None:
        if state.verbose or (filename.startswith(_PACKAGE) and not state.quiet):
            complain(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]  # the arguments that are used are the first
        yield
