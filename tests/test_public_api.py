"""What is public is what `iqloop.__all__` lists; importing it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import iqloop
from iqloop import errors


def test_every_listed_name_exists_and_none_leaks() -> None:
    assert sorted(iqloop.__all__) == sorted(set(iqloop.__all__))
    for name in iqloop.__all__:
        assert getattr(iqloop, name) is not None
    assert set(iqloop._HOMES) | {"distort", "__version__"} == set(iqloop.__all__)


def test_import_is_light() -> None:
    code = (
        "import sys, iqloop, iqloop.errors; print(sorted({'torch', 'cv2', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_imports_point_one_way() -> None:
    """recipes -> agents -> (critic, restorers) -> (io, errors, distort)."""
    root = Path(iqloop.__file__).parent
    forbidden = {
        "io": ("critic", "restorers", "agents", "recipes", "distort"),
        "distort": ("critic", "restorers", "agents", "recipes", "io"),
        "critic": ("restorers", "agents", "recipes"),
        "restorers": ("critic", "agents", "recipes"),
        "agents": ("recipes",),
    }
    for folder, others in forbidden.items():
        for file in (root / folder).rglob("*.py"):
            text = file.read_text()
            for other in others:
                assert f"from iqloop.{other}" not in text and f"import iqloop.{other}" not in text, (file, other)


def test_every_error_has_one_base() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(kinds) == 8 and all(issubclass(kind, errors.IqloopError) for kind in kinds)
