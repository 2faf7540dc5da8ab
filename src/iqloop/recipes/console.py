"""What a command says: JSON Lines, tables, progress. Results go to standard output, everything else to standard error.

rich is imported only when there is a terminal to draw on.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

LONGEST_NAME = 24
"""Characters of a table's cell that is not broken over lines."""
LEAST = 16
"""Characters that a column needs whose cells are broken."""


@dataclass
class State:
    """What the outermost function must know when a run ends early; filled in while options are read."""

    verbose: bool = False
    quiet: bool = False


def put(stream: TextIO, text: str) -> None:
    """One line to a stream; characters that its encoding lacks (or undecodable file names) are escaped."""
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def one_line(text: str) -> str:
    """Text without line breaks and control characters: a file's name may hold any."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.splitlines()))


def complain(text: str) -> None:
    """One line on standard error."""
    put(sys.stderr, one_line(text))
    sys.stderr.flush()


def reason_for(path: str, error: BaseException | str) -> str:
    """Why an input failed, without its name."""
    from iqloop.errors import ImageError
    from iqloop.recipes.failures import reason_of

    if isinstance(error, ImageError) and (error.path is None or error.path == path):
        return error.reason
    return reason_of(error) if isinstance(error, BaseException) else error


def plain(value: Any) -> Any:
    """A value that JSON has: no NaN, no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class Console:
    """How one command talks."""

    json: bool = False
    """JSON Lines on standard output, and nothing else there."""
    quiet: bool = False
    verbose: bool = False
    stdout_taken: bool = False
    """An image is written to standard output: text for people goes to standard error."""
    failed: list[str] = field(default_factory=list)
    """Inputs that failed, as they were named."""
    _columns: tuple[str, ...] = ()
    _rows: list[tuple[str, ...]] = field(default_factory=list)
    _live: Any = None

    @property
    def draws(self) -> bool:
        """True when progress may be drawn."""
        return not (self.json or self.quiet) and sys.stderr.isatty()

    def fields(self, fields: Mapping[str, Any]) -> None:
        """One JSON line; nothing without ``--json``."""
        if self.json:
            sys.stdout.write(json.dumps(plain(fields), allow_nan=False) + "\n")
            sys.stdout.flush()

    def line(self, text: str) -> None:
        """One line of the result for people; nothing with ``--json``."""
        if self.json or (self.stdout_taken and self.quiet):
            return
        stream = sys.stderr if self.stdout_taken else sys.stdout
        self._beside(stream, text)

    def notice(self, text: str) -> None:
        """Something worth knowing, on standard error; nothing with ``--quiet``."""
        if not self.quiet:
            self._beside(sys.stderr, text)

    def detail(self, text: str) -> None:
        """Something for ``--verbose``, on standard error."""
        if self.verbose:
            self._beside(sys.stderr, text)

    def fail(self, path: str, error: BaseException | str, **fields: Any) -> None:
        """Name a failed input: one line on standard error, and ``{"path", "error"}`` with ``--json``."""
        if self.verbose and isinstance(error, BaseException):
            traceback.print_exception(error, file=sys.stderr)
        reason = reason_for(path, error)
        self.failed.append(path)
        self._beside(sys.stderr, f"{path}: {reason}")
        self.fields({"path": path, **fields, "error": one_line(reason)})

    @contextmanager
    def table(self, *columns: str) -> Iterator[None]:
        """`row` fills it. A terminal gets it drawn at the end, a pipe gets each row at once, with tabs between."""
        self._columns, self._rows = columns, []
        if not self.json and not sys.stdout.isatty():
            put(sys.stdout, "\t".join(columns))
        try:
            yield
        finally:
            if self._rows:
                self._draw()

    def row(self, fields: Mapping[str, Any], *cells: object) -> None:
        """One result: ``fields`` as JSON, or ``cells`` in the table."""
        texts = tuple(one_line(str(cell)) for cell in cells)
        if self.json:
            self.fields(fields)
        elif sys.stdout.isatty():
            self._rows.append(texts)
        else:
            put(sys.stdout, "\t".join(texts))
            sys.stdout.flush()

    @contextmanager
    def progress(self, total: int, what: str, tail: Any = None) -> Iterator[Progress]:
        """A bar on a terminal, for more than one input; silent otherwise. ``tail`` is drawn behind it instead of the
        time that the number of inputs left suggests, and asked for its text (``__rich__``) at every refresh."""
        if not self.draws or total < 2:
            yield Progress(None, None)
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, RenderableColumn
        from rich.progress import Progress as Bar

        columns: tuple[Any, ...] = ()
        if tail is not None:
            columns = ("{task.description}", BarColumn(12), MofNCompleteColumn(), RenderableColumn(tail))
        # Without rich's redirection, which would send results for a pipe to the terminal behind standard error.
        drawing = RichConsole(stderr=True)
        with Bar(*columns, console=drawing, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
            self._live = drawing
            try:
                yield Progress(bar, bar.add_task(what, total=total))
            finally:
                self._live = None

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values on standard error: a table on a terminal, else a line each. Nothing with ``--quiet``."""
        if self.quiet:
            return
        if not sys.stderr.isatty():
            for name, value in rows:
                complain(f"{name}: {value}")
            return
        from rich import box
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE, show_header=False)
        for name, value in rows:
            table.add_row(Text(name), Text(one_line(value)))
        RichConsole(stderr=True).print(table)

    def _beside(self, stream: TextIO, text: str) -> None:
        """One line to a stream, above the bar if both are on the terminal."""
        if self._live is not None and stream.isatty():
            self._live.print(one_line(text), markup=False, highlight=False, soft_wrap=True)
        else:
            put(stream, one_line(text))
            stream.flush()

    def _draw(self) -> None:
        from rich import box
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table, terminal = Table(box=box.SIMPLE_HEAD), RichConsole()
        widths = [max(map(len, column)) for column in zip(self._columns, *self._rows, strict=True)]
        # Three for the gap before each column; what is broken needs some room too.
        needed = sum(3 + (width if width <= LONGEST_NAME else LEAST) for width in widths)
        for name, width in zip(self._columns, widths, strict=True):
            # Only what is long is broken, prose and paths, not names and figures; where these alone would fill a
            # narrow terminal all is, since the rest would be left out.
            table.add_column(name, overflow="fold", no_wrap=width <= LONGEST_NAME and needed < terminal.width)
        for row in self._rows:
            table.add_row(*(Text(cell) for cell in row))
        terminal.print(table)


@dataclass
class Progress:
    """A bar, or nothing."""

    bar: Any
    task: Any

    def advance(self, count: int = 1) -> None:
        """Count finished inputs."""
        if self.bar is not None:
            self.bar.advance(self.task, count)
