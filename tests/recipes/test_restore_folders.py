"""restore on folders: which files, by how many processes, interrupted and gone on with, and what is said at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqloop.errors import UsageError
from iqloop.io import find_images
from iqloop.io.files import remove_strays, write_bytes_atomic
from iqloop.io.find import matches
from iqloop.recipes import machine
from iqloop.recipes.restore import run as restore_run
from iqloop.recipes.restore import site as restore_site
from iqloop.recipes.restore.file import Failure, Restored
from iqloop.recipes.restore.site import Deadline, Say, Setup
from iqloop.recipes.restore.summary import Tally, duration
from iqloop.recipes.restore.workers import Pool

from .helpers import ScriptedCritic, lines, run
from .light_place import LightPlace

posix = pytest.mark.skipif(os.name == "nt", reason="signals and file locks are POSIX")

PLUGIN = '''
import os, signal, torch
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Provenance, Rating

class Quick:
    """Likes what is smooth; sees noise in everything."""
    name, score_range, lower_better = "quick", (1.0, 5.0), False
    version = os.environ.get("QUICK_VERSION", "1")
    capabilities = frozenset({"score", "perceive"})

    def __init__(self, device=None):
        pass

    def score(self, images):
        return [Rating(self._value(image), 0.05, provenance=Provenance("quick")) for image in images]

    def _value(self, image):
        if image.shape[-1] == int(os.environ.get("QUICK_KILLS_AT_WIDTH", "0")):
            os.killpg(0, signal.SIGKILL)
        return max(1.0, 5 - 20 * float((image[..., 1:] - image[..., :-1]).abs().mean()))

    def perceive(self, images):
        sure = {name: float(name == "noise") for name in CLASSES}
        ladder = {"noise": {word: float(word == "obvious") for word in SEVERITIES}}
        return [Degradation("noise", "obvious", sure, ladder) for image in images]

    def compare(self, a, b, reference=None):
        raise NotImplementedError

    def describe(self, images):
        raise NotImplementedError
'''


@pytest.fixture
def quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A critic that other processes can load too: an installed plug-in."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "quick_critic.py").write_text(PLUGIN)
    about = folder / "quick_critic-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quick-critic\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[iqloop.critics]\nquick = quick_critic:Quick\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "quick_critic", raising=False)


@pytest.fixture
def photos(here: Path, noisy: NDArray[np.uint8]) -> Path:
    """``in`` with six small noisy photographs, one of them below."""
    Path("in/sub").mkdir(parents=True)
    for number in range(6):
        place = Path("in/sub" if number == 4 else "in") / f"{number}.png"
        Image.fromarray(np.roll(noisy, 7 * number, axis=0)[:40, : 40 + number]).save(place)
    return Path("in")


QUICKLY = ("--critic", "quick", "--plan", "noise", "--max-tool-calls", 2, "--device", "cpu")


def contents(folder: Path) -> dict[str, Any]:
    """Every file by its name; of JSON all but the seconds."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name, data = str(path.relative_to(folder)), path.read_bytes()
            found[name] = without_seconds(data.decode()) if path.suffix in (".json", ".jsonl") else data
    return found


def without_seconds(text: str) -> list[str]:
    return [line for line in text.replace(", ", ",\n").splitlines() if '"seconds"' not in line]


# --- which files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("a.png", "*.png", True),
        ("A.PNG", "*.png", True),
        ("d/a.png", "*.png", False),
        ("a.png", "**/*.png", True),
        ("d/e/a.png", "**/*.png", True),
        ("d/e/a.png", "d/**", True),
        ("d", "d/**", False),
        ("x/d/a.png", "**/d/*", True),
        ("d/e/a.png", "d/*/a.png", True),
        ("d/e/f/a.png", "d/*/a.png", False),
        ("d/e/f/a.png", "d/**/a.png", True),
        ("d/a.png", "**", True),
        ("b.png", "[!a]*", True),
        ("a1.png", "a?.png", True),
        ("a[1].png", "a[[]1].png", True),
        ("dir/a.png", "d?r?a.png", False),
    ],
)
def test_globs(path: str, glob: str, expected: bool) -> None:
    assert matches(path, glob) is expected


