"""``iqloop models``: what is listed, what is said before a fetch, and who may agree to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import click
import pytest
from huggingface_hub import constants
from PIL import Image

from iqloop.critic.known import KNOWN
from iqloop.recipes import models
from iqloop.recipes.console import Console
from iqloop.restorers import fetch_weights
from iqloop.restorers.public import PUBLIC

from ..critic.test_fetch import COMMIT, ScriptedHub, hub  # noqa: F401  a fixture
from ..restorers.test_restorers_public import Server, published
from ..restorers.test_restorers_spandrel import compact, save
from .helpers import lines, run


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A person who agrees; the questions that were asked."""
    asked: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return True

    monkeypatch.setattr(models, "sys", type("sys", (), {"stdin": Terminal(), "stderr": Terminal()}))
    monkeypatch.setattr(click, "confirm", confirm)
    return asked


class Terminal:
    def isatty(self) -> bool:
        return True


def test_list_has_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    result = run("models", "list", "--json")
    rows = lines(result)
    assert result.exit_code == 0
    assert {row["name"] for row in rows if row["kind"] == "critic"} == set(KNOWN)
    mini = next(row for row in rows if row["name"] == "qinsight-mini")
    assert mini["at_hand"] and mini["how"] is None and mini["bytes"] > 10**6 and mini["from"] == "the package"
    parts = {row["part"]: row for row in rows if row["name"] == "qinsight"}
    assert set(parts) == {"score_degradation", "comparison"}
    assert not any(part["at_hand"] for part in parts.values())
    assert "iqloop models pull qinsight" in parts["score_degradation"]["how"]
    assert "iqloop models pull qinsight --part comparison" in parts["comparison"]["how"]
    assert parts["comparison"]["bytes"] is None and parts["comparison"]["licence"] == "Apache-2.0"


def test_list_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    result = run("models", "list")
    assert "qinsight\tcomparison\tByteDance/Q-Insight\tApache-2.0\tabout 16.6 GB\tno" in result.stdout
    assert "iqloop models pull visualquality-r1" in result.stderr


@pytest.mark.parametrize("width", [60, 200])
def test_no_column_is_left_out_on_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    talk = Console()
    with talk.table("kind", "name", "part", "size", "at hand", "what"):
        talk.row({}, "restorer", "realesr-general-x4", "low-resolution x4", "4.9 MB", "no", "real photographs " * 4)
    drawn = click.unstyle(capsys.readouterr().out)
    assert all(len(line) <= width for line in drawn.splitlines())
    cells = "restorer realesr-general-x4 low-resolution x4 4.9 MB no " + "real photographs " * 4
    assert Counter(cells.replace(" ", "")) <= Counter(drawn)
    assert ("realesr-general-x4" in drawn) == (width > 60)


def test_pull_without_a_terminal_or_yes_shows_and_refuses(hub: ScriptedHub) -> None:  # noqa: F811
    result = run("models", "pull", "qinsight", "--part", "comparison")
    assert result.exit_code == 2
    assert "run  iqloop models pull qinsight --part comparison --yes" in result.stderr
    for shown in (
        "ByteDance/Q-Insight, comparison",
        f"main, commit {COMMIT}",
        "apache-2.0, as known",
        "size: ",
        "free: ",
    ):
        assert shown in result.stdout
    assert hub.fetched == []


def test_pull_with_yes_fetches_and_says_what_next(hub: ScriptedHub) -> None:  # noqa: F811
    result = run("models", "pull", "qinsight", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "next:  iqloop score photo.jpg --critic qinsight" in result.stdout
    assert result.stdout.index("size: ") < result.stdout.index("next: ")
    assert {name.split("/")[0] for _, name in hub.fetched} == {"score_degradation", "comparison"}
    rows = {row["part"]: row for row in lines(run("models", "list", "--json")) if row["name"] == "qinsight"}
    assert all(row["at_hand"] and row["bytes"] > 0 for row in rows.values())
    hub.fetched.clear()
    assert run("models", "pull", "qinsight").exit_code == 0  # all is here: nobody has to agree


def test_pull_of_another_revision_gives_its_folder(hub: ScriptedHub) -> None:  # noqa: F811
    result = run("models", "pull", "qinsight", "--part", "score_degradation", "--revision", COMMIT, "--yes")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("next:")]
    assert line.endswith(f"{COMMIT}/score_degradation")
    assert hub.asked == [("ByteDance/Q-Insight", COMMIT)]


