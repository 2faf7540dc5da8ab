"""The Ray engine on a local Ray with two workers: the same rows as this process, whatever dies.

Ray is started once. Workers import torch when they start, which is most of the time these tests take; so each run of
them is used for all it can show.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqloop.recipes.scale import session
from iqloop.recipes.scale.options import Spread

from .helpers import run
from .ray_helpers import asked, install, numbered
from .test_scale import NUMBERED, rows_of, without

TWO = ("--engine", "ray", "--ray-workers", 2)
ONE = ("--engine", "ray", "--ray-workers", 1)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray, whose workers know the numbered critic; the folder that this takes orders from."""
    pytest.importorskip("ray")
    site = tmp_path_factory.mktemp("site")
    install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        patch.setenv("NUMBERED_FOLDER", str(site))
        patch.setenv("IQLOOP_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(session, "STORE_BYTES", 100 * 2**20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, of its own parts
            ray = session.imported(alone=True)
            session.begin(ray, 500, Spread(engine="ray", workers=2))
            yield site
            ray.shutdown()
    sys.modules.pop("numbered_critic", None)


pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="signals are POSIX"),
    # Ray leaves pipes and files of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_dead_workers_lose_nothing(orders: Path, here: Path) -> None:
    numbered(here / "in", 500)
    Path("in/bad.png").write_bytes(b"no image")
    (orders / "once").write_text("123")
    (orders / "always").write_text("321")
    result = run("score", "in", "-o", "out.parquet", *TWO, *NUMBERED)
    (orders / "always").unlink()
    assert result.exit_code == 1, result.stderr
    assert "in/bad.png: is not an image" in result.stderr and "321.png: the process that worked on it died" in (
        result.stderr
    )
    rows = rows_of("out.parquet")
    assert len(rows) == len({row["key"] for row in rows}) == 501
    assert sorted(row["key"] for row in rows if row["error"]) == ["1/321.png", "bad.png"]
    for row in rows:
        if row["error"] is None:
            assert row["score"] == pytest.approx(1 + int(Path(row["key"]).stem) / 1000)
    times = asked(orders)
    # A worker is at four batches of eight images: those of the one that died once, and of the one that always did.
    again = [number for number, count in times.items() if count > 1]
    assert 123 in again and times[321] >= 4 and len(again) <= 64
    assert len(times) == 500


def test_a_dead_driver_is_gone_on_with(orders: Path, here: Path) -> None:
    import ray

    folder = numbered(here / "in", 120)
    files = sorted(folder.rglob("*.png"))
    data = pa.table({"key": [file.name for file in files], "bytes": [file.read_bytes() for file in files]})
    pq.write_table(data, "packed.parquet", row_group_size=50)
    code = f"import os; open({str(orders / 'driver')!r}, 'w').write(f'119 {{os.getpid()}} {here}/out.parquet'); "
    code += "from iqloop.recipes.cli import main; main()"
    arguments = ["score", "packed.parquet", "-o", "out.parquet", "--batch-size", "4", "--part-rows", "8"]
    arguments += [*map(str, ONE), *NUMBERED]
    address = ray.get_runtime_context().gcs_address
    asked(orders)
    dead = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--ray-address", address], capture_output=True, check=False
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    before = {row["key"] for row in rows_of("out.parquet")}
    assert 0 < len(before) < 120
    asked(orders)
    result = run(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    rest = {int(Path(file).stem) for file in data["key"].to_pylist() if file not in before}
    assert asked(orders) == dict.fromkeys(rest, 1)
    rows = rows_of("out.parquet")
    assert [row["key"] for row in rows] == sorted(data["key"].to_pylist())
    assert all(row["score"] == pytest.approx(1 + int(Path(row["key"]).stem) / 1000) for row in rows)


@pytest.mark.parametrize("command", ["score", "perceive"])
def test_the_embedded_critic_says_the_same(
    command: str, orders: Path, here: Path, noisy: NDArray[np.uint8], clean: NDArray[np.uint8]
) -> None:
    Path("in").mkdir()
    for number in range(6):
        Image.fromarray((noisy, clean)[number % 2][: 60 + 6 * number]).save(f"in/{number}.png")
    options = ("--device", "cpu", "--dtype", "float32")
    assert run(command, "in", "-o", "here.parquet", *options).exit_code == 0
    # Other batches may change the last bits of a float32.
    assert run(command, "in", "-o", "ray.parquet", *ONE, "--batch-size", 4, *options).exit_code == 0
    here_rows, ray_rows = rows_of("here.parquet"), rows_of("ray.parquet")
    inexact = ("seconds", "score", "std", "digit_mass", "probabilities")
    assert without(ray_rows, *inexact) == without(here_rows, *inexact)
    for a, b in zip(here_rows, ray_rows, strict=True):
        for name in ("score", "std", "digit_mass"):
            assert b.get(name) == pytest.approx(a.get(name), abs=1e-5)
        assert dict(b.get("probabilities", {})) == pytest.approx(dict(a.get("probabilities", {})), abs=1e-5)


def test_restored_images_are_the_same(orders: Path, here: Path, noisy: NDArray[np.uint8]) -> None:
    numbered(here / "in", 3)
    Path("in/bad.png").write_bytes(b"no image")
    options = ("--plan", "noise", "--max-tool-calls", 1, "--no-cache", *NUMBERED)
    assert run("restore", "in", "-o", "here", "--workers", 1, *options).exit_code == 1
    arguments = ("restore", "in", "-o", "out.parquet", "--images", "there", *ONE, *options)
    result = run(*arguments)
    assert result.exit_code == 1 and "in/bad.png: is not an image" in result.stderr, result.stderr
    assert contents(Path("there")) == contents(Path("here"))
    rows = rows_of("out.parquet")
    assert [row["key"] for row in rows] == ["0/0.png", "0/2.png", "1/1.png", "bad.png"]
    assert rows[0]["input"] == "in/0/0.png" and Path(rows[0]["output"]).samefile("there/0/0.png")
    asked(orders)
    assert run(*arguments, "--resume").exit_code == 1 and not asked(orders)
    # Images that were written before a row told of them are not made again.
    for part in Path("out.parquet").glob("part-*"):
        part.unlink()
    assert run(*arguments, "--resume").exit_code == 1 and not asked(orders)
    assert without(rows_of("out.parquet"), "seconds") == without(rows, "seconds")


def contents(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
