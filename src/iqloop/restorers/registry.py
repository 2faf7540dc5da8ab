"""Which tools there are. An ordinary object, filled from one explicit list; nothing registers itself on import."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import Tensor

from iqloop.errors import UsageError
from iqloop.restorers.tool import TREATMENTS, Tool, ToolInfo, Treatment

ENTRY_POINTS = "iqloop.restorers"
"""Group of the entry points of plug-ins. Each names a `ToolEntry`, or a callable that returns a `Tool`."""


@dataclass(frozen=True)
class ToolEntry:
    """A tool that can be had."""

    info: ToolInfo
    """What is known before it is loaded."""
    load: Callable[[], Tool]
    """Makes the tool; called once, when it is first asked for."""


class Registry:
    """Tools by name, loaded when first asked for, in the order in which they were added.

    >>> from iqloop.restorers import default_registry
    >>> [entry.info.name for entry in default_registry(plugins=False).tools_for("low-resolution", scale=4)]
    ['upscale-x4', 'bicubic-x4', 'backproject-x4']
    """

    def __init__(self, entries: Iterable[ToolEntry] = ()) -> None:
        self._entries: dict[str, ToolEntry] = {}
        self._loaded: dict[str, Tool] = {}
        self.add(*entries)

    def add(self, *entries: ToolEntry) -> None:
        """Add all of ``entries``, or none of them: raises `UsageError` if a name is taken or not usable."""
        names = set(self._entries)
        for entry in entries:
            name = entry.info.name
            if not name or any(c in name for c in "=,/\\ \t\n"):
                raise UsageError(f"a tool's name must be one word without = , / or \\, got {name!r}")
            if name in names:
                raise UsageError(f"a tool named {name!r} is registered already: choose another name")
            names.add(name)
        self._entries.update({entry.info.name: entry for entry in entries})

    def add_file(self, text: str, device: str = "cpu", tile: int | str | None = "auto") -> ToolInfo:
        """Add the model file of ``NAME=PATH``, or of ``PATH`` alone under its stem; loaded and checked at once.

        What it treats follows from the file (`iqloop.restorers.spandrel_tool.load_tool`); say more by
        ``NAME:noise+blur=PATH``. A folder is a diffusers pipeline (`iqloop.restorers.diffusers_tool`).

        Raises:
            UsageError: the text has another form, or the name is taken.
            ToolError: the file or folder is not a model that restores images.
            PrerequisiteError: the path is a folder and the extra ``diffusion`` is not installed.
        """
        from iqloop.restorers.diffusers_tool import load_pipeline_tool
        from iqloop.restorers.spandrel_tool import load_tool

        name, treats, path = parse_file(text)
        if path.is_dir() and path == Path(text):
            # A folder has no extension: what follows a dot is a version.
            name = path.absolute().name
        if name in self._entries:
            raise UsageError(f"a tool named {name!r} is registered already: choose another name")
        load: Callable[..., Tool] = load_pipeline_tool if path.is_dir() else load_tool
        tool = load(path, name=name, treats=treats, tile=tile, device=device)
        self.add(ToolEntry(tool.info, lambda: tool))
        return tool.info

    def get(self, name: str) -> Tool:
        """The tool of a name, loaded. Raises `UsageError` with the nearest names if there is none."""
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(self._entries) or 'none'}"
            raise UsageError(f"no tool named {name!r}: {hint}")
        if name not in self._loaded:
            self._loaded[name] = self._entries[name].load()
        return self._loaded[name]

    def info(self, name: str) -> ToolInfo:
        """What is known of a tool, without loading it. Raises `UsageError` like `get`."""
        return self._entries[name].info if name in self._entries else self.get(name).info

    def tools_for(self, treatment: Treatment, scale: int = 1) -> list[ToolEntry]:
        """What treats ``treatment`` at ``scale``, each loaded once, at its first use.

        What adapts to the image comes first, then from gentle to strong.

        Raises `UsageError` for an unknown treatment.
        """
        if treatment not in TREATMENTS:
            raise UsageError(f"unknown degradation {treatment!r}: expected one of {', '.join(TREATMENTS)}")
        fitting = [info for info in self if treatment in info.treats and info.scale == scale]
        fitting.sort(key=lambda info: -1.0 if info.strength is None else info.strength)
        return [ToolEntry(info, partial(self.get, info.name)) for info in fitting]

    def names(self) -> tuple[str, ...]:
        """Every name, in the order in which the tools were added."""
        return tuple(self._entries)

    def __iter__(self) -> Iterator[ToolInfo]:
        return (entry.info for entry in self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({', '.join(self._entries)})"


def parse_file(text: str) -> tuple[str, tuple[Treatment, ...] | None, Path]:
    """Name, treatments if given, and path of ``[NAME[:TREATMENT+...]=]PATH``. Raises `UsageError`.

    >>> parse_file("mine:noise+blur=weights/mine.safetensors")[:2]
    ('mine', ('noise', 'blur'))
    """
    head, equals, tail = text.partition("=")
    # Without "=", or with it only inside the path, the whole is a path.
    if not equals or "/" in head or "\\" in head:
        head, tail = "", text
    name, colon, listed = head.partition(":")
    if not tail or (equals and not name and tail != text):
        raise UsageError(f"expected NAME=PATH, got {text!r}")
    treats: list[Treatment] = []
    for word in listed.split("+") if colon else ():
        known = next((t for t in TREATMENTS if t == word), None)
        if known is None:
            raise UsageError(f"{text!r}: {word!r} is not one of {', '.join(TREATMENTS)}")
        treats.append(known)
    path = Path(tail)
    return name or path.stem, tuple(treats) or None, path


def builtin_entries(device: str = "cpu", tile: int | str | None = "auto") -> list[ToolEntry]:
    """The one list: every tool that comes with iqloop; the nets among them run on ``device``, in tiles."""
    from iqloop.restorers.classical import CLASSICAL, classical_tool
    from iqloop.restorers.embedded import embedded, embedded_tool

    nets = [ToolEntry(info, partial(embedded_tool, info, device, tile)) for info in embedded()]
    return [*nets, *(ToolEntry(info, partial(classical_tool, info)) for info in CLASSICAL)]


class LateTool:
    """A tool that is loaded when it is first used, so that it can be handed to a process that is yet to be forked."""

    def __init__(self, entry: ToolEntry) -> None:
        self.entry = entry
        self._tool: Tool | None = None

    @property
    def info(self) -> ToolInfo:
        """What is known of it."""
        return self.entry.info

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        """As the tool itself. Raises `iqloop.errors.ToolError` also when it cannot be loaded."""
        if self._tool is None:
            self._tool = self.entry.load()
        return self._tool.restore(image, seed)


def package_tools() -> list[Tool]:
    """The tools of the package that keep the size and are not of cost ``"heavy"``: the nets, then the classical ones.

    What a critic learns to compare, and is measured on. On a crop of side 168 each takes 10 to 60 ms on one core.
    """
    kept = [entry for entry in builtin_entries() if entry.info.scale == 1 and entry.info.cost != "heavy"]
    return [LateTool(entry) for entry in kept]


def plugin_entries() -> list[ToolEntry]:
    """The tools of installed plug-ins; one that does not load becomes a warning that names it."""
    found = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            found.append(_plugin_entry(point.load()))
        except Exception as error:  # a plug-in is someone else's code: nothing it raises may stop the rest
            warnings.warn(f"plug-in {point.name!r} ({point.value}) is left out: {error}", RuntimeWarning, stacklevel=2)
    return found


def _plugin_entry(given: Any) -> ToolEntry:
    if isinstance(given, ToolEntry):
        return given
    if not callable(given):
        raise TypeError(f"expected a ToolEntry or a callable that returns a Tool, got {type(given).__name__}")
    tool = given()
    if isinstance(tool, ToolEntry):
        return tool
    if not isinstance(tool, Tool):
        raise TypeError(f"expected a Tool with info and restore, got {type(tool).__name__}")
    return ToolEntry(replace(tool.info), lambda: tool)


def default_registry(
    plugins: bool = True, user: bool = True, device: str = "cpu", tile: int | str | None = "auto"
) -> Registry:
    """A new registry: everything that comes with iqloop and, unless told otherwise, the user's tools and plug-ins.

    Args:
        plugins: with the tools of installed plug-ins.
        user: with the files that were added by ``iqloop tools add`` and the public checkpoints that were fetched.
        device: where those with weights run; plug-ins choose for themselves.
        tile: side of their tiles in input pixels, None for whole images, or ``"auto"``: what memory allows, within
            reason (`iqloop.restorers.tiling.tile_for`).

    Raises:
        UsageError: the list of the user's tools is damaged (`iqloop.restorers.user_tools`).
    """
    from iqloop.restorers.user_tools import user_entries

    registry = Registry(builtin_entries(device, tile))
    more = [("your", entry) for entry in user_entries(device, tile)] if user else []
    more += [("plug-in", entry) for entry in plugin_entries()] if plugins else []
    for whose, entry in more:
        try:
            registry.add(entry)
        except UsageError as error:
            warnings.warn(f"{whose} tool {entry.info.name!r} is left out: {error}", RuntimeWarning, stacklevel=2)
    return registry
