"""What else the floats of a tool or a critic depend on: the software, the machine, and how a tool was made.

Part of every key of the disk cache, so that what is found there is what would have been computed here and now.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

import iqloop
from iqloop.restorers.tool import Tool, ToolInfo

PACKAGES = (
    "numpy",
    "scipy",
    "opencv-python-headless",
    "scikit-image",
    "pillow",
    "kornia",
    "torchvision",
    "spandrel",
    "diffusers",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "bitsandbytes",
)
"""Distributions that tools and critics compute with."""
CODE = ("critic", "restorers")
"""Folders of this package whose code makes answers and outputs; a checkout changes between two versions."""
SILENT = "1"
"""A tool's version when nobody gave it one."""


@cache
def software() -> tuple[str, ...]:
    """Versions of this package, its code, torch and `PACKAGES`."""
    found = [f"iqloop {iqloop.__version__}", f"python {platform.python_version()}", f"torch {torch.__version__}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    root = Path(iqloop.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (root / folder).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return (*found, f"code {digest.hexdigest()[:16]}")


def machine() -> tuple[str, ...]:
    """What sums are split and rounded by; it may change while a process runs."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        f"{torch.get_num_threads()} threads",
        gpu,
        f"float32 {torch.get_float32_matmul_precision()}",
    )


def says_version(info: ToolInfo) -> bool:
    """Whether a tool's version can be believed: somebody gave it one, or its code is part of `software`."""
    from iqloop.restorers.classical import CLASSICAL

    return info.version != SILENT or info in CLASSICAL


def made_with(tool: Tool) -> str:
    """How a loaded tool was made: its plain values (the side of its tiles), the device and precision of its net."""
    found = []
    for name, value in sorted(getattr(tool, "__dict__", {}).items()):
        if value is None or isinstance(value, str | int | float):
            found.append(f"{name}={value!r}")
        found += [f"{name}.{what}={getattr(value, what)}" for what in ("device", "dtype") if hasattr(value, what)]
    return ", ".join(found)
