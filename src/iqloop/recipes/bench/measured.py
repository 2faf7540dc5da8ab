"""Pages that a benchmark writes, in which a person's remarks survive the next run.

What was measured stands between two comments that Markdown does not show. A new run writes what is between them anew;
a heading before them and what the figures say after them are kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iqloop.io import write_bytes_atomic

BEGIN = "<!-- measured: written anew by every run, what stands around it is kept -->"
END = "<!-- end of what was measured -->"


def with_remarks(page: str, measured: str) -> str:
    """``measured`` between its comments, and around it what stands around them in ``page``.

    >>> print(with_remarks(f"# Mine\\n\\n{BEGIN}\\nold\\n{END}\\nSo it is.", "new"))
    # Mine
    <BLANKLINE>
    <!-- measured: written anew by every run, what stands around it is kept -->
    <BLANKLINE>
    new
    <BLANKLINE>
    <!-- end of what was measured -->
    So it is.

    A page without both comments, in this order, has no remarks that could be kept.
    """
    head, begun, rest = page.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not (begun and ended):
        head, tail = "", "\n"
    return f"{head}{BEGIN}\n\n{measured.strip()}\n\n{END}{tail}"


def write_page(path: Path, measured: str, figures: Any = None) -> None:
    """Write ``measured`` to ``path``, keeping remarks, and ``figures``, if any, as JSON beside it."""
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_bytes_atomic(path, with_remarks(page, measured).encode(), overwrite=True)
    if figures is not None:
        text = json.dumps(figures, indent=1, allow_nan=False) + "\n"
        write_bytes_atomic(path.with_suffix(".json"), text.encode(), overwrite=True)
