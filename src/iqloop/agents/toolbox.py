"""What agents need of a registry of tools; `iqloop.restorers.registry.Registry` is one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from iqloop.restorers.tool import TREATMENTS, Tool, ToolInfo, Treatment


class Entry(Protocol):
    """A registered tool, not loaded yet."""

    @property
    def info(self) -> ToolInfo:
        """What is known before it is loaded."""
        ...

    def load(self) -> Tool:
        """The tool, ready to run."""
        ...


class Toolbox(Protocol):
    """Finds tools by what they treat."""

    def tools_for(self, treatment: Treatment, scale: int = 1) -> Sequence[Entry]:
        """Entries that treat ``treatment`` and multiply the size by ``scale``."""
        ...


def find_tool(toolbox: Toolbox, name: str, scale: int = 1) -> Entry | None:
    """The entry of a name, or None."""
    return next((entry for entry in _all(toolbox, scale) if entry.info.name == name), None)


def tool_names(toolbox: Toolbox, scale: int = 1) -> tuple[str, ...]:
    """Every tool that keeps the size, or multiplies it by ``scale``, each once."""
    found = [entry.info.name for each in dict.fromkeys((1, scale)) for entry in _all(toolbox, each)]
    return tuple(dict.fromkeys(found))


def allows(info: ToolInfo, treatment: Treatment, only: Collection[str] | None, exclude: Collection[str]) -> bool:
    """Whether a tool may be used for ``treatment``: ``only`` and ``exclude`` name treatments and tools.

    >>> denoise = ToolInfo("denoise", ("noise",), "a net")
    >>> allows(denoise, "noise", ("noise",), ()), allows(denoise, "noise", None, ("denoise",))
    (True, False)
    """
    if treatment in exclude or info.name in exclude:
        return False
    # Upscaling is asked for by a scale, not by a list of treatments.
    if only is None or treatment in only or info.name in only:
        return True
    return treatment == "low-resolution" and all(name in TREATMENTS for name in only)


def choose_tools(
    toolbox: Toolbox,
    treatment: Treatment,
    severity: float,
    count: int,
    scale: int = 1,
    *,
    named: str | None = None,
    only: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> list[Entry]:
    """At most ``count`` entries, those first whose strength in [0, 1] is nearest to ``severity`` / 5.

    A tool without a strength adapts to any severity: it comes first. Equally near ones keep the registry's order.
    ``named`` is the one tool to use; ``only`` and ``exclude`` are as in `allows`.
    """
    fitting = [
        entry
        for entry in toolbox.tools_for(treatment, scale)
        if entry.info.scale == scale
        and (named is None or entry.info.name == named)
        and allows(entry.info, treatment, only, exclude)
    ]

    def distance(entry: Entry) -> float:
        return -1.0 if entry.info.strength is None else abs(entry.info.strength - severity / 5)

    return sorted(fitting, key=distance)[:count]


def _all(toolbox: Toolbox, scale: int) -> Iterator[Entry]:
    for treatment in TREATMENTS:
        for entry in toolbox.tools_for(treatment, scale):
            if entry.info.scale == scale:
                yield entry
