"""iqloop bench serve: its files, and what it finds at a server whose answers are known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from iqloop.recipes.bench.files import make_files
from iqloop.recipes.bench.serve import command as bench
from iqloop.recipes.bench.serve import process as serve_process

from .serve_helpers import WatchedCritic, serving

FILES = make_files(7, 64, seed=0)


def test_files_differ_and_follow_from_the_seed() -> None:
    assert len({data for _, data in FILES}) == len({name for name, _ in FILES}) == 7
    assert make_files(7, 64, seed=0) == FILES != make_files(7, 64, seed=1)
    with Image.open(io.BytesIO(FILES[0][1])) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))


def measured(here: WatchedCritic, there: WatchedCritic) -> bench.Figures:
    with serving(there) as served:
        return bench.measure(served.address, here, FILES, 64, connections=3, burst=9, parts=2, batch=2)


def test_figures_of_a_server_that_is_right() -> None:
    found = measured(WatchedCritic(), WatchedCritic())
    assert (found.images, found.burst, found.wrong, found.failed) == (7, 9, 0, 0)
    assert found.ratio == pytest.approx(found.served_per_second / found.local_per_second)
    assert min(found.ratios) <= found.ratio <= max(found.ratios) and len(found.ratios) == 2
    assert 0 < found.burst_p50 <= found.burst_p95 <= found.burst_p99
    assert (found.bomb_status, found.declared_status, found.chunked_status) == (413, 413, 413)
    assert 32 <= found.chunked_sent_mb < 512
    page = bench.page(found, "fake", "a machine")
    assert "7 JPEGs of 64 x 64 pixels" in page and "| wrong, failed | 0, 0 |" in page


def test_wrong_answers_are_counted() -> None:
    assert measured(WatchedCritic(), WatchedCritic(lambda image: 2.5)).wrong == 7 + 9


def test_the_command(here: Path, critic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from .helpers import lines, run

    @contextmanager
    def server(choice: Any, options: Any) -> Any:
        with serving(WatchedCritic(critic._value)) as served:
            yield served.address

    monkeypatch.setattr(serve_process, "server", server)
    words = ("bench", "serve", "--images", 3, "--side", 64, "--burst", 4, "--parts", 9, "-o", "serve.md")
    (row,) = lines(run(*words, "--json"))
    assert row["images"] == 3 and len(row["ratios"]) == 3 and row["wrong"] == 0 and "torch" in row["machine"]
    assert "served / here" in Path("serve.md").read_text() and Path("serve.json").exists()
