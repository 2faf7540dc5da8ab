"""The work of ``iqloop train judge`` in chunks of their own seeds: the same result by any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import UsageError
from iqloop.recipes.options import CriticChoice

if TYPE_CHECKING:
    from iqloop.agents.evidence_measure import Bytes, Known, Seen
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.bench.tools import Reader
    from iqloop.restorers.tool import Tool, Treatment

GRID = 8
"""Crops start at multiples of so many pixels: JPEG's grid."""


@dataclass(frozen=True)
class Setup:
    """All that a process needs to know; it can be sent to another one."""

    choice: CriticChoice
    files: tuple[str, ...]
    side: int
    threads: int | None
    """CPU threads; None is torch's own number."""


@dataclass(frozen=True)
class Chunk:
    """Some crops."""

    photos: Path | None
    """Folder of clean photographs; None for scikit-image's."""
    count: int
    seed: int
    evidence: dict[str, Any] | None = None
    """What is known already, as a document: what the pixels say for a chunk that is looked at, what is present for one
    on which tools are tried."""
    share: tuple[int, int] = (0, 1)
    """Of the photographs: from this one on every so manieth."""


class Site:
    """One process with critic and tools."""

    def __init__(self, setup: Setup) -> None:
        from iqloop.agents.diagnosis import PERCEIVED, UNKNOWN_SEVERITY
        from iqloop.agents.toolbox import choose_tools
        from iqloop.recipes.loading import load_critic, load_registry
        from iqloop.recipes.restore.site import use_threads

        use_threads(setup.threads)
        self.side = setup.side
        registry = load_registry(setup.files, setup.choice.device, lambda _: None, "auto")
        entries = {treatment: choose_tools(registry, treatment, UNKNOWN_SEVERITY, 1) for treatment in PERCEIVED}
        self.tools: dict[Treatment, Tool] = {name: found[0].load() for name, found in entries.items() if found}
        if not self.tools:
            raise UsageError(f"expected a tool for one of {', '.join(PERCEIVED)}, found none")
        self.critic: Critic = load_critic(setup.choice, ("score", "perceive"))

    def glance(self, chunk: Chunk) -> list[Seen]:
        """Measure damaged crops."""
        from iqloop.agents.evidence_measure import glance

        return glance(self._crops(chunk), chunk.seed)

    def look(self, chunk: Chunk) -> list[Seen]:
        """Look at damaged crops."""
        from iqloop.agents.evidence import from_document
        from iqloop.agents.evidence_measure import observe

        assert chunk.evidence is not None, "critic and pixels are weighed together"
        return observe(self._crops(chunk), self.critic, from_document(chunk.evidence), chunk.seed)

    def attempt(self, chunk: Chunk) -> list[Known]:
        """Try tools on damaged crops."""
        from iqloop.agents.evidence import from_document
        from iqloop.agents.evidence_measure import gather

        assert chunk.evidence is not None, "tools are tried when it is known what is present"
        return gather(self._crops(chunk), self.tools, self.critic, from_document(chunk.evidence), chunk.seed)

    def _crops(self, chunk: Chunk) -> Iterator[Bytes]:
        from iqloop.recipes.bench.tools import photographs

        return crops(share_of(photographs(chunk.photos), *chunk.share), chunk.count, self.side, chunk.seed)


def share_of(readers: Sequence[Reader], first: int, step: int) -> Sequence[Reader]:
    """Every ``step``-th photograph from the ``first`` on; of fewer photographs all are in every share."""
    return readers[first::step] if len(readers) >= step else readers


def crops(readers: Sequence[Reader], count: int, side: int, seed: int) -> Iterator[Bytes]:
    """Random crops, one photograph after the other in a random order, each as often as it takes."""
    import numpy as np

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(readers))
    for i in range(count):
        image = readers[int(order[i % len(readers)])]()
        top, left = (int(rng.integers(max(1, extent - side + 1))) // GRID * GRID for extent in image.shape[:2])
        yield np.ascontiguousarray(image[top : top + side, left : left + side])


def cut(
    photos: Path | None,
    count: int,
    chunks: int,
    seed: int,
    evidence: dict[str, Any] | None = None,
    share: tuple[int, int] = (0, 1),
) -> list[Chunk]:
    """``count`` crops in at most ``chunks`` chunks of nearly equal size, none so small that it would not have crops
    with every number of degradations (`iqloop.agents.evidence_measure.FOLDS`)."""
    from iqloop.agents.evidence_measure import FOLDS

    chunks = max(1, min(chunks, count // len(FOLDS)))
    sizes = [count // chunks + (place < count % chunks) for place in range(chunks)]
    return [Chunk(photos, size, seed + place, evidence, share) for place, size in enumerate(sizes) if size]


Runner = Callable[[str, Sequence[Chunk]], Iterator[list[Any]]]
"""Does a method of `Site` on every chunk, in order."""


@contextmanager
def runner(setup: Setup, workers: int) -> Iterator[tuple[Site, Runner]]:
    """This process's site, and what does the work: it alone, or ``workers`` processes."""
    site = Site(setup)
    if workers == 1:
        yield site, lambda job, chunks: (getattr(site, job)(chunk) for chunk in chunks)
        return
    with get_context("spawn").Pool(workers, _open, (setup,)) as pool:
        yield site, lambda job, chunks: pool.imap(_do, [(job, chunk) for chunk in chunks])


_SITE: list[Site] = []
"""Of a worker process."""


def _open(setup: Setup) -> None:
    _SITE.append(Site(setup))


def _do(task: tuple[str, Chunk]) -> list[Any]:
    job, chunk = task
    found: list[Any] = getattr(_SITE[0], job)(chunk)
    return found
