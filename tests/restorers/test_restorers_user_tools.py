"""The user's own tools: added, listed, used, removed; files that go or change; a list that nobody destroys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iqloop.errors import PrerequisiteError, ToolError, UsageError
from iqloop.restorers import default_registry
from iqloop.restorers import registry as registry_module
from iqloop.restorers.home import config_home, data_home
from iqloop.restorers.user_tools import fault_of, forget, list_file, origins, own_tools, remember, user_entries

from ..recipes.helpers import lines, run
from .test_restorers_spandrel import compact, dncnn, nafnet, save


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(tmp_path / "net.safetensors", nafnet())


def test_homes_follow_the_specification(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IQLOOP_HOME", str(tmp_path / "all"))
    assert data_home() == config_home() == tmp_path / "all"
    monkeypatch.delenv("IQLOOP_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "not/absolute")
    assert data_home() == tmp_path / "data" / "iqloop"
    assert config_home() == tmp_path / ".config" / "iqloop"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_home() == tmp_path / ".local" / "share" / "iqloop"


def test_an_added_file_is_a_tool_of_every_registry(file: Path) -> None:
    assert user_entries() == [] and own_tools() == []
    own = remember(f"mine:blur+noise={file}", "MIT")
    assert own_tools() == [own] and own.path == str(file) and origins() == {"mine": str(file)}
    registry = default_registry(plugins=False)
    assert registry.names()[-1] == "mine" and "mine" not in default_registry(plugins=False, user=False)
    info = registry.info("mine")
    assert (info.treats, info.weights_licence, info.scale, info.cost) == (("blur", "noise"), "MIT", 1, "light")
    assert info.version == own.sha256[:16] and "NAFNet" in info.summary
    tool = registry.get("mine")
    assert tool.info == info and tool.restore(torch.rand(1, 3, 12, 9)).shape == (1, 3, 12, 9)
    assert forget("mine") == own and own_tools() == [] and file.is_file()


def test_relative_paths_and_stems(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert remember("net.safetensors").path == str(file)
    assert remember("x4:low-resolution=" + str(save(tmp_path / "x.pth", compact(4)))).scale == 4
    assert [own.name for own in own_tools()] == ["net", "x4"]
    monkeypatch.chdir("/")
    assert [entry.info.name for entry in user_entries()] == ["net", "x4"]


def test_paths_of_any_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Gewichte für 照片 ✓"
    folder.mkdir()
    own = remember(f"été={save(folder / 'net=1.safetensors', dncnn())}")
    assert own_tools() == [own] and Path(own.path).is_file()
    assert default_registry(plugins=False).get("été").restore(torch.rand(1, 3, 9, 9)).shape == (1, 3, 9, 9)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only there")
def test_paths_that_are_no_text(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.pth"))
    odd.write_bytes(save(tmp_path / "net.pth", dncnn()).read_bytes())
    own = remember(f"odd={odd}")
    assert own_tools() == [own] and len(user_entries()) == 1


def test_loaded_where_it_was_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    from iqloop.restorers import spandrel_tool

    real = spandrel_tool.load_tool

    def load(*arguments: object, device: object = "cpu", **options: object) -> object:
        asked.append(device)
        return real(*arguments, **options)  # type: ignore[arg-type]

    remember(f"mine={file}")
    monkeypatch.setattr(spandrel_tool, "load_tool", load)
    registry = default_registry(plugins=False, device="cuda:1")
    assert asked == []
    registry.get("mine")
    assert asked == ["cuda:1"]


def test_names_that_are_taken_or_unusable(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="a tool that comes with iqloop is named 'dct'"):
        remember(f"dct={file}")
    with pytest.raises(UsageError, match="must be one word"):
        remember(f"two words={file}")
    with pytest.raises(UsageError, match="'fog' is not one of"):
        remember(f"mine:fog={file}")
    with pytest.raises(ToolError, match="no such file"):
        remember(f"mine={tmp_path / 'nothing.pth'}")
    with pytest.raises(UsageError, match=r"a folder.*--tool"):
        remember(f"mine={tmp_path}")
    assert not list_file().exists()
    remember(f"mine={file}")
    with pytest.raises(UsageError, match=r"'mine' is .*net.safetensors already: .*tools remove mine"):
        remember(f"mine={save(tmp_path / 'other.pth', dncnn())}")
    with pytest.raises(UsageError, match="no tool named 'mien' was added: did you mean mine"):
        forget("mien")
    monkeypatch.setattr(
        registry_module, "builtin_entries", lambda device="cpu", tile="auto": user_entries(device, tile)
    )
    with pytest.warns(RuntimeWarning, match="your tool 'mine' is left out: a tool named 'mine' is registered already"):
        assert default_registry(plugins=False).names() == ("mine",)


def test_the_same_file_again_is_brought_up_to_date(file: Path) -> None:
    remember(f"mine={file}")
    own = remember(f"mine:blur={file}", "CC0-1.0")
    assert own_tools() == [own] and own.treats == ("blur",) and own.weights_licence == "CC0-1.0"


def test_a_file_that_has_gone_is_named_and_the_rest_goes_on(file: Path, tmp_path: Path) -> None:
    remember(f"mine={file}")
    remember(f"other={save(tmp_path / 'other.pth', dncnn())}")
    file.unlink()
    with pytest.warns(RuntimeWarning, match=r"'mine' is left out: .*net.safetensors is not there: .*tools remove mine"):
        registry = default_registry(plugins=False)
    assert registry.names()[-1] == "other" and "mine" not in registry
    assert [own.name for own in own_tools()] == ["mine", "other"]


def test_a_file_that_has_changed_is_named_and_the_rest_goes_on(file: Path) -> None:
    own = remember(f"mine:blur={file}")
    os.utime(file, (1, 1))
    assert fault_of(own) is None  # touched, not changed
    save(file, dncnn())
    with pytest.warns(RuntimeWarning, match=rf"has changed since .* iqloop tools add mine:blur={file}  if you trust"):
        assert user_entries() == []
    assert remember(f"mine:blur={file}").sha256 != own.sha256
    assert len(user_entries()) == 1


def test_a_file_that_changes_after_the_look_is_not_used(file: Path) -> None:
    remember(f"mine={file}")
    (entry,) = user_entries()
    save(file, dncnn())
    with pytest.raises(ToolError, match="is not the file that mine was"):
        entry.load()


DAMAGED = (
    "",
    "{",
    "[]",
    '{"format": 2, "tools": []}',
    '{"format": 1}',
    '{"format": 1, "tools": [{"name": "x"}]}',
    '{"format": 1, "tools": [3]}',
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_list_is_named_and_left_alone(file: Path, text: str) -> None:
    list_file().write_text(text)
    for use in (own_tools, user_entries, default_registry, lambda: remember(f"mine={file}"), lambda: forget("mine")):
        with pytest.raises(UsageError, match=r"tools\.json is damaged \(.+\): mend it, or move it away"):
            use()
    assert list_file().read_text() == text
    result = run("apply", "dct", "nothing.png")
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("field", "value"), [("name", "a b"), ("treats", ["fog"]), ("scale", 5), ("cost", "free"), ("name", "twice")]
)
def test_a_list_of_impossible_tools_is_damaged(file: Path, field: str, value: object) -> None:
    remember(f"twice={file}")
    remember(f"mine={file}")
    read = json.loads(list_file().read_text())
    read["tools"][1][field] = value
    list_file().write_text(json.dumps(read))
    with pytest.raises(UsageError, match="is damaged"):
        own_tools()


def test_a_list_that_cannot_be_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("IQLOOP_HOME", str(tmp_path / "plain" / "below"))
    with pytest.raises(PrerequisiteError, match=r"tools\.json cannot be written .*IQLOOP_HOME"):
        remember(f"mine={file}")


def test_two_at_once_lose_nothing(file: Path) -> None:
    code = "import sys; from iqloop.restorers.user_tools import remember; remember(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", code, f"tool{i}={file}"]) for i in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert {own.name for own in own_tools()} == {"tool0", "tool1", "tool2"}
    assert {path.name for path in list_file().parent.iterdir()} <= {"tools.json", "tools.lock"}


def test_a_failed_write_keeps_the_old_list(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(f"mine={file}")
    before = list_file().read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(PrerequisiteError, match="No space left"):
            remember(f"other={file}")
    assert list_file().read_text() == before and [own.name for own in own_tools()] == ["mine"]


def test_the_command_line(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (row,) = lines(run("tools", "add", f"mine:blur={file}", "--licence", "MIT", "--json"))
    assert row["name"] == "mine" and row["treats"] == ["blur"] and row["weights_licence"] == "MIT"
    assert row["from"] == str(file) and len(row["sha256"]) == 64
    rows = {row["name"]: row for row in lines(run("tools", "--json"))}
    assert rows["mine"]["from"] == str(file) and rows["dct"]["from"] == "no weights"
    listed = run("tools")
    assert f"mine\tblur\t1\tMIT\tMIT\tlight\t{file}\t" in listed.stdout
    assert "25 more by  iqloop models pull NAME, see  iqloop models list" in listed.stderr
    other = save(tmp_path / "other.pth", dncnn())
    rows = {row["name"]: row for row in lines(run("tools", "--tool", f"o={other}", "--json"))}
    assert rows["o"]["from"] == str(other) and rows["mine"]["from"] == str(file)
    assert {row["from"] for name, row in rows.items() if name not in ("o", "mine")} <= {"no weights", "the package"}
    text = run("tools", "add", f"second={file}")
    assert text.exit_code == 0 and f"remembered in {list_file()}" in text.stdout
    removed = run("tools", "remove", "mine")
    assert removed.exit_code == 0 and f"mine is forgotten; {file} stays" in removed.stdout
    assert "mine" not in {row["name"] for row in lines(run("tools", "--json"))}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("tools", "add"), "Missing argument"),
        (("tools", "add", "mine=nothing.pth"), "no such file"),
        (("tools", "remove", "mine"), "no tool named 'mine' was added: there are none"),
        (("tools", "--json", "remove", "mine"), "stand after these words"),
        (("tools", "forget", "mine"), "No such command"),
    ],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...], reason: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and reason in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_file_that_has_gone_is_a_line_on_the_command_line(file: Path) -> None:
    run("tools", "add", f"mine={file}")
    file.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the test run makes errors of them
        result = run("tools")
    assert result.exit_code == 0 and "dct\t" in result.stdout
    assert f"warning: tool 'mine' is left out: {file} is not there" in result.stderr


def test_licences_are_said_when_a_tool_is_used(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save("photo.png")
    run("tools", "add", f"mine:noise={file}")
    said = "mine: licence of the code MIT, of the weights unknown"
    result = run("apply", "mine", "photo.png", "-o", "a.png", "--device", "cpu")
    assert result.exit_code == 0 and said in result.stderr.splitlines()
    assert said not in run("apply", "mine", "photo.png", "-o", "b.png", "--device", "cpu", "--quiet").stderr
    assert "licence" not in run("apply", "tv", "photo.png", "-o", "c.png").stderr
    result = run("apply", file, "photo.png", "-o", "d.png", "--device", "cpu")
    assert result.exit_code == 0 and "net: licence of the code MIT, of the weights unknown" in result.stderr


def test_import_is_light(file: Path) -> None:
    remember(f"mine={file}")
    code = (
        "import sys; from iqloop.restorers import default_registry;"
        "assert 'mine' in default_registry(plugins=False);"
        "heavy = {'spandrel', 'torchvision', 'kornia', 'skimage', 'cv2', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
