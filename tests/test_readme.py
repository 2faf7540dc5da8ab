"""The README's Python runs as it stands there, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from iqloop.recipes.cli import COMMANDS

README = Path(__file__).parent.parent / "README.md"


def test_the_python_runs(tmp_path: Path) -> None:
    """The blocks in one go, as a reader would run them; those that need pyiqa only where it is installed."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    runnable = [block for block in blocks if "import pyiqa" not in block or find_spec("pyiqa") is not None]
    code = "\n".join(runnable)
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "coffee.png").stat().st_size > 0


def test_every_command_exists() -> None:
    assert set(re.findall(r"\biqloop ([a-z]+)", README.read_text())) - {"import"} <= set(COMMANDS)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        if "://" not in target:
            assert (README.parent / target).exists(), target
