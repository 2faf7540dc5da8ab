"""Reading a trace that nobody vouches for: every value is checked where it is used, and named when it is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from iqloop.errors import UsageError

FAMILY = "iqloop-trace/"
"""How the ``schema`` of a trace of any version begins."""


@dataclass(frozen=True)
class Part:
    """A value of a JSON document and its place. What is missing counts as null; a wrong type raises `UsageError`."""

    value: Any
    place: str = "the document"

    def __getitem__(self, name: str) -> Part:
        """A member of an object."""
        return dict(self.members()).get(name, Part(None, f"{self.place}.{name}"))

    def __iter__(self) -> Iterator[Part]:
        """The values of an array."""
        if not isinstance(self.value, list | None):
            self._refuse("an array")
        return (Part(value, f"{self.place}[{number}]") for number, value in enumerate(self.value or ()))

    def __bool__(self) -> bool:
        """False for null."""
        return self.value is not None

    def members(self) -> Iterator[tuple[str, Part]]:
        """Names and values of an object, in its order."""
        if not isinstance(self.value, dict | None):
            self._refuse("an object")
        return ((name, Part(value, f"{self.place}.{name}")) for name, value in (self.value or {}).items())

    def text(self) -> str:
        """A text as it came, which may hold anything; empty for null."""
        if not isinstance(self.value, str | None):
            self._refuse("a text")
        return self.value or ""

    def number(self) -> float | None:
        """A finite number."""
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self._refuse("a number")
        if abs(self.value) > 1e12 or math.isnan(self.value):
            self._refuse("a number of reasonable size")
        return float(self.value)

    def flag(self) -> bool:
        """True or false; false for null."""
        if not isinstance(self.value, bool | None):
            self._refuse("true or false")
        return bool(self.value)

    def _refuse(self, expected: str) -> NoReturn:
        raise UsageError(f"not a trace: expected {printable(self.place)} to be {expected}, got {self.value!r:.40}")


def printable(text: str) -> str:
    """Text in which control characters, lone surrogates and marks that turn its direction have become spaces."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def read_trace(path: Path) -> Part:
    """The trace in a file. Raises `UsageError` when it cannot be read, is no trace, or one of another version."""
    from iqloop.agents.trace import SCHEMA

    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot be read ({error.strerror or error}): name a trace, such as OUT/.iqloop/NAME.json"
        ) from None
    except (ValueError, RecursionError):
        raise UsageError("not JSON: name a trace, such as OUT/.iqloop/NAME.json") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith(FAMILY):
        raise UsageError(f"not a trace: expected a JSON object with schema {SCHEMA}, as `iqloop restore` writes it")
    if schema != SCHEMA:
        raise UsageError(f"a trace of schema {printable(schema):.40}, expected {SCHEMA}: use the iqloop that wrote it")
    return Part(document)
