"""``iqloop cache`` and the option that commands share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from iqloop.agents.cache_folder import LIMIT
from iqloop.agents.disk_cache import DiskCache
from iqloop.critic.verdicts import Rating
from iqloop.recipes import cache as module
from iqloop.recipes import options

from .helpers import lines, run


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskCache:
    """A cache of two outputs, one of them ten days old, and an answer; where commands look for it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("IQLOOP_CACHE", str(folder))
    made = DiskCache(folder, LIMIT)
    made.keep_output(("old",), torch.zeros(3, 8, 8))
    (old,) = (folder / "outputs").iterdir()
    ten_days_ago = time.time() - 10 * 86_400
    os.utime(old, (ten_days_ago, ten_days_ago))
    made.keep_output(("new",), torch.zeros(3, 8, 8))
    made.keep_answer(("score",), Rating(3.0, 0.1))
    return made


def test_info(disk: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQLOOP_CACHE_LIMIT", "5GB")
    (told,) = lines(run("cache", "info", "--json"))
    assert told["folder"] == str(disk.folder) and told["limit"] == 5 * 10**9
    assert (told["outputs"], told["answers"], told["entries"]) == (2, 1, 3)
    on_disk = sum(path.stat().st_size for path in disk.folder.rglob("*") if path.is_file() and path.name[0] != "C")
    assert told["bytes"] == pytest.approx(on_disk, abs=40_000) and told["bytes"] > 2 * 768
    assert told["newest"] - told["oldest"] > 9 * 86_400
    shown = run("cache", "info").stdout
    assert f"folder: {disk.folder}\noutputs of tools: 2\nanswers of critics: 1\nsize: " in shown
    assert "of at most 5.0 GB\nlast used: " in shown


def test_nothing_is_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQLOOP_CACHE", str(tmp_path / "none"))
    result = run("cache", "info")
    assert (
        result.exit_code == 0 and "(made when something is kept)" in result.stdout and "last used" not in result.stdout
    )
    assert run("cache", "clear").exit_code == 0 and not (tmp_path / "none").exists()


def test_clear_asks_or_is_told(disk: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("cache", "clear", "--older-than", "2.5")
    assert refused.exit_code == 2 and "iqloop cache clear --older-than 2.5 --yes" in refused.stderr
    assert disk.info().outputs == 2
    asked: list[str] = []
    answers = iter([False, True])

    def confirm(text: str, err: bool) -> bool:
        asked.append(text)
        return next(answers)

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(module, "sys", type("", (), {"stdin": Terminal, "stderr": Terminal}))
    monkeypatch.setattr(click, "confirm", confirm)
    assert run("cache", "clear").exit_code == 1 and disk.info().outputs == 2
    assert run("cache", "clear", "--older-than", "7").exit_code == 0 and disk.info().outputs == 1
    assert asked == [f"Remove {what} from {disk.folder}?" for what in ("everything", "what was not used for 7 days")]


def test_clear_says_what_it_removed(disk: DiskCache) -> None:
    some = run("cache", "clear", "--older-than", "7", "--yes")
    assert some.exit_code == 0 and "removed 1 outputs of tools and 0 answers of critics, " in some.stdout
    (rest,) = lines(run("cache", "clear", "-y", "--json"))
    assert (rest["outputs"], rest["answers"]) == (1, 1) and rest["bytes"] > 768
    assert disk.info().bytes < 60_000 and disk.answer(("score",)) is None and disk.output(("new",)) is None


def test_other_folders_and_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"picture")
    monkeypatch.setenv("IQLOOP_CACHE", str(tmp_path))
    for arguments in (["info"], ["clear", "--yes"]):
        result = run("cache", *arguments)
        assert result.exit_code == 2 and "photo.jpg" in result.stderr and "IQLOOP_CACHE" in result.stderr
    assert (tmp_path / "photo.jpg").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("IQLOOP_CACHE", str(empty))
    assert run("cache", "clear", "--yes").exit_code == 2 and empty.exists()
    monkeypatch.setenv("IQLOOP_CACHE_LIMIT", "much")
    result = run("cache", "info")
    assert result.exit_code == 2 and "500MB" in result.stderr


def test_a_table_that_cannot_be_used_is_one_sentence(disk: DiskCache) -> None:
    disk.answers.close()
    for path in disk.folder.glob("answers*"):
        path.unlink()
    disk.answers.path.mkdir()
    result = run("cache", "info")
    assert result.exit_code == 2 and str(disk.answers.path) in result.stderr


def test_the_option_gives_a_folder_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQLOOP_CACHE", str(tmp_path / "own"))
    given: list[Path | None] = []

    @click.command()
    @options.cached
    def command(cache: Path | None) -> None:
        given.append(cache)

    for arguments in ([], ["--no-cache"], ["--cache"]):
        assert CliRunner().invoke(command, arguments).exit_code == 0
    assert given == [tmp_path / "own", None, tmp_path / "own"]


def test_info_does_without_torch(tmp_path: Path) -> None:
    program = "import sys\nfrom iqloop.recipes.cli import main\ntry:\n    main(['cache', 'info'])\n"
    program += "finally:\n    print('torch' in sys.modules)\n"
    environment = {**os.environ, "IQLOOP_CACHE": str(tmp_path / "none")}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.endswith("\nFalse\n")
