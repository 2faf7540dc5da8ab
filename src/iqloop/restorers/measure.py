"""What tools gain on known degradations, or on pairs of photographs: quality before and after, and time.

    measure        every tool of the right scale, on photographs that are degraded here
    measure_plan   the same for tools chosen by degradation
    measure_pairs  on photographs that come with what they should look like
    markdown       the table

PSNR and SSIM need the undamaged photograph, so these figures choose and check tools; the loop itself has none.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from iqloop.distort.image import Bytes
from iqloop.errors import ToolError, UsageError
from iqloop.restorers.degradation import Case, Degradation, check, degrade, scale_of
from iqloop.restorers.full_reference import PERFECT, psnr, ssim
from iqloop.restorers.tool import Tool

PAIRS = "pairs"
"""Degradation of a row that was measured on pairs; its severity is 0."""
Plan = Sequence[tuple[Degradation, Sequence[Tool]]]
"""Which tools are measured on which degradation."""


@dataclass(frozen=True)
class Row:
    """One tool on one degradation, the mean over the photographs."""

    tool: str
    degradation: str
    severity: float
    """The number of the degradation: a severity, a sigma, a quality (`iqloop.restorers.degradation`)."""
    psnr_before: float
    """dB, at most `PERFECT`; inf for ``clean``; where sides were divided that of Pillow's bicubic enlargement."""
    psnr_after: float
    """dB of the tool's output, rounded to 8 bits, to the photograph; at most `PERFECT`."""
    ssim: float
    """Of the output (Wang et al., 2004, Gaussian window), mean over channels."""
    worst: float
    """The smallest gain over the photographs in dB (for ``clean``: the smallest PSNR)."""
    seconds_per_megapixel: float
    """Of output, on this machine: the median of the photographs. The first run of a tool is not counted."""
    gain: float | None
    """``psnr_after - psnr_before``; None for ``clean``."""
    worse: float | None
    """Fraction of the photographs whose PSNR fell; None for ``clean``."""
    photographs: int
    """How many there were."""


def measure(
    tools: Sequence[Tool], photographs: Iterable[Bytes], degradations: Iterable[Degradation], seed: int = 0
) -> list[Row]:
    """Degrade each photograph, restore it with each tool, compare.

    Args:
        tools: what to measure; a tool of another scale than the degradation is left out.
        photographs: undamaged, ``(H, W, 3)`` uint8 RGB; at least one. Looked at once, one by one.
        degradations: see `iqloop.restorers.degradation`.
        seed: photograph ``i`` is degraded with ``seed + i``.

    Raises:
        UsageError: no photograph, or an unknown degradation.
        ToolError: a tool failed, or its output has another size than it promised.
    """
    plan = [(one, [tool for tool in tools if tool.info.scale == scale_of(one)]) for one in map(check, degradations)]
    return measure_plan(plan, photographs, seed)


def measure_plan(
    plan: Plan, photographs: Iterable[Bytes], seed: int = 0, advance: Callable[[], object] = lambda: None
) -> list[Row]:
    """`measure` for tools chosen by degradation; ``advance`` is called after each run of a tool.

    Each photograph is degraded once and all tools get the same array. Tools take turns on a photograph, so whatever
    else the machine does falls on all of them, and no more than one photograph is in memory.
    """
    tallies = [[_Tally(tool, *degradation) for tool in tools] for degradation, tools in plan]
    watch = _Watch()
    count = 0
    for i, photograph in enumerate(photographs):
        for (degradation, _), row in zip(plan, tallies, strict=True):
            case = degrade(photograph, degradation, seed + i) if row else None
            for tally in row:
                assert case is not None
                tally.add(case, watch, seed + i)
                advance()
        count = i + 1
    if not count:
        raise UsageError("no photographs to measure on: expected at least one (H, W, 3) uint8 array")
    return [tally.row() for row in tallies for tally in row]


