"""Rows in parquet parts, written by this process: what is in them, what is refused, and how a run is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from iqloop.errors import CriticError, UsageError
from iqloop.recipes.options import CriticChoice
from iqloop.recipes.scale.cluster import Actor, _heard
from iqloop.recipes.scale.listing import find, items, text
from iqloop.recipes.scale.options import Spread
from iqloop.recipes.scale.rows import schema_of, table_of
from iqloop.recipes.scale.session import Size, fitting
from iqloop.recipes.scale.sink import Sink, opened
from iqloop.recipes.scale.work import Work

from .helpers import ScriptedCritic, lines, run
from .ray_helpers import asked, install, numbered

NUMBERED = ("--critic", "numbered", "--device", "cpu")


@pytest.fixture
def orders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the numbered critic takes orders from."""
    site = tmp_path_factory.mktemp("site")
    install(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    monkeypatch.setenv("NUMBERED_FOLDER", str(site))
    monkeypatch.delitem(sys.modules, "numbered_critic", raising=False)
    yield site
    sys.modules.pop("numbered_critic", None)


def rows_of(folder: str | Path) -> list[dict[str, Any]]:
    """Every row of a folder of parts, by key."""
    return sorted(pq.read_table(folder).to_pylist(), key=lambda row: row["key"])


def without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["score", "perceive"])
def test_rows_have_the_fields_of_json(command: str, folder: Path, critic: ScriptedCritic) -> None:
    (folder / "bad.jpg").write_bytes(b"no image")
    plain = run(command, folder, "--json")
    result = run(command, folder, "-o", "out.parquet", "--json")
    assert (result.exit_code, plain.exit_code) == (1, 1)
    assert lines(result) == lines(plain)
    rows = rows_of("out.parquet")
    assert [row["key"] for row in rows] == ["bad.jpg", "noisy.png", "sub/clean.png"]
    assert rows[0]["error"].startswith("is not an image") and rows[0]["path"] == "in/bad.jpg"
    own = [name for name in lines(plain)[1] if name != "path"]
    assert all(rows[0][name] is None for name in own)
    by_path = {line["path"]: line for line in lines(plain)}
    for row in rows[1:]:
        assert row["error"] is None and row["critic"] == "scripted" and row["critic_version"] == "1"
        told = {name: dict(row[name]) if name == "probabilities" else row[name] for name in ("path", *own)}
        assert told == by_path[row["path"]]
    assert pq.read_table("out.parquet").schema.equals(schema_of(command))  # type: ignore[arg-type]


def test_a_terminal_hears_of_failures_and_of_the_whole(folder: Path, critic: ScriptedCritic) -> None:
    (folder / "bad.jpg").write_bytes(b"no image")
    result = run("score", folder, "-o", "out.parquet")
    assert result.stdout == ""
    assert "in/bad.jpg: is not an image" in result.stderr and "rows: 3 new of 3, 1 of all failed" in result.stderr


def test_a_critic_that_cannot_perceive(folder: Path, critic: ScriptedCritic) -> None:
    critic.capabilities = frozenset({"score"})
    result = run("perceive", folder, "-o", "out.parquet")
    assert result.exit_code == 2 and "cannot perceive" in result.stderr
    assert not list(Path("out.parquet").glob("*.parquet"))


# --- sources -------------------------------------------------------------------------------------------------------


def test_a_table_of_paths_and_one_of_bytes(folder: Path, critic: ScriptedCritic) -> None:
    paths = ["in/noisy.png", "in/sub/clean.png"]
    pq.write_table(pa.table({"path": paths}), "paths.parquet")
    data = [Path(path).read_bytes() for path in (*paths, paths[0])]
    pq.write_table(pa.table({"key": ["n", "c", "x"], "bytes": [*data[:2], b"no image"]}), "packed.parquet")
    assert run("score", "paths.parquet", "-o", "a.parquet").exit_code == 0
    assert run("score", "packed.parquet", "-o", "b.parquet").exit_code == 1
    listed, packed = rows_of("a.parquet"), rows_of("b.parquet")
    assert [row["key"] for row in listed] == paths and [row["path"] for row in listed] == paths
    assert [row["key"] for row in packed] == ["c", "n", "x"]
    assert [listed[1]["score"], listed[0]["score"], None] == [row["score"] for row in packed]
    assert packed[2]["path"] == "x" and packed[2]["error"].startswith("is not an image")
    assert run("perceive", "a.parquet", "-o", "c.parquet").exit_code == 0  # rows are a table of paths
    assert [row["key"] for row in rows_of("c.parquet")] == paths


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a.png", "a.png"]}, "'a.png' stands for two images"),
        ({"path": ["a.png", "b.png"], "key": ["x", "x"]}, "'x' stands for two images"),
        ({"path": ["a.png", None]}, "has no key"),
        ({"bytes": [b""]}, "expected a column path, or the columns key and bytes, got bytes"),
    ],
)
def test_tables_that_are_refused(columns: dict[str, Any], message: str, here: Path) -> None:
    pq.write_table(pa.table(columns), "table.parquet")
    with pytest.raises(UsageError, match=message):
        find(["table.parquet"])