def test_pull_as_json(hub: ScriptedHub) -> None:  # noqa: F811
    refused = run("models", "pull", "qinsight", "--json")
    assert refused.exit_code == 2 and refused.stdout == "" and "--yes" in refused.stderr
    result = run("models", "pull", "qinsight", "--json", "--yes")
    rows = lines(result)
    assert [row["part"] for row in rows] == ["score_degradation", "comparison"]
    assert all(row["commit"] == COMMIT and Path(row["folder"]).is_dir() for row in rows)
    assert "licence: " in result.stderr


def test_on_a_terminal_it_asks(
    hub: ScriptedHub,  # noqa: F811
    at_a_terminal: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(click, "confirm", lambda text, **_: False)
    result = run("models", "pull", "qinsight")
    assert result.exit_code == 1 and "nothing was fetched" in result.stderr and hub.fetched == []


def test_a_person_may_agree(hub: ScriptedHub, at_a_terminal: list[str]) -> None:  # noqa: F811
    result = run("models", "pull", "qinsight")
    assert result.exit_code == 0 and len(at_a_terminal) == 1 and hub.fetched


def test_a_licence_that_differs_is_said(hub: ScriptedHub) -> None:  # noqa: F811
    hub.licence = "cc-by-nc-4.0"
    result = run("models", "pull", "qinsight")
    assert "licence: Apache-2.0, but the card says cc-by-nc-4.0: read it" in result.stdout


def test_a_full_disk_is_said_before_anybody_is_asked(
    hub: ScriptedHub,  # noqa: F811
    at_a_terminal: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("iqloop.critic.fetch._free_bytes", lambda: 5)
    result = run("models", "pull", "qinsight")
    assert result.exit_code == 2 and "make room" in result.stderr and at_a_terminal == []


def test_the_embedded_critic_needs_no_fetch() -> None:
    result = run("models", "pull", "qinsight-mini")
    assert result.exit_code == 0 and "nothing to fetch" in result.stdout


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A public restorer ``tiny``, and the server that gives it."""
    path = save(tmp_path / "net.pth", compact(2))
    published(monkeypatch, path)
    scripted = Server(path.read_bytes())
    monkeypatch.setattr(fetch_weights, "open_https", scripted)
    return scripted


def test_restorers_are_listed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in lines(run("models", "list", "--json")) if row["kind"] == "restorer"}
    assert set(rows) == set(PUBLIC)
    fbcnn = rows["fbcnn"]
    assert fbcnn["from"] == "github.com/jiaxi-jiang/FBCNN" and fbcnn["treats"] == ["compression"]
    assert (fbcnn["code_licence"], fbcnn["licence"], fbcnn["bytes"]) == ("Apache-2.0", "unknown", None)
    assert not fbcnn["at_hand"] and fbcnn["how"] == "run  iqloop models pull fbcnn"
    result = run("models", "list")
    row = "restorer\thvi-cidnet\tdarken\tFediory/HVI-CIDNet-Generalization\tMIT / MIT\t7.9 MB\tno"
    assert row in result.stdout.splitlines()
    assert "restorers that are not at hand: run  iqloop models pull NAME" in result.stderr
    assert server.asked == []


def test_pull_of_a_restorer_shows_and_refuses_without_a_person(server: Server) -> None:
    result = run("models", "pull", "tiny")
    assert result.exit_code == 2 and "run  iqloop models pull tiny --yes" in result.stderr
    for shown in (
        "address: https://example.org/files/net.pth",
        "network: Compact, treats low-resolution, scale 2",
        "licence: code BSD-3-Clause; weights CC-BY-4.0",
        f"sha256: {PUBLIC['tiny'].sha256}",
        "size: ",
        "free: ",
    ):
        assert shown in result.stdout
    assert server.asked == []


def test_pull_of_a_restorer(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("models", "pull", "tiny", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "next:  iqloop apply tiny photo.jpg" in result.stdout
    (row,) = [row for row in lines(run("models", "list", "--json")) if row["name"] == "tiny"]
    assert row["at_hand"] and row["bytes"] == len(server.content) and Path(row["file"]).is_file() and not row["how"]
    (tool,) = [row for row in lines(run("tools", "--json")) if row["name"] == "tiny"]
    assert tool["from"] == "https://example.org/files/net.pth".removeprefix("https://")
    assert (tool["code_licence"], tool["weights_licence"], tool["scale"]) == ("BSD-3-Clause", "CC-BY-4.0", 2)
    assert run("models", "pull", "tiny").exit_code == 0 and len(server.asked) == 1  # nobody has to agree
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 16)).save("photo.png")
    used = run("apply", "tiny", "photo.png", "-o", "large.png", "--device", "cpu")
    assert used.exit_code == 0
    with Image.open("large.png") as large:
        assert large.size == (40, 32)
    assert "tiny: licence of the code BSD-3-Clause, of the weights CC-BY-4.0" in used.stderr


def test_pull_of_a_restorer_as_json(server: Server) -> None:
    result = run("models", "pull", "tiny", "--json", "--yes")
    (row,) = lines(result)
    assert (row["kind"], row["name"], row["checked"], row["sha256"]) == (
        "restorer",
        "tiny",
        True,
        PUBLIC["tiny"].sha256,
    )
    assert Path(row["file"]).is_file() and "licence: code BSD-3-Clause" in result.stderr


def test_a_person_may_agree_to_a_restorer(
    server: Server, at_a_terminal: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("models", "pull", "tiny").exit_code == 0 and at_a_terminal == ["Fetch it?"] and len(server.asked) == 1
    (folder,) = {path.parent for path in fetch_weights.weights_folder().iterdir()}
    for path in folder.iterdir():
        path.unlink()
    monkeypatch.setattr(click, "confirm", lambda text, **_: False)
    result = run("models", "pull", "tiny")
    assert result.exit_code == 1 and "nothing was fetched" in result.stderr and len(server.asked) == 1


def test_a_restorer_without_a_checksum_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = PUBLIC["tiny"].sha256
    monkeypatch.setitem(PUBLIC, "tiny", replace(PUBLIC["tiny"], sha256=None, weights_licence="unknown"))
    result = run("models", "pull", "tiny", "--yes")
    assert result.exit_code == 0 and "sha256: none is known" in result.stdout
    assert "weights unknown, nobody has said it" in result.stdout
    assert f"tiny: no checksum is known to check it against; that of this file is {sha256}" in result.stderr


@pytest.mark.parametrize("option", [("--part", "score"), ("--revision", "main")])
def test_parts_and_revisions_are_for_critics(option: tuple[str, str]) -> None:
    result = run("models", "pull", "fbcnn", *option)
    assert result.exit_code == 2 and result.stdout == ""
    assert "fbcnn is a restorer" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_name_of_the_users_own_is_not_pulled(server: Server, tmp_path: Path) -> None:
    run("tools", "add", f"tiny={tmp_path / 'net.pth'}")
    result = run("models", "pull", "tiny", "--yes")
    assert result.exit_code == 2 and "run  iqloop tools remove tiny  first" in result.stderr and server.asked == []
    run("tools", "remove", "tiny")
    run("models", "pull", "tiny", "--yes")
    result = run("tools", "add", f"tiny={tmp_path / 'net.pth'}")
    assert result.exit_code == 2 and "'tiny' is a public checkpoint that is here" in result.stderr
    assert "delete " in run("tools", "remove", "tiny").stderr


def test_a_damaged_restorer_is_2_with_one_line(server: Server) -> None:
    server.content += b"x"
    result = run("models", "pull", "tiny", "--yes")
    assert result.exit_code == 2 and "nothing was kept" in result.stderr and len(result.stderr.splitlines()) == 1
    assert list(fetch_weights.weights_folder().iterdir()) == []


def test_a_restorer_offline_is_2_with_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = run("models", "pull", "tiny", "--yes")
    assert result.exit_code == 2 and "HF_HUB_OFFLINE is set" in result.stderr and len(result.stderr.splitlines()) == 1
    assert server.asked == []


@pytest.mark.parametrize("arguments", [("nobody",), ("qinsight", "--part", "none")])
def test_wrong_names_are_2(arguments: tuple[str, ...]) -> None:
    result = run("models", "pull", *arguments)
    assert result.exit_code == 2 and "expected one of" in result.stderr and len(result.stderr.splitlines()) == 1


def test_offline_is_2_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    result = run("models", "pull", "qinsight", "--yes")
    assert result.exit_code == 2 and result.stdout == ""
    assert "HF_HUB_OFFLINE is set" in result.stderr and len(result.stderr.splitlines()) == 1


def test_missing_weights_name_the_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    result = run("restore", photo, "--critic", "qinsight", "--device", "cpu")
    assert result.exit_code == 2 and "iqloop models pull qinsight" in result.stderr
