"""A run in this process: one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from iqloop.recipes.scale.listing import Listing
from iqloop.recipes.scale.work import Say, Work, start

if TYPE_CHECKING:
    import pyarrow


def work_here(work: Work, listing: Listing, notice: Say) -> Iterator[pyarrow.Table]:
    """The rows of each batch as they are done, in order. Raises what loading a critic raises."""
    worker = start(work, notice)
    for batch in listing.tables(work.batch):
        yield worker(batch)