def test_inputs_that_are_refused(folder: Path) -> None:
    Path("not.parquet").write_text("text")
    for named, message in (
        (["-"], "rows are for many"),
        (["not.parquet"], "not.parquet: expected a parquet file"),
        (["not.parquet", "in"], "a table of images stands alone"),
    ):
        with pytest.raises(UsageError, match=message):
            find(named)


def test_keys_of_several_inputs_and_of_odd_names(folder: Path) -> None:
    assert list(find(["in/noisy.png", "in/sub"]).keys) == ["in/noisy.png", "in/sub/clean.png"]
    assert list(find(["in"], out=Path("in/sub")).keys) == ["noisy.png"]
    odd = os.fsdecode(b"in/\xff.png")
    Image.new("RGB", (8, 8)).save(odd)
    listing = find(["in"])
    assert "\\xff.png" in listing.keys and text(odd) == "in/\\xff.png"
    (item,) = [item for table in listing.tables(9) for item in items(table) if item.key == "\\xff.png"]
    assert item.read().pixels.shape == (3, 8, 8)


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "in", "--engine", "ray"), "give -o OUT.parquet"),
        (("score", "in", "-o", "out"), "expected a name that ends in .parquet"),
        (("score", "in", "--resume"), "give -o OUT.parquet"),
        (("score", "x.parquet"), "give -o OUT.parquet"),
        (("restore", "in", "-o", "out.parquet"), "are for --engine ray"),
        (("restore", "in", "-o", "out", "--images", "x"), "are for --engine ray"),
        (("restore", "in", "-o", "out", "--engine", "ray"), "ends in .parquet"),
        (("restore", "in", "-o", "o.parquet", "--engine", "ray"), "give --images FOLDER"),
        (("restore", "in", "-o", "o.parquet", "--engine", "ray", "--images", "in"), "is not empty"),
        (("restore", "in", "-o", "o.parquet", "--engine", "ray", "--dry-run"), "--dry-run cannot be given"),
    ],
)
def test_options_that_do_not_fit(
    arguments: tuple[str, ...], message: str, folder: Path, critic: ScriptedCritic
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and message in result.stderr


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_a_missing_package_is_named(
    package: str, folder: Path, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = run("score", folder, "-o", "out.parquet", "--engine", "ray")
    assert result.exit_code == 2
    assert result.stderr == f"error: {package} is not installed: run  pip install 'iqloop[ray]'\n"


def test_what_fits_a_cluster() -> None:
    def size(resources: dict[str, float], device: str | None = None, **options: Any) -> Size:
        return fitting(resources, device, 100, Spread(engine="ray", **options))

    assert size({"CPU": 9.0}) == Size(8, 1, 0.0)
    assert size({"CPU": 9.0}, cpus=4) == Size(2, 4, 0.0)
    assert size({"CPU": 64.0, "GPU": 4.0}) == Size(4, 1, 1.0)
    assert size({"CPU": 64.0, "GPU": 4.0}, gpus=0.5) == Size(8, 1, 0.5)
    assert size({"CPU": 8.0, "GPU": 4.0}, device="cpu") == Size(7, 1, 0.0)
    assert size({"CPU": 1000.0}).workers == 100  # no more than there are images
    for resources, options in (({"CPU": 4.0}, {"workers": 4}), ({"CPU": 4.0}, {"gpus": 1.0}), ({"CPU": 1.0}, {})):
        with pytest.raises(UsageError, match="ask for less"):
            size(resources, **options)


# --- parts ---------------------------------------------------------------------------------------------------------


def some(keys: str, version: str = "1") -> pa.Table:
    schema = schema_of("score")
    return table_of([{"key": key, "score": 1.0, "critic": "c", "critic_version": version} for key in keys], schema)


def sink(folder: Path, seed: int = 0, **options: Any) -> Sink:
    return Sink(folder, schema_of("score"), {"command": "score", "seed": seed}, options.pop("part_rows", 3), **options)


def test_parts_fill_and_age(tmp_path: Path) -> None:
    now = [0.0]
    out = sink(tmp_path, clock=lambda: now[0])
    assert out.begin(resume=False, overwrite=False).keys == set()
    counts = []
    for keys, seconds in (("ab", 0), ("c", 0), ("d", 0), ("e", 61), ("f", 0)):
        now[0] += seconds
        out.add(some(keys))
        counts.append([pq.read_metadata(part).num_rows for part in sorted(tmp_path.glob("part-*"))])
    assert counts == [[], [3], [3], [3, 2], [3, 2]]
    out.flush()
    about = json.loads(pq.read_schema(tmp_path / "part-000002.parquet").metadata[b"iqloop"])
    assert about == {"command": "score", "seed": 0, "critic": "c", "critic_version": "1"}
    assert [row["key"] for row in rows_of(tmp_path)] == list("abcdef")


def test_a_run_is_gone_on_with_by_itself_only(tmp_path: Path) -> None:
    with opened(sink(tmp_path)) as out:
        out.begin(False, False)
        out.add(some("ab"))
        with pytest.raises(UsageError, match="another run writes to"), opened(sink(tmp_path)):
            pass
    (tmp_path / ".iqloop-0123456789abcdef.tmp").write_bytes(b"half")
    with pytest.raises(UsageError, match="go on with --resume"):
        sink(tmp_path).begin(False, False)
    with pytest.raises(UsageError, match="a run with another seed"):
        sink(tmp_path, seed=1).begin(True, False)
    out = sink(tmp_path)
    assert out.begin(True, False).keys == {"a", "b"}
    with pytest.raises(CriticError, match=r"has rows by c \(version 1\), and these are by c \(version 2\)"):
        out.add(some("c", version="2"))
    out.add(some("c"))
    out.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "part-000000.parquet", "part-000001.parquet"]
    assert sink(tmp_path, seed=1).begin(False, True).keys == set()
    assert not list(tmp_path.glob("part-*"))
    (tmp_path / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="is no part of an iqloop run"):
        sink(tmp_path).begin(True, False)


def test_a_file_where_the_folder_should_be(folder: Path, critic: ScriptedCritic) -> None:
    Path("out.parquet").write_text("mine")
    result = run("score", folder, "-o", "out.parquet", "--overwrite")
    assert result.exit_code == 2 and "but it is a file" in result.stderr
    assert Path("out.parquet").read_text() == "mine"


def test_resume_does_exactly_the_rest(here: Path, orders: Path) -> None:
    numbered(here / "in", 20)
    (here / "in" / "bad.png").write_bytes(b"no image")
    run("score", "in", "-o", "all.parquet", *NUMBERED)
    asked(orders)
    code = f"import os; open({str(orders / 'driver')!r}, 'w').write(f'9 {{os.getpid()}}'); "
    code += "from iqloop.recipes.cli import main; main()"
    arguments = ["score", "in", "-o", "out.parquet", "--batch-size", "2", "--part-rows", "3", *NUMBERED]
    dead = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    before = {row["key"] for row in rows_of("out.parquet")}
    assert 0 < len(before) < 20
    asked(orders)
    result = run(*arguments, "--resume")
    assert result.exit_code == 1  # for the bad one, in which run it may have failed
    done = {int(Path(key).stem) for key in before - {"bad.png"}}
    assert asked(orders) == dict.fromkeys(set(range(20)) - done, 1)
    assert without(rows_of("out.parquet"), "seconds") == without(rows_of("all.parquet"), "seconds")
    assert run(*arguments, "--resume").exit_code == 1 and not asked(orders)
    (orders / "version").write_text("2")
    (here / "in" / "0" / "20.png").write_bytes((here / "in" / "0" / "0.png").read_bytes())
    result = run(*arguments, "--resume")
    assert result.exit_code == 2 and "take the same critic everywhere" in result.stderr


# --- what an actor says --------------------------------------------------------------------------------------------


def test_an_actor_that_cannot_work_says_so(folder: Path, critic: ScriptedCritic) -> None:
    (batch,) = find(["in"]).tables(9)
    heard: list[str] = []
    actor = Actor(Work("score", CriticChoice("anything", device="cpu")))
    actor.notices.append("a licence")
    assert _heard(actor(batch), heard.append)["key"].to_pylist() == ["noisy.png", "sub/clean.png"]
    assert heard == ["a licence"] and len(actor(batch)) == 2
    critic.capabilities = frozenset({"score"})
    refusing = Actor(Work("perceive", CriticChoice("anything", device="cpu")))
    with pytest.raises(CriticError, match="cannot perceive"):
        _heard(refusing(batch), heard.append)