def measure_pairs(
    tools: Sequence[Tool],
    pairs: Iterable[tuple[Bytes, Bytes]],
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> list[Row]:
    """Restore the first of each pair with each tool, compare with the second.

    Args:
        tools: what to measure, of scale 1.
        pairs: damaged and clean, each ``(H, W, 3)`` uint8 RGB of one size; at least one. Looked at once, one by one.
        seed: pair ``i`` is restored with ``seed + i``, which matters to seeded tools only.
        advance: called after each run of a tool.

    Raises:
        UsageError: no pair, or one of two sizes.
        ToolError: a tool failed, or its output has another size than it promised.
    """
    tallies = [_Tally(tool, PAIRS, 0) for tool in tools]
    watch = _Watch()
    count = 0
    for i, (given, truth) in enumerate(pairs):
        if given.shape != truth.shape:
            raise UsageError(f"pair {i + 1}: expected two images of one size, got {given.shape} and {truth.shape}")
        for tally in tallies:
            tally.add(Case(given, given, truth), watch, seed + i)
            advance()
        count = i + 1
    if not count:
        raise UsageError("no pairs to measure on: expected at least one, damaged and clean")
    return [tally.row() for tally in tallies]


@dataclass
class _Watch:
    """Runs tools by the clock."""

    warm: set[int] = field(default_factory=set)

    def run(self, tool: Tool, given: Bytes, seed: int) -> tuple[Bytes, float]:
        """A tool's output, rounded to 8 bits, and the seconds it took."""
        tensor = torch.from_numpy(given.copy()).permute(2, 0, 1)[None].float() / 255
        if id(tool) not in self.warm:
            # The first run pays for what is set up once: imports, kernels chosen by shape, a device that wakes up.
            self.warm.add(id(tool))
            tool.restore(tensor.clone(), seed)
        start = time.perf_counter()
        restored = tool.restore(tensor, seed)
        seconds = time.perf_counter() - start
        values = restored.detach().to("cpu", torch.float32).clamp(0, 1)[0].permute(1, 2, 0).numpy()
        return np.rint(values * 255).astype(np.uint8), seconds


@dataclass
class _Tally:
    """What one tool did on one degradation, photograph by photograph."""

    tool: Tool
    degradation: str
    severity: float
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    """Seconds per megapixel."""

    def add(self, case: Case, watch: _Watch, seed: int) -> None:
        """Restore one photograph."""
        result, seconds = watch.run(self.tool, case.given, seed)
        if result.shape != case.truth.shape:
            name = self.tool.info.name
            raise ToolError(f"{name} gave {result.shape} for {case.given.shape}, expected {case.truth.shape}")
        self.pace.append(seconds / (result.shape[0] * result.shape[1]) * 1e6)
        self.before.append(min(psnr(case.baseline, case.truth), PERFECT))
        self.after.append(min(psnr(result, case.truth), PERFECT))
        self.similarity.append(ssim(result, case.truth))

    def row(self) -> Row:
        """The means."""
        before, after, similarity = (float(np.mean(values)) for values in (self.before, self.after, self.similarity))
        # Nothing can be gained on a photograph that has no fault: what counts is how much of it is left.
        clean = self.degradation == "clean"
        gains = [new - old for new, old in zip(self.after, self.before, strict=True)]
        return Row(
            tool=self.tool.info.name,
            degradation=self.degradation,
            severity=self.severity,
            psnr_before=math.inf if clean else before,
            psnr_after=after,
            ssim=similarity,
            worst=min(self.after) if clean else min(gains),
            seconds_per_megapixel=statistics.median(self.pace),
            gain=None if clean else after - before,
            worse=None if clean else sum(gain < 0 for gain in gains) / len(gains),
            photographs=len(gains),
        )


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown: gain, its worst case, how often it is a loss, SSIM, time."""
    lines = [
        "| tool | degradation | severity | PSNR before | after | gain | worst | worse | SSIM | s/MP |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        before = "" if math.isinf(row.psnr_before) else f"{row.psnr_before:.2f}"
        # A PSNR has no sign, a gain has one.
        worst = f"{row.worst:.2f}" if row.gain is None else f"{row.worst:+.2f}"
        gain = "" if row.gain is None else f"{row.gain:+.2f}"
        worse = "" if row.worse is None else f"{row.worse * 100:.0f} %"
        lines.append(
            f"| {row.tool} | {row.degradation} | {row.severity:g} | {before} | {row.psnr_after:.2f} | {gain} "
            f"| {worst} | {worse} | {row.ssim:.3f} | {row.seconds_per_megapixel:.3g} |"
        )
    return "\n".join(lines)
