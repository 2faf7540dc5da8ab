"""Where restored images and their traces go: as ``iqloop restore`` has it, in columns that travel with each image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from iqloop.recipes.inputs import Input
from iqloop.recipes.outputs import place
from iqloop.recipes.restore.jobs import make_jobs
from iqloop.recipes.scale.listing import Files, require_pyarrow


def jobs_of(listing: Files, images: Path) -> Files:
    """The listing with ``target`` and ``trace`` (binary: paths) and ``clash`` (who has the place already)."""
    pyarrow = require_pyarrow()
    sources = [_source(row) for row in listing.table.to_pylist()]
    jobs = make_jobs(sources, place(sources, images, "restored"), None, keep_steps=False)
    columns = {
        "target": pyarrow.array([os.fsencode(job.target.path or "") for job in jobs], pyarrow.binary()),
        "trace": pyarrow.array([os.fsencode(job.trace or "") for job in jobs], pyarrow.binary()),
        "clash": pyarrow.array([job.target.clash for job in jobs], pyarrow.string()),
    }
    table = listing.table
    for name, values in columns.items():
        table = table.append_column(name, values)
    return Files(table)


def _source(row: dict[str, Any]) -> Input:
    file, relative = Path(os.fsdecode(row["file"])), Path(os.fsdecode(row["relative"]))
    return Input(row["path"], file, relative, file.parents[len(relative.parts) - 1])
