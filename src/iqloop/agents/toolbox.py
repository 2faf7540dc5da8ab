"""What agents need of a registry of tools; `iqloop.restorers.registry.Registry` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from iqloop.restorers.tool import Tool, ToolInfo, Treatment


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


def choose_tools(toolbox: Toolbox, treatment: Treatment, severity: float, count: int, scale: int = 1) -> list[Entry]:
    """At most ``count`` entries, those first whose strength in [0, 1] is nearest to ``severity`` / 5.

    A tool without a strength adapts to any severity: it comes first. Equally near ones keep the registry's order.
    """
    fitting = [entry for entry in toolbox.tools_for(treatment, scale) if entry.info.scale == scale]

    def distance(entry: Entry) -> float:
        return -1.0 if entry.info.strength is None else abs(entry.info.strength - severity / 5)

    return sorted(fitting, key=distance)[:count]
