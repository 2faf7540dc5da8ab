"""The folder of ``iqloop rerank``: a file for each candidate, the best one, and ``manifest.json``, which names them.

The manifest is written anew after each candidate, whole or not at all, so that an interrupted run goes on from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iqloop
from iqloop.errors import IqloopError, UsageError
from iqloop.io.files import read_bytes, write_bytes_atomic

if TYPE_CHECKING:
    from iqloop.agents.choose import BestOf, Sample
    from iqloop.critic.protocol import Critic

NAME = "manifest.json"
BEST = "best.png"
SAME = ("generator", "input", "prune")
"""What must not have changed for a run to be gone on with."""


class Manifest:
    """What is known of each candidate, by seed, and where its file is."""

    def __init__(self, folder: Path, told: Mapping[str, Any], rows: Mapping[int, dict[str, Any]]) -> None:
        self.folder = folder
        self.told = dict(told)
        self.rows = dict(rows)

    @property
    def prune(self) -> float:
        """Share of the candidates that is left halfway."""
        return float(self.told["prune"])

    def path(self, seed: int) -> Path:
        """The file of a candidate."""
        return self.folder / str(self.rows[seed]["file"])

    def ready(self, seeds: Iterable[int]) -> dict[int, Sample]:
        """The candidates that are there, their files as they were written."""
        from iqloop.agents.choose import Sample
        from iqloop.io import read

        found = {}
        for seed in seeds:
            row = self.rows.get(seed)
            if row is None or row["file"] is None or not self._whole(row):
                continue
            pixels = read(self.path(seed)).pixels
            found[seed] = Sample(seed, pixels, row["preview_score"], row["pruned"], row["seconds"], row["work"])
        return found

    def keep(self, samples: Sequence[Sample]) -> None:
        """Write candidates that are done."""
        for sample in samples:
            self.rows[sample.seed] = self._row(sample)
        self.write()

    def finish(self, found: BestOf, critic: Critic, scorers: Sequence[str]) -> None:
        """Write the ranking, and the best one once more under its own name."""
        for place in found.ranking.places:
            row = self.rows[found.samples[place.index].seed]
            row |= {
                "rank": place.rank,
                "strength": place.strength,
                "standard_error": place.standard_error,
                "score": place.score,
                "error": row["error"] or place.error,
            }
        seeds = [sample.seed for sample in found.samples]
        best = found.ranking.best
        self.told |= {
            "critic": {"name": critic.name, "version": critic.version, "further": list(scorers)},
            "by": found.ranking.by,
            "best": None if best is None else seeds[best],
            "work": found.work,
            "comparisons": [
                {
                    "a": seeds[match.a],
                    "b": seeds[match.b],
                    "preference": match.preference.choice,
                    "probability": match.preference.probability,
                    "reasoning": match.preference.reasoning,
                }
                for match in found.ranking.matches
            ],
            "position_bias": found.ranking.position_bias,
            "unparsed": found.ranking.unparsed,
            "notes": [*found.notes, *([found.ranking.note] if found.ranking.note else [])],
        }
        if best is not None:
            write_bytes_atomic(self.folder / BEST, read_bytes(self.path(seeds[best])), overwrite=True)
        self.write()

    def write(self) -> None:
        """Write it."""
        document = {"iqloop": iqloop.__version__, **self.told, "candidates": [self.rows[i] for i in sorted(self.rows)]}
        data = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_bytes_atomic(self.folder / NAME, data.encode(), overwrite=True)

    def _row(self, sample: Sample) -> dict[str, Any]:
        row: dict[str, Any] = {
            "seed": sample.seed,
            "file": None,
            "sha256": None,
            "pruned": sample.pruned,
            "preview_score": sample.preview_score,
            "seconds": round(sample.seconds, 3),
            "work": sample.work,
            "rank": None,
            "strength": None,
            "standard_error": None,
            "score": None,
            "error": sample.error,
        }
        if sample.image is not None:
            from iqloop.io import encode, read

            row["file"] = f"seed-{sample.seed}{'.halfway' if sample.pruned else ''}.png"
            data = encode(read(sample.image), Path(row["file"]))
            row["sha256"] = hashlib.sha256(data).hexdigest()
            write_bytes_atomic(self.folder / row["file"], data, overwrite=True)
        return row

    def _whole(self, row: Mapping[str, Any]) -> bool:
        try:
            data = read_bytes(self.folder / str(row["file"]))
        except IqloopError:
            return False
        return bool(hashlib.sha256(data).hexdigest() == row["sha256"])


def open_manifest(
    folder: Path, generator: Mapping[str, Any], image: str | None, prune: float, resume: bool, overwrite: bool
) -> Manifest:
    """The manifest of a folder, begun or gone on with. Raises `UsageError` for a folder that holds something else."""
    source = None
    if image is not None:
        source = {"path": Path(image).name, "sha256": hashlib.sha256(read_bytes(Path(image))).hexdigest()}
    told = json.loads(json.dumps({"generator": generator, "input": source, "prune": prune}))
    file = folder / NAME
    if file.is_file() and not overwrite:
        if not resume:
            raise UsageError(f"{folder} holds a run: go on with --resume, replace it with --overwrite, or name another")
        before = _read(file)
        other = [key for key in SAME if before.get(key) != told[key]]
        if other:
            raise UsageError(f"{file}: of a run with another {' and '.join(other)}: replace it with --overwrite")
        return Manifest(folder, told, {int(row["seed"]): row for row in before["candidates"]})
    if folder.is_dir() and any(folder.iterdir()) and not file.is_file():
        raise UsageError(f"{folder}: expected an empty folder, or one of an earlier run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}): choose another folder") from error
    return Manifest(folder, told, {})


def _read(file: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(read_bytes(file))
        for row in document["candidates"]:
            # A file's name comes out of a file: it stays in the folder.
            if row["file"] is not None and Path(str(row["file"])).name != row["file"]:
                raise ValueError(row["file"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: damaged ({type(error).__name__}): replace it with --overwrite") from error
    return document
