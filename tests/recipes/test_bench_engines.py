"""The arithmetic of `iqloop bench engines`; its runs are those of test_ray_engine.py."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

from iqloop.recipes.bench.engines import Figures, Timed, _bytes_per_row, page
from iqloop.recipes.scale.rows import schema_of, table_of

from .helpers import run


def batch(*keys: str) -> pa.Table:
    return table_of([{"key": key, "score": 2.0, "seconds": 0.5} for key in keys], schema_of("score"))


def test_the_first_batch_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, 10.0, 12.0, 14.0, 100.0, 101.0, 103.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(readings))
    timed = Timed()
    assert timed.take(iter([batch("a", "b"), batch("c", "d"), batch("e", "f")])) == 4 / 4
    assert timed.take(iter([batch("g", "h"), batch("i")])) == 1 / 2
    assert (timed.first, timed.seconds, timed.counted, timed.worker) == (10.0, 6.0, 5, 2.5)
    assert sorted(timed.scores) == list("abcdefghi")


def test_bytes_of_a_row(tmp_path: Path) -> None:
    one = _bytes_per_row([batch("a")], tmp_path / "one")
    many = _bytes_per_row([batch(f"{number}") for number in range(300)], tmp_path / "many")
    assert one > 1000 and many < one / 20


def test_page_and_what_is_refused(here: Path) -> None:
    found = Figures(8, 64, 2, 10.0, 9.0, 0.9, (0.8, 1.0), 90.0, 95.0, 20.0, 3.0, 1e-7, 50.0)
    text = page(found, "mini", "a machine")
    assert "here 0.900, Ray 0.855" in text
    assert "| Ray / here | 0.900 (parts 0.800 to 1.000) |" in text and "8 JPEGs of 64 x 64 pixels" in text
    result = run("bench", "engines", "--images", 79)
    assert result.exit_code == 2 and "5 parts of at least two batches need 320 images" in result.stderr
