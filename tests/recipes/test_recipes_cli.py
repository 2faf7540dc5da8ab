"""The frame of the command line: help, version, exit codes, streams."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from iqloop.critic import known
from iqloop.errors import IqloopError, PrerequisiteError
from iqloop.recipes import options
from iqloop.recipes.cli import COMMANDS
from iqloop.recipes.help_page import help_page

from .helpers import ScriptedCritic, lines, run

HEAVY = ("torch", "transformers", "numpy", "cv2", "skimage", "spandrel", "PIL", "rich")


def python(
    *arguments: object, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, env={**os.environ, **(env or {})}, check=False)


def test_help_of_every_command_imports_nothing_heavy() -> None:
    program = (
        "import sys, click\n"
        "from iqloop.recipes.help_page import help_page\n"
        "assert 'iqloop train mini' in help_page()\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_help_page_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text() == help_page(), "run  python -m iqloop.recipes.help_page > docs/cli.md"


def test_every_command_exists_and_has_help() -> None:
    for name in COMMANDS:
        result = run(name, "--help")
        assert result.exit_code == 0 and f"iqloop {name}" in result.stdout


def test_version_and_module() -> None:
    done = python("-m", "iqloop", "--version")
    assert done.returncode == 0 and done.stdout.startswith(b"iqloop 0.")
    assert done.stderr == b""


def test_default_critic_is_the_one_of_the_library() -> None:
    assert options.DEFAULT_CRITIC == known.DEFAULT


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["score"],
        ["score", "--nonsense", "a.png"],
        ["score", "a.png", "--batch-size", "0"],
        ["restore", "a.png", "--scale", "3"],
        ["compare", "a.png"],
        ["distort", "a.png"],
        ["distort"],
    ],
)
def test_wrong_usage_is_2_with_one_line(here: Path, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "--help" in result.stderr


def test_unknown_critic_is_2(photo: Path) -> None:
    result = run("score", photo, "--critic", "qinsigt", "--device", "cpu")
    assert result.exit_code == 2
    assert "did you mean qinsight" in result.stderr and len(result.stderr.splitlines()) == 1


def test_missing_weights_are_2_with_the_command_that_mends_it(photo: Path) -> None:
    done = python("-m", "iqloop", "score", photo, "--critic", "qinsight", env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"hf download ByteDance/Q-Insight" in done.stderr and len(done.stderr.splitlines()) == 1


def test_unknown_device_is_2(photo: Path, critic: ScriptedCritic) -> None:
    result = run("score", photo, "--device", "quantum")
    assert result.exit_code == 2 and "--device quantum" in result.stderr


def test_a_critic_that_cannot_is_2(photo: Path, critic: ScriptedCritic) -> None:
    critic.capabilities = frozenset({"score"})
    result = run("perceive", photo)
    assert result.exit_code == 2 and "cannot perceive" in result.stderr


def test_interrupt_is_130_with_one_line(photo: Path, critic: ScriptedCritic) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    critic.fault = interrupt
    result = run("score", photo)
    assert result.exit_code == 130 and result.stderr.strip() == "interrupted"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (OSError(28, "No space left on device"), "No space left"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (IqloopError("as planned"), "as planned"),
    ],
)
def test_whatever_happens_is_one_line_for_the_file(
    photo: Path, critic: ScriptedCritic, error: Exception, said: str
) -> None:
    def fail(_: object) -> None:
        raise error

    critic.fault = fail
    result = run("score", photo)
    assert result.exit_code == 1
    assert said in result.stderr and len(result.stderr.splitlines()) == 1


def test_an_error_outside_of_files_is_one_line(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **options: object) -> None:
        raise ValueError("strange\nweights")

    monkeypatch.setattr(known, "create_critic", fail)
    result = run("score", photo)
    assert result.exit_code == 1 and result.stderr == "error: ValueError: strange weights\n"


def test_verbose_shows_the_traceback(photo: Path, critic: ScriptedCritic) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    critic.fault = fail
    from click.testing import CliRunner

    from iqloop.recipes.cli import cli

    result = CliRunner().invoke(cli, ["score", str(photo), "--verbose"])
    assert result.exit_code == 1 and "Traceback" in result.stderr


def test_prerequisite_from_a_critic_in_use_is_2(photo: Path, critic: ScriptedCritic) -> None:
    def fail(_: object) -> None:
        raise PrerequisiteError("run this")

    critic.fault = fail
    result = run("score", photo)
    assert result.exit_code == 2 and "run this" in result.stderr


def test_options_from_the_environment(photo: Path, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def create(name: str, **given: object) -> ScriptedCritic:
        asked.append(f"{name} {given['seed']}")
        return critic

    monkeypatch.setattr(known, "create_critic", create)
    monkeypatch.setenv("IQLOOP_CRITIC", "elsewhere")
    monkeypatch.setenv("IQLOOP_SCORE_SEED", "7")
    assert run("score", photo).exit_code == 0
    assert asked == ["elsewhere 7"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "iqloop", "tools", "--json"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_broken_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "iqloop", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""


def test_results_go_to_the_pipe_while_the_bar_goes_to_the_terminal(folder: Path) -> None:
    terminal, end = pty.openpty()
    try:
        command = [sys.executable, "-m", "iqloop", "apply", "stretch", "in", "-o", "out"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, check=False)
    finally:
        os.close(end)
        os.close(terminal)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == ["in/noisy.png", "in/sub/clean.png"]


def test_metrics(here: Path) -> None:
    rows = lines(run("metrics", "--json"))
    assert {row["name"] for row in rows} == set(known.KNOWN)
    assert set(rows[0]) == {"name", "summary", "range", "lower_better", "licence", "at_hand", "how"}
    assert all((row["how"] is None) == row["at_hand"] for row in rows)
    assert run("metrics").stdout.startswith("name\trange")


def test_tools(here: Path) -> None:
    rows = lines(run("tools", "--json"))
    assert {"dct", "bicubic-x2"} <= {row["name"] for row in rows}
    assert {"name", "treats", "scale", "code_licence", "weights_licence", "cost", "seeded"} <= set(rows[0])
    assert "dct\tnoise\t1\tApache-2.0\tnone\tmedium" in run("tools").stdout


def test_tools_refuses_a_file_that_is_no_model(here: Path) -> None:
    Path("broken.safetensors").write_bytes(b"no")
    result = run("tools", "--tool", "mine=broken.safetensors")
    assert result.exit_code == 2 and "broken.safetensors" in result.stderr


def test_doctor(here: Path) -> None:
    (report,) = lines(run("doctor", "--json"))
    assert set(report) == {
        "iqloop", "python", "platform", "packages", "extras", "devices", "critics", "caches"
    }  # fmt: skip
    assert report["packages"]["torch"] and report["devices"][0]["name"] == "cpu"
    assert set(report["extras"]) >= {"train", "diffusion", "pyiqa"}
    assert "device cpu" in run("doctor").stdout


def test_train_mini_names_what_is_missing(here: Path) -> None:
    result = run("train", "mini", "--stage", "export", "--data", "data", "--run", "run", "--fold", "-1")
    assert result.exit_code == 2 and "warmstart" in result.stderr
    assert run("train", "mini", "--stage", "nonsense", "--data", "d", "--run", "r").exit_code == 2
    odd = run("train", "mini", "--data", "d", "--run", "r", "--width", 100)
    assert odd.exit_code == 2 and "multiple of 64" in odd.stderr
    both = run("train", "mini", "--data", "d", "--run", "r", "--width", 128, "--from", "qinsight-mini")
    assert both.exit_code == 2 and "leave one" in both.stderr


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_threads_sleep_soon_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    from iqloop.recipes import waiting

    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    waiting.sleep_soon()
    found = {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ}
    assert found == (given or {"GOMP_SPINCOUNT": waiting.SPINS})
