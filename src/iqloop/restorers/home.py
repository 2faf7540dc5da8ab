"""Where the user's own things are: fetched weights, and the list of tools that were added.

The XDG Base Directory Specification (https://specifications.freedesktop.org/basedir-spec/latest/) says where; one
folder for everything is named by ``IQLOOP_HOME``.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "IQLOOP_HOME"


def data_home() -> Path:
    """Fetched weights: ``IQLOOP_HOME``, else ``XDG_DATA_HOME/iqloop``, else ``~/.local/share/iqloop``."""
    return _home("XDG_DATA_HOME", "~/.local/share")


def config_home() -> Path:
    """Settings: ``IQLOOP_HOME``, else ``XDG_CONFIG_HOME/iqloop``, else ``~/.config/iqloop``."""
    return _home("XDG_CONFIG_HOME", "~/.config")


def _home(variable: str, default: str) -> Path:
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get(variable, "")
    # The specification: a path that is not absolute is as if it were not set.
    return (Path(base) if os.path.isabs(base) else Path(default).expanduser()) / "iqloop"
