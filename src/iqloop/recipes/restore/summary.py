"""What came of all files of a run: while it goes on, in a table at its end, and as a file beside the traces."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.recipes.console import plain
from iqloop.recipes.restore.file import Failure, Restored, restore_fields
from iqloop.recipes.restore.jobs import TRACES

if TYPE_CHECKING:
    from iqloop.recipes.inputs import Input
    from iqloop.recipes.restore.site import Result

FILE = "summary.jsonl"
"""In the folder of the traces, whose own names end in ``.json``."""


@dataclass
class Tally:
    """Counts what is done, and says how long the rest may take; draws itself behind the progress bar."""

    megapixels: Mapping[int, float]
    """Of the files that are not done yet, by their place."""
    side_by_side: int = 1
    """Processes at work."""
    clock: Callable[[], float] = time.monotonic
    improved: int = 0
    unchanged: int = 0
    failed: int = 0
    _seen: set[int] = field(default_factory=set)
    _seconds: float = 0.0
    _done: float = 0.0
    _last: float = 0.0

    def add(self, index: int, result: Result) -> None:
        """One more is there."""
        self._seen.add(index)
        if isinstance(result, Failure):
            self.failed += 1
        elif result.output is not None:
            self.improved += result.improved
            self.unchanged += not result.improved
            if not result.earlier:
                self._seconds += result.seconds
                self._done += self.megapixels.get(index, 0.0)
                self._last = self.clock()

    def seconds_left(self) -> float | None:
        """By the seconds per megapixel of this run's finished files; None before the first."""
        waiting = [size for index, size in self.megapixels.items() if index not in self._seen]
        if self._done <= 0:
            return None
        # One image is never shared out, so the largest takes its time however many processes there are.
        longest = max([sum(waiting) / self.side_by_side, *waiting])
        return max(0.0, self._seconds / self._done * longest - (self.clock() - self._last))

    def __rich__(self) -> str:
        left = self.seconds_left()
        time_left = "" if left is None else f"{duration(left)} left, "
        return f"{time_left}{self.improved} improved, {self.unchanged} unchanged, {self.failed} failed"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def megapixels(source: Input) -> float:
    """From the file's head alone; 0 for what is no image."""
    from PIL import Image

    try:
        with Image.open(source.path or "") as image:
            return image.width * image.height / 1e6
    except Exception:  # whatever is wrong with it is said when it is restored
        return 0.0


def facts(results: Sequence[Result], seconds: float) -> list[tuple[str, str]]:
    """The table of a run: what came of the files, what it cost, and why each ended."""
    begun = [one for one in results if isinstance(one, Restored) and one.output is not None]
    improved = sum(one.improved for one in begun)
    failed = sum(isinstance(one, Failure) for one in results)
    earlier = sum(one.earlier for one in begun)
    rows = [
        ("done", f"{len(begun)} of {len(results)}" + (f" ({earlier} of them before)" if earlier else "")),
        ("improved", str(improved)),
        ("unchanged", str(len(begun) - improved)),
        ("failed", str(failed)),
        ("not begun", str(len(results) - len(begun) - failed)),
    ]
    scored = [(one.score_before, one.score_after) for one in begun]
    pairs = [(before, after) for before, after in scored if before is not None and after is not None]
    if pairs:
        before, after = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
        rows.append(("mean score", f"{before:.2f} -> {after:.2f}"))
    rows.append(("tool calls", str(sum(one.calls for one in begun))))
    rows.append(("critic calls", str(sum(one.critic_calls for one in begun))))
    rows.append(("seconds", f"{seconds:.1f}"))
    reasons = Counter(one.stop_reason for one in begun)
    rows += [(f"ended by {reason}", str(count)) for reason, count in sorted(reasons.items())]
    return rows


def write_summary(folder: Path, results: Iterable[Result]) -> Path:
    """One line for each input, in their order: the fields of ``--json``. Raises `iqloop.errors.ImageWriteError`."""
    from iqloop.io import write_bytes_atomic

    lines = [json.dumps(plain(restore_fields(result)), allow_nan=False) + "\n" for result in results]
    return write_bytes_atomic(folder / TRACES / FILE, "".join(lines).encode(), overwrite=True)
