"""``iqloop models``: what is listed, what is said before a fetch, and who may agree to it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from huggingface_hub import constants

from iqloop.critic.known import KNOWN
from iqloop.recipes import models

from ..critic.test_fetch import COMMIT, ScriptedHub, hub  # noqa: F401  a fixture
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
    assert {row["name"] for row in rows} == set(KNOWN)
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
    from PIL import Image

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    result = run("restore", photo, "--critic", "qinsight", "--device", "cpu")
    assert result.exit_code == 2 and "iqloop models pull qinsight" in result.stderr
