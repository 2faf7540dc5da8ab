"""Running tools: loaded once, cached by content, counted against the budget, and never fatal to the loop.

An output that is found on a disk is counted like one that was made: a run costs what it would cost without the disk.
A fault is not kept there, since memory may suffice another time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqloop.agents.budget import Spending
from iqloop.agents.cache import Cache, Key
from iqloop.agents.candidate import Candidate
from iqloop.agents.circumstances import made_with, says_version
from iqloop.agents.sanity import find_fault
from iqloop.agents.toolbox import Entry
from iqloop.restorers.tool import Tool


@dataclass(frozen=True, eq=False)
class Run:
    """What came of one tool on one candidate."""

    output: Tensor | None
    """``(3, H, W)`` in [0, 1], or None when the tool failed or gave no sane image."""
    fault: str
    """Why there is no output; empty when there is one."""
    seconds: float
    cached: bool
    """True when the output was known."""


class Workshop:
    """Runs registered tools on candidates with one seed."""

    def __init__(self, spending: Spending, cache: Cache, seed: int) -> None:
        self.spending = spending
        self.cache = cache.for_run()
        self.seed = seed
        self._tools: dict[tuple[str, str], Tool] = {}

    def run(self, entry: Entry, start: Candidate) -> Run:
        """Apply a tool to a candidate. Raises `iqloop.agents.budget.OverBudget`; whatever the tool raises is a
        fault."""
        key: Key = (start.sha256, entry.info.name, entry.info.version, self.seed)
        known = self.cache.output(key)
        if known is not None:
            self.spending.tool_cache_hits += 1
            return Run(known, "", 0.0, True)
        fault_key: Key = ("fault", *key)
        known_fault = self.cache.answer(fault_key)
        if known_fault is not None:
            self.spending.tool_cache_hits += 1
            return Run(None, known_fault, 0.0, True)
        self.spending.call_tool()
        began = self.spending.clock()
        output, fault = self._attempt(entry, start)
        if output is not None:
            self.cache.keep_output(key, output)
        else:
            self.cache.keep_answer(fault_key, fault)
        return Run(output, fault, self.spending.clock() - began, False)

    def _attempt(self, entry: Entry, start: Candidate) -> tuple[Tensor | None, str]:
        image, disk = start.image, self.cache.disk
        # MemoryError included: one bad tool must not end the run.
        try:
            with torch.no_grad():
                key = self._disk_key(entry, start)
                known = None if disk is None or key is None else disk.output(key)
                if known is not None:
                    return known.to(image.device), ""
                # A copy: a tool that works in place must not change the candidate it started from.
                output = self._load(entry).restore(image[None].clone(), seed=self.seed)
            fault = find_fault(output, image, entry.info.scale)
        except Exception as error:  # a plug-in may raise anything
            text = str(error).strip()
            return None, f"{type(error).__name__}: {text}" if text else type(error).__name__
        if fault is not None:
            return None, fault
        made = output[0].detach().to(image.device, image.dtype).clamp(0, 1).contiguous()
        if disk is not None and key is not None:
            disk.keep_output(key, made)
        return made, ""

    def _disk_key(self, entry: Entry, start: Candidate) -> Key | None:
        """Everything that the output follows from; None when it is not to be kept. Raises what loading a tool does."""
        disk, info, image = self.cache.disk, entry.info, start.image
        # A hash is that of float32 values: two images of doubles may share it.
        if disk is None or image.dtype != torch.float32 or not says_version(info):
            return None
        made = disk.made_with or made_with(self._load(entry))
        return (start.sha256, str(image.device), info.name, info.version, info.scale, self.seed, made)

    def _load(self, entry: Entry) -> Tool:
        key = (entry.info.name, entry.info.version)
        if key not in self._tools:
            self._tools[key] = entry.load()
        return self._tools[key]
