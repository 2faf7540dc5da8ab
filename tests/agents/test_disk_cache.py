"""The disk cache: it gives back what was kept, to the bit, and no run can tell that it is there."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from iqloop.agents import Budget, RestoreSettings, restore
from iqloop.agents.answer_table import AnswerTable
from iqloop.agents.budget import Spending
from iqloop.agents.cache import Cache, Key
from iqloop.agents.cache_folder import LIMIT, STALE, cache_folder, cache_limit
from iqloop.agents.candidate import Candidate, pixel_hash
from iqloop.agents.circumstances import made_with, says_version
from iqloop.agents.disk_cache import DiskCache, open_cache
from iqloop.agents.output_files import OutputFiles
from iqloop.agents.questions import Questions
from iqloop.agents.trace import Document, without_times
from iqloop.agents.workshop import Workshop
from iqloop.critic.engine import QwenCritic
from iqloop.critic.fingerprint import fingerprint
from iqloop.critic.known import create_critic
from iqloop.critic.verdict_json import from_text, to_text
from iqloop.critic.verdicts import Degradation, Preference, Provenance, Rating, Unparsed
from iqloop.errors import ToolError, UsageError
from iqloop.restorers.classical import CLASSICAL
from iqloop.restorers.tool import ToolInfo
from tests.agents.agents_fakes import CLEAN, FakeCritic, FakeTool, Tools, World, degradation, photograph

KEY: Key = ("a", 1)
MADE = Provenance("m", "p/1", "expected")
VERDICTS = (
    Rating(1 / 3, 0.1 + 0.2, 1e-300, "raw \ud800 é", ("a", "b"), 2, MADE),
    degradation(noise=2.7, blur=1.1),
    Preference("similar", 0.5000000000000001, "why", ("A", "B"), "thurstone", -0.125, 1, MADE),
    Unparsed("<think>", "no JSON", MADE, 3),
)


class KnownCritic(FakeCritic):
    """A scripted critic that says what its answers follow from."""

    words: str | None = "weights 1, prompts 1"

    def fingerprint(self, question: str) -> str | None:
        return None if self.words is None else f"{self.words}, {question}"


class Scene:
    """A noisy photograph, a tool that fails, one that harms, one that mends, and a critic; new ones for each run."""

    def __init__(self) -> None:
        noisy, worse = degradation(noise=3.0), degradation(noise=4.0)
        self.world = World({"input": (2.0, noisy), "worse": (1.5, worse), "mended": (4.0, CLEAN)})
        self.tools = Tools(*(self._tool(name, to) for name, to in (("c", None), ("a", "worse"), ("b", "mended"))))
        states, name = self.world.states, self.world.name
        self.critic = KnownCritic(
            lambda image: states[name(image)][0], lambda image: states[name(image)][1], lambda a, b, reference: 0.9
        )

    def _tool(self, name: str, to: str | None) -> FakeTool:
        def change(image: Tensor) -> Tensor:
            if to is None:
                raise ToolError("too small")
            return self.world.images[to].clone()

        return FakeTool(ToolInfo(name, ("noise",), "fake", version="mine-1"), change)

    def run(self, cache: Cache | None, **options: object) -> tuple[Document, Tensor]:
        options.setdefault("settings", RestoreSettings(tools_per_step=3))
        done = restore(self.world.images["input"], self.critic, self.tools, cache=cache, **options)  # type: ignore[arg-type]
        return without_times(done.trace), done.image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files_in(folder: Path) -> list[Path]:
    return sorted((folder / "outputs").glob("*.safetensors"))


# -- a run cannot tell


@pytest.mark.parametrize("budget", [None, Budget(max_tool_calls=1), Budget(max_critic_calls=4), Budget(max_steps=0)])
def test_a_warm_disk_a_cold_one_and_none_give_one_trace(folder: Path, budget: Budget | None) -> None:
    runs = [Scene() for _ in range(3)]
    without = runs[0].run(None, budget=budget)
    cold, warm = (run.run(open_cache(folder, made_with="so"), budget=budget) for run in runs[1:])
    for document, image in (cold, warm):
        assert document == without[0] and torch.equal(image, without[1])
    assert runs[1].tools.calls == runs[0].tools.calls and runs[1].critic.asked == runs[0].critic.asked
    # What failed is tried again, the rest is known.
    assert runs[2].critic.asked == []
    assert [entry.calls for entry in runs[2].tools.entries[1:]] == [0, 0]
    assert runs[2].tools.entries[0].calls == runs[0].tools.entries[0].calls
    if budget is None:
        assert [entry.calls for entry in runs[0].tools.entries] == [1, 1, 1] and without[0]["improved"]


def test_a_shared_cache_is_a_new_memory_for_each_run(folder: Path) -> None:
    shared = open_cache(folder, made_with="so")
    first, second = (Scene().run(shared)[0] for _ in range(2))
    assert first == second and first["spent"]["tool_calls"] == 3
    # Without a disk it is one memory, as asked.
    scene, plain = Scene(), Cache()
    assert scene.run(plain)[0]["spent"]["tool_calls"] == 3 and scene.run(plain)[0]["spent"]["tool_calls"] == 0


def test_memory_comes_before_the_disk(folder: Path) -> None:
    scene = Scene()
    spending, entry = Spending(Budget()), scene.tools.entries[2]
    workshop = Workshop(spending, open_cache(folder, made_with="so"), 0)
    start = candidate(scene.world.images["input"])
    runs = [workshop.run(entry, start) for _ in range(2)]
    assert [run.cached for run in runs] == [False, True]
    assert (spending.tool_calls, spending.tool_cache_hits) == (1, 1)
    warm = Spending(Budget())
    found = Workshop(warm, open_cache(folder, made_with="so"), 0).run(entry, start)
    assert not found.cached and (warm.tool_calls, warm.tool_cache_hits) == (1, 0) and entry.calls == 1


# -- what is kept, and under what


def candidate(image: Tensor) -> Candidate:
    return Candidate("c0", image, pixel_hash(image))


def test_an_output_comes_back_bit_for_bit(folder: Path) -> None:
    image = torch.rand(3, 37, 53)
    image[0, 0, :5] = torch.tensor([0.0, -0.0, 1e-42, 1 - 2**-24, 1.0])
    DiskCache(folder, LIMIT).keep_output(KEY, image.transpose(1, 2))
    found = DiskCache(folder, LIMIT).output(KEY)
    assert found is not None and found.dtype == torch.float32
    assert torch.equal(found.view(torch.int32), image.transpose(1, 2).contiguous().view(torch.int32))
    found.zero_()  # it is the caller's own


def test_an_output_belongs_to_its_tool_version_seed_and_manner(folder: Path) -> None:
    scene = Scene()
    start, entry = candidate(scene.world.images["input"]), scene.tools.entries[2]

    def calls(seed: int = 0, made: str | None = "so", image: Candidate = start, **info: str) -> int:
        tool = FakeTool(replace(entry.info, **info), entry.change)  # type: ignore[arg-type]
        Workshop(Spending(Budget()), open_cache(folder, made_with=made), seed).run(tool, image)
        return tool.calls

    assert calls() == 1 and calls() == 0
    assert calls(seed=1) == calls(name="z") == calls(version="mine-2") == calls(made="other") == calls(made=None) == 1
    assert calls(image=candidate(start.image + 1e-3)) == 1
    assert calls(seed=1) == calls(name="z") == calls(version="mine-2") == calls(made="other") == calls(made=None) == 0
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert calls() == 1
    finally:
        torch.set_num_threads(threads)


def test_tools_without_a_version_and_doubles_are_not_kept(folder: Path) -> None:
    scene = Scene()
    entry = scene.tools.entries[2]
    silent = FakeTool(replace(entry.info, version="1"), entry.change)
    doubles = FakeTool(entry.info, lambda image: image / 2)
    start = scene.world.images["input"]
    for tool, image in ((silent, start), (doubles, start.double())):
        for _ in range(2):
            Workshop(Spending(Budget()), open_cache(folder, made_with="so"), 0).run(tool, candidate(image))
        assert tool.calls == 2
    assert not folder.exists()
    assert all(says_version(info) for info in CLASSICAL)


def test_a_tool_is_asked_how_it_was_made() -> None:
    class Net:
        device, dtype = torch.device("cpu"), torch.float16

    tool = FakeTool(ToolInfo("t", ("noise",), "fake"), lambda image: image)
    vars(tool).update(tile=64, net=Net())
    assert made_with(tool) == "calls=0, net.device=cpu, net.dtype=torch.float16, tile=64"


def test_an_answer_belongs_to_its_critic_question_and_images(folder: Path) -> None:
    scene = Scene()
    one, two = (candidate(scene.world.images[name]) for name in ("input", "mended"))

    def asked(ask: Callable[[Questions], object], words: str | None = "weights 1") -> int:
        critic = Scene().critic
        critic.words = words
        ask(Questions(critic, Spending(Budget()), open_cache(folder)))
        return len(critic.asked)

    for ask in (
        lambda q: q.score(one),
        lambda q: q.score(two),
        lambda q: q.perceive(one),
        lambda q: q.compare(one, two, one),
        lambda q: q.compare(two, one, one),
    ):
        assert asked(ask) == 1 and asked(ask) == 0
    # Another prompt, weights, decoding: the critic says so.
    assert asked(lambda q: q.score(one), "weights 2") == 1
    # One that says nothing is always asked.
    assert [asked(lambda q: q.score(one), None) for _ in range(2)] == [1, 1]


def test_a_critic_without_a_fingerprint_is_not_kept(folder: Path) -> None:
    world = World({"input": (2.0, CLEAN)})
    for _ in range(2):
        critic = world.critic()
        Questions(critic, Spending(Budget()), open_cache(folder)).score(candidate(world.images["input"]))
        assert critic.asked == ["score"]
    assert not folder.exists()


def test_the_fingerprint_of_a_checkpoint(tiny_folder: Path) -> None:
    def made(**options: object) -> QwenCritic:
        critic = create_critic(tiny_folder, device="cpu", **options)  # type: ignore[arg-type]
        assert isinstance(critic, QwenCritic)
        return critic

    critic = made()
    known = fingerprint(critic, "score")
    assert known is not None and known == fingerprint(made(), "score") == fingerprint(critic, "compare")
    found = {known}
    changed = [
        replace(critic, seed=1),
        replace(critic, decoding="reason"),
        replace(critic, decoding="reason", samples=2),
        replace(critic, decoding="reason", samples=2, temperature=0.5),
        replace(critic, text_first=True),
        replace(critic, batch_size=2),
        made(max_new_tokens=50),
        made(dtype="bfloat16"),
        made(attention="eager"),
    ]
    score = critic.checkpoint.source.prompts["score"]
    prompts = {**critic.checkpoint.source.prompts, "score": replace(score, parts=(None, "How good is it?"))}
    source = replace(critic.checkpoint.source, prompts=prompts)
    changed.append(replace(critic, checkpoint=replace(critic.checkpoint, source=source)))
    changed.append(replace(critic, checkpoint=replace(critic.checkpoint, answer_begin="It")))
    for other in changed:
        text = fingerprint(other, "score")
        assert text is not None and text not in found
        found.add(text)
    assert fingerprint(replace(critic, checkpoint=replace(critic.checkpoint, version="training")), "score") is None
    critic.checkpoint.model.requires_grad_(True)
    assert fingerprint(critic, "score") is None


def test_a_second_checkpoint_is_known_once_it_is_loaded(tiny_folder: Path, folder: Path) -> None:
    second = create_critic(tiny_folder, device="cpu", max_new_tokens=4)
    assert isinstance(second, QwenCritic)
    image, other = (candidate(photograph(size=56, left=left)) for left in (100, 140))
    asked = []

    def load() -> QwenCritic:
        asked.append("load")
        return second

    verdicts = []
    for _ in range(2):
        critic = replace(second, comparison=load)
        assert fingerprint(critic, "compare") is None and fingerprint(critic, "score") is not None
        questions = Questions(critic, Spending(Budget()), open_cache(folder))
        verdicts.append(questions.compare(image, other, image))
        assert fingerprint(critic, "compare") == fingerprint(second, "compare")
    assert asked == ["load"] * 2 and verdicts[0] == verdicts[1]
    assert DiskCache(folder, LIMIT).info().answers == 1


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: type(verdict).__name__)
def test_verdicts_come_back_equal(folder: Path, verdict: Rating | Degradation | Preference | Unparsed) -> None:
    text = to_text(verdict)
    assert text is not None and repr(from_text(text)) == repr(verdict)
    DiskCache(folder, LIMIT).keep_answer(KEY, verdict)
    assert DiskCache(folder, LIMIT).answer(KEY) == verdict


def test_what_is_no_verdict_is_not_kept() -> None:
    assert to_text(Rating(float("nan"), 0.0)) is None
    assert to_text(Rating(1.0, 0.0, raw=b"x")) is None  # type: ignore[arg-type]
    for text in ("{}", "[]", "x", '{"kind": "Rating"}', '{"kind": "Rating", "provenance": {"model": ""}, "mean": 1}'):
        with pytest.raises(ValueError):
            from_text(text)


# -- damage, size, company


def test_a_damaged_output_is_a_miss_and_goes(folder: Path) -> None:
    disk = DiskCache(folder, LIMIT)
    disk.keep_output(KEY, torch.rand(3, 8, 8))
    (path,) = files_in(folder)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    turned, retyped = whole.replace(b"[3,8,8]", b"[8,8,3]"), whole.replace(b'"F32"', b'"I32"')
    assert len({whole, turned, retyped}) == 3
    cut = (b"", b"\xff" * 8, whole[:40], whole[:-1], whole + b"\0", b"\0" * len(whole))
    for spoiled in (*cut, bytes(flipped), turned, retyped):
        path.write_bytes(spoiled)
        assert disk.output(KEY) is None and not path.exists()
    disk.keep_output(KEY, torch.zeros(3, 8, 8))
    assert disk.output(KEY) is not None


def test_damaged_answers_are_misses_and_are_kept_anew(folder: Path) -> None:
    disk = DiskCache(folder, LIMIT)
    disk.keep_answer(KEY, VERDICTS[0])
    table = sqlite3.connect(disk.answers.path)
    table.execute("UPDATE answers SET text = replace(text, 'expected', 'expectad')")
    table.commit()
    table.close()
    assert disk.answer(KEY) is None and disk.info().answers == 0
    disk.answers.close()
    for spoiled in (b"not a database" * 100, disk.answers.path.read_bytes()[:100] + b"\xff" * 20_000):
        disk.answers.path.write_bytes(spoiled)
        again = DiskCache(folder, LIMIT)
        assert again.answer(KEY) is None
        again.keep_answer(KEY, VERDICTS[1])
        assert again.answer(KEY) == VERDICTS[1]
        again.answers.close()


def test_outputs_are_bounded_and_the_least_recently_used_go(tmp_path: Path) -> None:
    keys = [f"{number:064x}" for number in range(12)]
    image = torch.zeros(3, 16, 16)
    outputs = OutputFiles(tmp_path / "outputs", 10 * 3_200)
    for age, key in enumerate(keys):
        outputs.put(key, image)
        path = outputs.folder / f"{key}.safetensors"
        os.utime(path, (0, 1000 + age) if path.exists() else None)
        outputs.get(keys[0])  # always in use
        assert sum(file.bytes for file in outputs.files()) <= outputs.limit
    kept = [key in {file.path.stem for file in outputs.files()} for key in keys]
    assert kept[0] and not kept[1] and kept[-1] and 5 <= sum(kept) < 12
    large = "f" * 64
    outputs.put(large, torch.zeros(3, 64, 64))
    assert outputs.get(large) is None and outputs.get(keys[-1]) is not None


def test_answers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iqloop.agents.answer_table.EVERY", 8)
    table = AnswerTable(tmp_path / "answers.sqlite", 100_000)
    for number in range(400):
        table.put(str(number), "x" * 1000)
    count, size, _, _ = table.summary()
    assert 40 < count < 100 and table.get("399") is not None
    assert (tmp_path / "answers.sqlite").stat().st_size < 150_000 < 10 * size


def test_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    outputs = OutputFiles(tmp_path, LIMIT)
    old, new, foreign = (tmp_path / name for name in (f".iqloop-{'0' * 16}.tmp", f".iqloop-{'1' * 16}.tmp", "old.tmp"))
    for path in (old, new, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (0, time.time() - 2 * STALE))
    outputs.put("0" * 64, torch.zeros(3, 2, 2))
    assert not old.exists() and new.exists() and foreign.exists()


def test_only_the_owner_may_look(folder: Path) -> None:
    before = os.umask(0)
    try:
        disk = DiskCache(folder, LIMIT)
        disk.keep_output(KEY, torch.zeros(3, 2, 2))
        disk.keep_answer(KEY, VERDICTS[0])
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert len(found) >= 5
    assert {oct(mode) for path, mode in found.items() if path.is_dir()} == {"0o700"}
    assert {oct(mode) for path, mode in found.items() if path.is_file()} == {"0o600"}


def test_many_writers_and_readers(folder: Path) -> None:
    """Each with its own objects, as processes have; the folder is too small for all of it."""
    images = [torch.full((3, 24, 24), number / 40) for number in range(40)]

    def work(start: int) -> int:
        disk, found = DiskCache(folder, 200_000), 0
        for step in range(40):
            number = (start + step) % 40
            disk.keep_output(("o", number), images[number])
            disk.keep_answer(("a", number), Rating(float(number), 0.0))
            image, answer = disk.output(("o", number - 1)), disk.answer(("a", number))
            assert image is None or torch.equal(image, images[number - 1])
            assert answer == Rating(float(number), 0.0)
            found += image is not None
        disk.answers.close()
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(work, range(0, 40, 10))) > 0
    assert DiskCache(folder, 200_000).info().answers == 40


def test_a_killed_process_leaves_the_answers_whole(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    program = (
        "import sys\nfrom pathlib import Path\nfrom iqloop.agents.answer_table import AnswerTable\n"
        "table = AnswerTable(Path(sys.argv[1]), 10**9)\n"
        "for number in range(10**9):\n    table.put(f'{sys.argv[2]}-{number}', 'x' * 500)\n"
        "    print(number, flush=True)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(path), name], stdout=subprocess.PIPE) for name in "ab"
    ]
    for process in running:
        assert process.stdout is not None
        for number in range(50):
            assert process.stdout.readline() == b"%d\n" % number
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    table = AnswerTable(path, 10**9)
    for name in "ab":
        assert all(table.get(f"{name}-{number}") == "x" * 500 for number in range(50))
    table.put("after", "y")
    assert table.get("after") == "y"


def test_a_disk_that_fails_costs_one_warning_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Scene().run(None)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("iqloop.agents.cache_folder.write_private", full)
    with pytest.warns(RuntimeWarning, match="fails at writing .No space left.*--no-cache") as told:
        found = Scene().run(open_cache(tmp_path / "full", made_with="so"))
    assert len(told) == 1 and found[0] == expected[0] and torch.equal(found[1], expected[1])
    monkeypatch.undo()
    # A folder in the table's place: it can be neither read nor written.
    folder = tmp_path / "blocked"
    DiskCache(folder, LIMIT).keep_output(KEY, torch.zeros(3, 2, 2))
    (folder / "answers.sqlite").mkdir()
    with pytest.warns(RuntimeWarning, match="fails at reading") as told:
        found = Scene().run(open_cache(folder, made_with="so"))
    assert len(told) == 1 and found[0] == expected[0] and torch.equal(found[1], expected[1])


# -- the folder


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"picture")
    with pytest.raises(UsageError, match=r"holiday\.png"):
        open_cache(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        open_cache(tmp_path / "holiday.png")
    with pytest.raises(UsageError, match="no cache of iqloop"):
        DiskCache(tmp_path, LIMIT).clear()
    with pytest.raises(UsageError, match="0 bytes or more"):
        open_cache(tmp_path / "new", -1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]


def test_clearing_removes_what_is_old_and_nothing_of_others(folder: Path) -> None:
    disk = DiskCache(folder, LIMIT)
    for number in range(3):
        disk.keep_output(("o", number), torch.zeros(3, 8, 8))
        disk.keep_answer(("a", number), Rating(1.0, 0.0))
    foreign = [folder / "note.txt", folder / "outputs" / "note.safetensors"]
    for path in foreign:
        path.write_text("mine")
    day_ago = time.time() - 86_400
    left = folder / f".iqloop-{'0' * 16}.tmp"
    left.write_bytes(b"half a mark")
    for path in (files_in(folder)[0], left):
        os.utime(path, (day_ago, day_ago))
    table = sqlite3.connect(disk.answers.path)
    table.execute("UPDATE answers SET used = ? WHERE key = (SELECT min(key) FROM answers)", (int(day_ago),))
    table.commit()
    table.close()
    held = disk.info()
    assert (held.outputs, held.answers, held.folder) == (3, 3, folder) and held.bytes > 3 * 768
    assert held.oldest == pytest.approx(day_ago, abs=2) and held.newest == pytest.approx(time.time(), abs=600)
    gone = disk.clear(time.time() - 3_600)
    assert (gone.outputs, gone.answers) == (1, 1) and gone.bytes >= 768
    assert not left.exists()
    rest = disk.clear()
    assert (rest.outputs, rest.answers) == (2, 2)
    assert all(path.read_text() == "mine" for path in foreign)
    assert (disk.info().outputs, disk.info().answers, disk.info().oldest) == (0, 0, None)
    disk.keep_answer(KEY, VERDICTS[0])
    assert disk.answer(KEY) == VERDICTS[0]


def test_where_it_is_and_how_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IQLOOP_CACHE", "IQLOOP_CACHE_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IQLOOP_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / "cache"
    monkeypatch.setenv("IQLOOP_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" and open_cache().disk.folder == tmp_path / "own"  # type: ignore[union-attr]
    monkeypatch.delenv("IQLOOP_CACHE")
    monkeypatch.delenv("IQLOOP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "iqloop"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "iqloop"
    assert cache_limit() == 2 * 2**30
    for text, size in (("5000", 5000), ("1.5 GB", 1_500_000_000), ("20mb", 20_000_000), ("0", 0)):
        monkeypatch.setenv("IQLOOP_CACHE_LIMIT", text)
        assert cache_limit() == size
    for text in ("lots", "-1", "5 parsecs"):
        monkeypatch.setenv("IQLOOP_CACHE_LIMIT", text)
        with pytest.raises(UsageError, match="500MB"):
            cache_limit()


def test_a_limit_of_nothing_keeps_no_output(folder: Path) -> None:
    disk = DiskCache(folder, 0)
    disk.keep_output(KEY, torch.zeros(3, 2, 2))
    assert disk.output(KEY) is None


def test_the_memory_of_a_run_is_as_large_as_asked(folder: Path) -> None:
    settings = RestoreSettings(cache_bytes=0)
    cache = open_cache(folder, max_bytes=settings.cache_bytes, made_with="so")
    assert cache.for_run().max_bytes == 0 and cache.for_run().disk is cache.disk
    assert Scene().run(cache, settings=settings)[0] == Scene().run(None, settings=settings)[0]