def test_find_takes_what_the_globs_say(tmp_path: Path) -> None:
    for name in ("a.png", "B.JPG", "thumbs/a.png", "2024/may/c.jpg", "2024/may/thumbs/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*named: Path, **globs: Any) -> list[str]:
        return [str(image.relative) for image in find_images(named or [tmp_path], **globs)]

    assert found(include=["**/*.jpg"]) == ["2024/may/c.jpg", "2024/may/thumbs/c.jpg", "B.JPG"]
    assert found(ignore=["**/thumbs/**"]) == ["2024/may/c.jpg", "a.png", "B.JPG"]
    assert found(include=["**/*.jpg"], ignore=["**/thumbs/**", "b.*"]) == ["2024/may/c.jpg"]
    assert found(tmp_path / "a.png", ignore=["**"]) == ["a.png"]  # it was named itself
    with pytest.raises(UsageError, match="has 5 images, and the globs leave none"):
        found(include=["*.webp"])
    with pytest.raises(UsageError, match="a glob is empty"):
        found(ignore=[""])


def test_globs_on_the_command_line(folder: Path, critic: ScriptedCritic) -> None:
    (row,) = lines(run("restore", folder, "-o", "out", "--json", "--include", "**/*.PNG", "--ignore", "sub/**"))
    assert row["input"] == "in/noisy.png"
    (row,) = lines(run("apply", "stretch", folder, "-o", "applied", "--json", "--include", "sub/*"))
    assert row["input"] == "in/sub/clean.png"
    assert run("restore", folder, "-o", "out", "--include", "*.webp").exit_code == 2


def test_an_output_folder_inside_the_input_folder_is_no_input(folder: Path, critic: ScriptedCritic) -> None:
    arguments = ("restore", folder, "-o", folder / "sub" / "out", "--json")
    names = ["in/noisy.png", "in/sub/clean.png"]
    assert [row["input"] for row in lines(run(*arguments))] == names
    again = lines(run(*arguments, "--resume"))
    assert [row["input"] for row in again] == names
    assert {path.name for path in (folder / "sub" / "out").iterdir()} == {".iqloop", "noisy.png", "sub"}


# --- several processes ---------------------------------------------------------------------------------------------


def test_the_number_of_workers_changes_nothing(photos: Path, quick: None) -> None:
    (photos / "3.png").write_bytes(b"no image")
    told = []
    for workers in (1, 3):
        result = run("restore", photos, "-o", f"out{workers}", "--json", "--workers", workers, *QUICKLY)
        assert result.exit_code == 1, result.stderr
        assert result.stderr.count("\n") == 1 and "in/3.png: " in result.stderr
        told.append(without_seconds(result.stdout.replace(f"out{workers}", "out")))
        rows = lines(result)
        assert [row.get("input") or row["path"] for row in rows] == [
            *(f"in/{number}.png" for number in (0, 1, 2, 3, 5)), "in/sub/4.png",
        ]  # fmt: skip
        assert rows[0]["steps"]
        summary = Path(f"out{workers}/.iqloop/summary.jsonl")
        assert summary.read_text() == result.stdout
        summary.unlink()
    assert told[0] == told[1]
    assert contents(Path("out1")) == contents(Path("out3"))
    assert len(contents(Path("out1"))) == 10


@pytest.fixture
def light(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Worker processes without torch; makes a folder of files with the orders given."""

    def pool(setup: Setup, size: int, notice: Say, detail: Say) -> Pool:
        return Pool(replace(setup, manner=None), size, notice, detail, LightPlace)  # type: ignore[arg-type]  # loads torch

    monkeypatch.setattr(restore_run, "Pool", pool)

    def make(**orders: str) -> Path:
        Path("in").mkdir()
        for name, order in orders.items():
            Path(f"in/{name}.png").write_text(order)
        return Path("in")

    return make


def test_a_worker_that_dies_costs_its_file_only(light: Callable[..., Path]) -> None:
    folder = light(a="same", b="die", c="better", d="die once", e="fail", f="better")
    result = run("restore", folder, "-o", "out", "--json", "--workers", 2)
    assert result.exit_code == 1
    rows = lines(result)
    assert [row.get("path") or row["input"] for row in rows] == [f"in/{name}.png" for name in "abcdef"]
    assert "was killed by signal 9, twice" in rows[1]["error"] and rows[4]["error"] == "as it was told"
    assert [path.name for path in sorted(Path("out").glob("*.png"))] == ["a.png", "c.png", "d.png", "f.png"]
    assert len(result.stderr.splitlines()) == 2 + 1  # two failures; "loaded" once, however many workers say so


@posix
def test_a_worker_that_dies_while_it_writes_leaves_nothing(light: Callable[..., Path]) -> None:
    result = run("restore", light(a="same", b="stray"), "-o", "out", "--workers", 2)
    assert result.exit_code == 1 and "in/b.png: the process that restored it was killed" in result.stderr
    assert {path.name for path in Path("out").iterdir()} == {"a.png", ".iqloop"}


def test_what_keeps_the_workers_from_loading_is_said_once(light: Callable[..., Path]) -> None:
    folder = light(a="same", b="same")
    result = run("restore", folder, "-o", "out", "--workers", 2, "--tool", "unloadable")
    assert result.exit_code == 2 and result.stderr == "error: ValueError: no such tool\n"


def test_workers_that_die_as_they_load_are_given_up(light: Callable[..., Path]) -> None:
    result = run("restore", light(a="same", b="same"), "-o", "out", "--workers", 2, "--tool", "deadly")
    assert result.exit_code == 2
    assert "no worker could be started (the last one ended with exit code 3): try  --workers 1" in result.stderr


@posix
def test_an_interrupt_ends_the_workers_and_says_how_to_go_on(light: Callable[..., Path]) -> None:
    os.mkfifo("held")
    folder = light(a="better", b="hold held", c="hold held", d="same")

    def interrupt() -> None:
        # Opens when a worker reads there: then one is at b, and a is done or under way.
        with open("held", "w"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    # What runs in the background of a shell is given deaf ears.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        result = run("restore", folder, "-o", "out", "--workers", 2, "--verbose")
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert result.exit_code == 130
    assert "of 4 done: go on with --resume" in result.stderr.splitlines()[-1]
    pids = [int(line.split()[1]) for line in result.stderr.splitlines() if line.startswith("pid ")]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not list(Path().rglob("*.tmp"))


@posix
def test_workers_end_with_their_parent(light: Callable[..., Path]) -> None:
    os.mkfifo("held")
    folder = light(a="hold held", b="hold held")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    child = os.fork()
    if child == 0:
        # The workers hold the pipe's end as long as they live.
        spawn = sys.modules["multiprocessing.util"].spawnv_passfds
        sys.modules["multiprocessing.util"].spawnv_passfds = lambda path, args, fds: spawn(  # type: ignore[attr-defined]
            path, args, [*fds, writing]
        )
        run("restore", folder, "-o", "out", "--workers", 2)
        os._exit(1)
    os.close(writing)
    held = os.open("held", os.O_WRONLY)  # opens when a worker is at work
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b""  # comes when the last of them has ended
    os.close(reading)
    os.close(held)


def test_how_many_workers_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(machine, "free_bytes", lambda: 8e9)
    assert machine.fitting_workers(100, 1) == 5
    assert machine.fitting_workers(3, 1) == 3
    assert machine.fitting_workers(100, 4) == 4
    monkeypatch.setattr(machine, "free_bytes", lambda: 1e9)
    assert machine.fitting_workers(100, 1) == 1
    monkeypatch.setattr(machine, "free_bytes", lambda: float("inf"))
    assert machine.fitting_workers(100, 1) == 16
    assert machine.fitting_workers(100, 32) == 1


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert machine.free_bytes() > 1e6


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5"])
def test_workers_are_a_number_or_auto(photo: Path, wrong: str) -> None:
    assert run("restore", photo, "--workers", wrong).exit_code == 2


# --- going on ------------------------------------------------------------------------------------------------------


def killed(*arguments: object, replaces: int | None = None, environment: dict[str, str] | None = None) -> None:
    """Run the command line in a process group of its own that is killed: at a rename, or by the critic."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.environ.update(environment or {})
        names = iter(range(1, 1000))
        rename = os.replace

        def replace(source: Path, target: Path) -> None:
            if next(names) == replaces:
                os.killpg(0, signal.SIGKILL)
            rename(source, target)

        os.replace = replace  # type: ignore[assignment]
        run(*arguments)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@posix
def test_killed_anywhere_and_gone_on_with_it_is_the_same(photos: Path, quick: None) -> None:
    arguments = ("restore", photos, "--json", "--keep-steps", *QUICKLY)
    whole = run(*arguments, "-o", "whole", "--workers", 1)
    assert whole.exit_code == 0
    half = (*arguments, "-o", "half")
    # While an output that was judged is written, between a trace and its output, and while two processes look.
    killed(*half, "--workers", 1, replaces=3)
    assert len(list(Path("half").rglob(".iqloop-*.tmp"))) == 1
    killed(*half, "--workers", 1, "--resume", replaces=10)
    assert len(list(Path("half").rglob(".iqloop-*.tmp"))) == 1
    few = len(list(Path("half").glob("*.png")))
    killed(*half, "--workers", 2, "--resume", environment={"QUICK_KILLS_AT_WIDTH": "45"})
    before = {path: path.stat().st_mtime_ns for path in Path("half").glob("*.png")}
    assert few < len(before) < 6  # two workers have done some
    again = run(*half, "--workers", 1, "--resume")
    assert again.exit_code == 0
    assert without_seconds(again.stdout) == without_seconds(whole.stdout.replace("whole", "half"))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert contents(Path("half")).keys() == contents(Path("whole")).keys()
    Path("half/.iqloop/summary.jsonl").unlink()
    Path("whole/.iqloop/summary.jsonl").unlink()
    assert contents(Path("half")) == contents(Path("whole"))


def test_resume_does_again_what_was_asked_for_otherwise(folder: Path, critic: ScriptedCritic) -> None:
    arguments = ["restore", folder, "-o", "out", "--resume"]
    assert run(*arguments).exit_code == 0
    for changed, name in (
        (["--seed", 1], "seed"),
        (["--seed", 1, "--exclude", "blur"], "settings.exclude"),
        (["--seed", 1, "--exclude", "blur", "--max-steps", 3], "budget.max_steps"),
    ):
        critic.batches.clear()
        result = run(*arguments, *changed)
        assert result.exit_code == 0 and critic.batches
        assert f"2 of 2 were restored with another {name}: done again" in result.stderr.splitlines()
        critic.batches.clear()
        assert "done again" not in run(*arguments, *changed).stderr and critic.batches == []
    critic.version = "2"
    result = run(*arguments, *changed)
    assert "another critic: done again" in result.stderr and critic.batches
    trace = json.loads(Path("out/.iqloop/noisy.json").read_text())
    assert trace["critic"]["version"] == "2" and trace["seed"] == 1


def test_resume_in_place_never_restores_an_output(folder: Path, critic: ScriptedCritic) -> None:
    arguments = ["restore", folder, "-o", folder, "--overwrite", "--resume"]
    assert run(*arguments).exit_code == 0
    once, clean = Path("in/noisy.png").read_bytes(), Path("in/sub/clean.png").read_bytes()
    critic.batches.clear()
    result = run(*arguments, "--seed", 1)
    # What was left alone is still an input; what was improved is not.
    assert "1 of 2 were restored with another seed" in result.stderr and critic.batches
    assert Path("in/noisy.png").read_bytes() == once and Path("in/sub/clean.png").read_bytes() == clean


@posix
def test_strays_of_the_dead_only_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, other = tmp_path / ".iqloop-0123456789abcdef.tmp", tmp_path / ".iqloop-mine.tmp"
    dead.write_bytes(b"half")
    other.write_bytes(b"not ours")
    rename, seen = os.replace, []

    def replace(source: Path, target: Path) -> None:
        # A writer that lives: its file stays.
        seen.append((remove_strays(tmp_path), Path(source).exists()))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_bytes_atomic(tmp_path / "a.txt", b"whole")
    assert seen == [([dead], True)]
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", other.name}
    assert remove_strays(tmp_path / "missing") == []


@posix
def test_a_file_that_was_taken_for_a_stray_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    lock = fcntl.flock

    def flock(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        Path(file.name).unlink()  # between its making and its locking
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert write_bytes_atomic(tmp_path / "a.txt", b"whole").read_bytes() == b"whole"


def test_an_interrupt_in_this_process_says_how_to_go_on(folder: Path, critic: ScriptedCritic) -> None:
    def interrupt(image: Any) -> None:
        if len(critic.batches) == last:
            raise KeyboardInterrupt

    shutil.copy("in/noisy.png", "in/a.png")
    run("restore", "in/a.png", "-o", "alone")
    last = 2 * len(critic.batches)  # in the midst of the second
    critic.batches.clear()
    critic.fault = interrupt
    result = run("restore", folder, "-o", "out")
    assert result.exit_code == 130 and result.stderr == "interrupted, 1 of 3 done: go on with --resume\n"
    critic.fault = None
    assert run("restore", folder, "-o", "out", "--resume").exit_code == 0
    critic.fault = interrupt
    critic.batches = [0] * (last - 1)
    assert run("restore", "in/noisy.png", "in/sub/clean.png").stderr == "interrupted, 0 of 2 done\n"


# --- the time of a whole run ---------------------------------------------------------------------------------------


def test_what_the_time_does_not_suffice_for_is_named(
    folder: Path, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    shutil.copy("in/noisy.png", "in/sub/z.png")
    shutil.copy("in/noisy.png", "in/sub/zz.png")
    names = [f"in/{name}.png" for name in ("noisy", "sub/clean", "sub/z", "sub/zz")]

    def pass_time(image: Any) -> None:
        nonlocal now
        now += 1.0

    critic.fault = pass_time
    monkeypatch.setattr(restore_site, "Deadline", partial(Deadline, clock=lambda: now))
    arguments = ("restore", folder, "-o", "out", "--json")
    whole = lines(run(*arguments, "--total-time-limit", 1000, "--overwrite"))
    assert [row["stop_reason"] == "total-time-limit" for row in whole] == [False] * 4
    shutil.rmtree("out")
    # Enough for the first two, and for the first question about the third.
    result = run(*arguments, "--total-time-limit", whole[0]["seconds"] + whole[1]["seconds"] + 0.5)
    assert result.exit_code == 1
    rows = lines(result)
    assert [row["input"] for row in rows] == names
    assert [row["output"] is None for row in rows] == [False, False, False, True]
    assert [row["stop_reason"] == "total-time-limit" for row in rows] == [False, False, True, True]
    assert list(rows[3]) == list(rows[0]) and rows[3]["calls"] == 0
    assert "the time is up: 1 of 4 not begun, 1 cut short: go on with --resume" in result.stderr
    assert not Path("out/sub/zz.png").exists()
    trace = json.loads(Path("out/.iqloop/sub/z.json").read_text())
    assert trace["stop_reason"] == "total-time-limit" and trace["budget"]["time_limit"] is None
    assert len(Path("out/.iqloop/summary.jsonl").read_text().splitlines()) == 4
    again = run(*arguments, "--resume")
    assert again.exit_code == 0 and "done again" not in again.stderr
    assert [row["stop_reason"] for row in lines(again)] == [row["stop_reason"] for row in whole]
    assert [row["steps"] for row in lines(again)] == [row["steps"] for row in whole]


def test_workers_begin_nothing_when_the_time_is_up(light: Callable[..., Path]) -> None:
    arguments = ("restore", light(a="same", b="die"), "-o", "out", "--workers", 2)
    result = run(*arguments, "--total-time-limit", 0)
    assert result.exit_code == 1 and "in/a.png: not begun" in result.stdout
    assert "not begun: 2" in result.stderr and "2 of 2 not begun: go on with --resume" in result.stderr


def test_the_shorter_limit_names_the_reason(photo: Path, critic: ScriptedCritic) -> None:
    limits = ("--time-limit", 0, "--total-time-limit", 1000)
    (row,) = lines(run("restore", photo, "--json", *limits, "-o", "out"))
    assert row["stop_reason"] == "time-limit"
    (row,) = lines(run("restore", photo, "--json", "--total-time-limit", 0, "-o", "other"))
    assert row["stop_reason"] == "total-time-limit" and row["output"] is None


# --- what is said --------------------------------------------------------------------------------------------------


def test_the_summary_counts(folder: Path, critic: ScriptedCritic) -> None:
    Path("in/broken.png").write_bytes(b"no image")
    result = run("restore", folder, "-o", "out")
    assert result.exit_code == 1
    said = dict(line.split(": ", 1) for line in result.stderr.splitlines())
    assert (said["done"], said["improved"], said["unchanged"]) == ("2 of 3", "1", "1")
    assert (said["failed"], said["not begun"]) == ("1", "0")
    rows = [json.loads(line) for line in Path("out/.iqloop/summary.jsonl").read_text().splitlines()]
    assert set(rows[0]) == {"path", "error"} and rows[0]["path"] == "in/broken.png"
    before, after = (sum(row[side] for row in rows[1:]) / 2 for side in ("score_before", "score_after"))
    assert said["mean score"] == f"{before:.2f} -> {after:.2f}"
    assert said["tool calls"] == str(sum(row["calls"] for row in rows[1:]))
    assert sum(int(count) for name, count in said.items() if name.startswith("ended by ")) == 2
    again = run("restore", folder, "-o", "out", "--resume")
    assert "done: 2 of 3 (2 of them before)" in again.stderr
    assert [json.loads(line) for line in Path("out/.iqloop/summary.jsonl").read_text().splitlines()] == rows
    assert run("restore", folder, "-o", "out", "--resume", "--quiet").stderr.count("\n") == 1


def test_the_estimate_goes_by_megapixels() -> None:
    now = 100.0
    tally = Tally({0: 1.0, 1: 1.0, 2: 10.0}, side_by_side=2, clock=lambda: now)
    done = Restored("a", "b", (), "clean", None, None, 0, 0, 4.0, False)
    tally.add(7, Restored("c", "d", ("tv",), "done", None, None, 1, 1, 900.0, True, earlier=True))
    assert tally.seconds_left() is None  # an earlier run's time says nothing of this one's
    tally.add(0, done)
    assert tally.seconds_left() == 40.0  # the large one is not shared out
    now += 15
    assert tally.seconds_left() == 25.0
    assert tally.__rich__() == "25 s left, 1 improved, 1 unchanged, 0 failed"
    tally.add(2, Failure("e", "f"))
    assert tally.seconds_left() == 0.0 and tally.failed == 1
    assert [duration(seconds) for seconds in (9.6, 130, 3600, 7500)] == ["10 s", "2 min", "1 h 00 min", "2 h 05 min"]


def test_steps_come_with_the_input(photo: Path, critic: ScriptedCritic) -> None:
    assert run("restore", photo, "-o", "out", "--keep-steps").exit_code == 0
    kept = Path("out/.iqloop/photo.steps/c0-input.png")
    assert bool((np.asarray(Image.open(kept)) == np.asarray(Image.open(photo))).all())
    trace = json.loads(Path("out/.iqloop/photo.json").read_text())
    assert trace["candidates"][0]["path"] == ".iqloop/photo.steps/c0-input.png"
    files = {made["path"]: made["file_sha256"] for made in trace["candidates"] if made["path"]}
    assert len(files) > 1
    for path, digest in files.items():
        assert hashlib.sha256((Path("out") / path).read_bytes()).hexdigest() == digest
