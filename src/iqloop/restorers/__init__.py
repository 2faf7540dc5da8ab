"""What repairs: the tool contract and the registry; classical tools, the package's nets, any model that spandrel knows.

>>> import torch
>>> from iqloop.restorers import default_registry
>>> tool = default_registry().get("bicubic-x2")
>>> tool.restore(torch.rand(1, 3, 20, 30)).shape
torch.Size([1, 3, 40, 60])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqloop.restorers.apply import restore_photo
    from iqloop.restorers.classical import CLASSICAL, ClassicalTool, classical_tool
    from iqloop.restorers.diffusers_tool import DiffusersTool, load_pipeline_tool
    from iqloop.restorers.registry import Registry, ToolEntry, default_registry
    from iqloop.restorers.spandrel_tool import SpandrelTool, load_tool
    from iqloop.restorers.tiling import auto_tile, tiled
    from iqloop.restorers.tool import TREATMENTS, Cost, Tool, ToolInfo, Treatment

_HOME = {
    "CLASSICAL": "classical",
    "ClassicalTool": "classical",
    "Cost": "tool",
    "DiffusersTool": "diffusers_tool",
    "Registry": "registry",
    "SpandrelTool": "spandrel_tool",
    "TREATMENTS": "tool",
    "Tool": "tool",
    "ToolEntry": "registry",
    "ToolInfo": "tool",
    "Treatment": "tool",
    "auto_tile": "tiling",
    "classical_tool": "classical",
    "default_registry": "registry",
    "load_pipeline_tool": "diffusers_tool",
    "load_tool": "spandrel_tool",
    "restore_photo": "apply",
    "tiled": "tiling",
}

__all__ = [
    "CLASSICAL",
    "TREATMENTS",
    "ClassicalTool",
    "Cost",
    "DiffusersTool",
    "Registry",
    "SpandrelTool",
    "Tool",
    "ToolEntry",
    "ToolInfo",
    "Treatment",
    "auto_tile",
    "classical_tool",
    "default_registry",
    "load_pipeline_tool",
    "load_tool",
    "restore_photo",
    "tiled",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `iqloop --help` must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
