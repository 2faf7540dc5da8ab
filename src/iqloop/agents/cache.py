"""Nothing is computed twice: tool outputs and critic answers by content.

Answers are small and all kept. Outputs are images: the least recently used are dropped beyond a limit in bytes, so a
tool may run again on a very large photograph, but memory does not grow with the number of candidates.

Behind it there may be a disk (`iqloop.agents.disk_cache.open_cache`), which later runs have too. What is found in
memory costs a run nothing; what is found on the disk costs it the call that it saves.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from iqloop.agents.disk_cache import DiskCache

Key = tuple[str | int, ...]


class Cache:
    """In-memory cache of one run, or of several that are given the same one."""

    def __init__(self, max_bytes: int = 256 * 2**20, disk: DiskCache | None = None) -> None:
        self.max_bytes = max_bytes
        """Limit of the kept tool outputs together; an output larger than it is not kept at all."""
        self.disk = disk
        self._answers: dict[Key, Any] = {}
        self._outputs: OrderedDict[Key, Tensor] = OrderedDict()
        self._bytes = 0

    def for_run(self) -> Cache:
        """What a run keeps its own in: this object, or with a disk an empty memory in front of the same disk.

        So what a disk holds of earlier runs is all that they leave, and no count of a run depends on them.
        """
        return self if self.disk is None else Cache(self.max_bytes, self.disk)

    def answer(self, key: Key) -> Any | None:
        """A critic's verdict, or None."""
        return self._answers.get(key)

    def keep_answer(self, key: Key, verdict: Any) -> None:
        """Keep a critic's verdict."""
        self._answers[key] = verdict

    def output(self, key: Key) -> Tensor | None:
        """A tool's output ``(3, H, W)``, or None."""
        found = self._outputs.get(key)
        if found is not None:
            self._outputs.move_to_end(key)
        return found

    def keep_output(self, key: Key, image: Tensor) -> None:
        """Keep a tool's output ``(3, H, W)``, dropping older ones if need be."""
        size = image.numel() * image.element_size()
        if size > self.max_bytes or key in self._outputs:
            return
        self._outputs[key] = image
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, dropped = self._outputs.popitem(last=False)
            self._bytes -= dropped.numel() * dropped.element_size()
