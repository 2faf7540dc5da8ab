"""The file of finished groups: one JSON line each, on disk before the next one is begun; an interrupted run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import UsageError
from iqloop.recipes.console import plain
from iqloop.recipes.outputs import Target
from iqloop.recipes.rank.groups import Group
from iqloop.recipes.rank.result import Result, as_document, from_document

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.inputs import Input
    from iqloop.recipes.rank.run import Manner

Asked = dict[str, Any]
"""All that decides a group's result, as JSON has it: ``images``, ``reference``, ``critic``, ``options``."""


class Journal:
    """A line for each group. Without a file nothing is written and nothing can be resumed."""

    def __init__(self, path: Path | None, resume: bool = False, overwrite: bool = False) -> None:
        """Find out what is there, and before any work what cannot be written; nothing is written yet.

        Args:
            path: where to write.
            resume: take over the groups that are there.
            overwrite: begin anew where a file is.

        Raises `UsageError` for a file that is there without either being asked for, and for one that is no journal;
        `iqloop.errors.ImageWriteError` where it cannot be written.
        """
        self.path = path
        self._begun = False
        self._lines: dict[str | None, bytes] = {}
        self._results: dict[str | None, tuple[Asked, Result]] = {}
        if path is None:
            if resume:
                raise UsageError("nothing to resume: --resume goes with -o RESULT.jsonl, the file of the earlier run")
            return
        if path.is_dir():
            raise UsageError(f"-o {path}: is a folder, expected a file name such as RESULT.jsonl")
        if path.exists() and not (resume or overwrite):
            raise UsageError(f"-o {path}: exists already: go on with it by --resume, or replace it by --overwrite")
        Target(path, None).check(overwrite=True)
        if path.exists() and resume:
            self._recover(path)

    def earlier(self, group: Group, asked: Asked) -> Result | None:
        """What is kept of a group, if nothing has changed since and every image that can be read has its rank."""
        if group.name not in self._results:
            return None
        before, result = self._results[group.name]
        return result if before == asked and result.complete else None

    def changed(self, group: Group, asked: Asked) -> list[str]:
        """What is not as it was when the group was ranked: ``images``, ``critic``, ...; empty for a group not kept."""
        before = self._results[group.name][0] if group.name in self._results else asked
        return sorted(name for name in asked if asked[name] != before.get(name))

    def keep(self, result: Result, asked: Asked) -> None:
        """Write a group, in the place of its earlier line if there is one; on disk before this returns."""
        if self.path is None:
            return
        again = result.group in self._lines
        document = plain({**as_document(result), "asked": asked})
        self._lines[result.group] = json.dumps(document, allow_nan=False).encode() + b"\n"
        if again or not self._begun:
            from iqloop.io import write_bytes_atomic

            # As a whole at first: a line that was cut off, or a file that is to be replaced, may be there.
            write_bytes_atomic(self.path, b"".join(self._lines.values()), overwrite=True)
            self._begun = True
            return
        with self.path.open("ab") as file:
            file.write(self._lines[result.group])
            file.flush()
            os.fsync(file.fileno())

    def _recover(self, path: Path) -> None:
        """Read what is there, but for a last line that was cut off."""
        text = path.read_bytes()
        for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(keepends=True), 1):
            try:
                document = json.loads(line)
                asked = document.pop("asked")
                result = from_document(document)
                self._results[result.group] = dict(asked), result
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UsageError(
                    f"-o {path}, line {number}: expected a group as  iqloop rank  writes it: name another file"
                ) from None
            self._lines[result.group] = line


def asked_of(group: Group, critic: Critic, manner: Manner) -> Asked:
    """Content and names of the images, who judges, and how."""
    from dataclasses import asdict

    from iqloop.recipes.evaluate.run import identity

    return {
        "images": [_digest(source) for source in group.sources],
        "reference": None if group.reference is None else _digest(group.reference),
        "critic": identity(critic),
        "options": asdict(manner),
    }


def _digest(source: Input) -> list[str | None]:
    """Name, and SHA-256 of the file; None for one that is not there."""
    import hashlib

    from iqloop.errors import ImageReadError

    try:
        return [source.shown, hashlib.sha256(source.bytes()).hexdigest()]
    except ImageReadError:
        return [source.shown, None]
