"""``iqloop doctor``: what this installation has, and what it lacks."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def examine() -> dict[str, Any]:
    """Versions, extras, devices, critics and cache folders, as JSON types."""
    from iqloop.recipes.metrics import list_critics

    required, extras = requirements()
    return {
        "iqloop": version_of("iqloop"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in required},
        "extras": {extra: {name: version_of(name) for name in names} for extra, names in extras.items()},
        "devices": devices(),
        "critics": {row["name"]: {"at_hand": row["at_hand"], "how": row["how"]} for row in list_critics()},
        "caches": caches(),
    }


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the packages that iqloop needs, and of those that each extra adds; from its own metadata."""
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for text in metadata.requires("iqloop") or []:
        found, extra = _NAME.match(text), _EXTRA.search(text)
        if found is None or found.group() == "iqloop":
            continue
        names = needed if extra is None else extras.setdefault(extra.group(1), [])
        if found.group() not in names:
            names.append(found.group())
    return needed, extras


def version_of(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def devices() -> list[dict[str, Any]]:
    """Where torch can compute; the CPU first."""
    import torch

    found: list[dict[str, Any]] = [{"name": "cpu", "what": platform.machine(), "threads": torch.get_num_threads()}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gigabytes = round(properties.total_memory / 2**30, 1)
        found.append({"name": f"cuda:{index}", "what": properties.name, "memory_gb": gigabytes})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "what": "Apple GPU"})
    return found


def caches() -> dict[str, str]:
    """Folders in which weights of others are kept."""
    from huggingface_hub import constants

    torch_home = (
        os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    )
    return {"huggingface": str(constants.HF_HUB_CACHE), "torch": str(torch_home)}


@click.command("doctor")
@options.talk
def command(console: Console) -> int:
    """Show what is installed: versions, extras, devices, critics and cache folders."""
    report = examine()
    console.fields(report)
    console.line(f"iqloop {report['iqloop']}, Python {report['python']}, {report['platform']}")
    console.line("packages: " + _versions(report["packages"]))
    for extra, packages in report["extras"].items():
        lacking = None in packages.values()
        mend = f"  (pip install 'iqloop[{extra}]')" if lacking else ""
        console.line(f"extra {extra}: {_versions(packages)}{mend}")
    for device in report["devices"]:
        more = ", ".join(f"{key} {value}" for key, value in device.items() if key not in ("name", "what"))
        console.line(f"device {device['name']}: {device['what']}" + (f", {more}" if more else ""))
    for name, critic in report["critics"].items():
        console.line(f"critic {name}: " + ("at hand" if critic["at_hand"] else f"not at hand: {critic['how']}"))
    for name, folder in report["caches"].items():
        console.line(f"cache {name}: {folder}")
    return failures.DONE


def _versions(packages: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
