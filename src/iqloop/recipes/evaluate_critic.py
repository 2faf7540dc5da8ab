"""Measure a critic: `iqloop evaluate --critic NAME --photos FOLDER [--rated TABLE.csv]`.

Perception on distorted photographs (short side 224 as in DQ-495K, and native crops), scores along severity ladders,
and correlation with people's opinions. Every figure of the embedded critic's card comes from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from iqloop.errors import UsageError


def evaluate(
    critic: Any,
    photos: Path | None,
    rated: Path | None,
    *,
    count: int = 1000,
    native: int | None = 512,
    seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Figures as a JSON-able dictionary.

    Args:
        critic: any `Critic`.
        photos: clean photographs to distort; None skips perception and ladders.
        rated: CSV with columns ``file`` and ``mos_1_5``; None skips the correlation.
        count: distorted test images per protocol.
        native: side of native crops for the second protocol; None skips it.
        seed: draws the distortions.
        fold: with ``rated``, only every ``folds``-th row from this one (the part kept out of training); None takes all.
        folds: number of folds.
        progress: told (what, done, total).
    """
    from dataclasses import asdict

    from iqloop.critic.evaluate import cases, perception, severity_ladders
    from iqloop.critic.training.crops import load_photographs

    tell = progress or (lambda what, done, total: None)
    figures: dict[str, Any] = {"critic": critic.name, "version": critic.version, "seed": seed}
    if photos is not None:
        if not photos.is_dir():
            raise UsageError(f"{photos}: expected a folder of clean photographs")
        clean = load_photographs(photos)
        figures["photographs"] = len(clean)
        for name, side in (("short_side_224", None), (f"native_{native}", native)):
            if side is None and name != "short_side_224":
                continue
            test = list(cases(clean, count, seed, side))
            began = time.monotonic()
            seen = perception(critic, test, partial(_tell, tell, name, len(test)))
            figures[name] = {**asdict(seen), "seconds_per_image": (time.monotonic() - began) / max(1, len(test))}
        ladders = severity_ladders(critic, clean)
        figures["ladders"] = ladders
        figures["ladders_fall"] = {
            kind: all(b < a for a, b in pairwise(row)) for kind, row in ladders.items()
        }
    if rated is not None:
        figures["rated"] = _rated(critic, rated, fold, folds, tell)
    return figures


def _tell(tell: Callable[[str, int, int], None], what: str, total: int, done: int) -> None:
    tell(what, done, total)


def _rated(
    critic: Any, table: Path, fold: int | None, folds: int, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    import csv

    from iqloop.critic.evaluate import correlation
    from iqloop.critic.verdicts import Rating
    from iqloop.io import read

    with table.open(newline="") as handle:
        rows = [row for i, row in enumerate(csv.DictReader(handle)) if fold is None or i % folds == fold]
    if not rows or not {"file", "mos_1_5"} <= rows[0].keys():
        raise UsageError(f"{table}: expected a CSV with columns file and mos_1_5")
    base = table.parent.parent if rows[0]["file"].startswith(table.parent.name + "/") else table.parent
    scores, opinions = [], []
    for i, row in enumerate(rows):
        verdict = critic.score([read(base / row["file"]).pixels])[0]
        if isinstance(verdict, Rating):
            scores.append(verdict.mean)
            opinions.append(float(row["mos_1_5"]))
        progress("rated", i + 1, len(rows))
    srcc, plcc = correlation(scores, opinions)
    return {"images": len(rows), "scored": len(scores), "srcc": srcc, "plcc": plcc, "fold": fold, "folds": folds}
