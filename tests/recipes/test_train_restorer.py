"""``iqloop train restorer``: a run and what it leaves, going on, and one clear error for whatever does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image

from iqloop.critic import known
from iqloop.recipes.train import restorer as train_restorer
from iqloop.restorers.spandrel_tool import read_metadata
from iqloop.restorers.training import train
from iqloop.restorers.training.export import export
from iqloop.restorers.training.nets import NETS, build_net
from iqloop.restorers.training.tasks import TASKS
from iqloop.restorers.training.validation import figures
from tests.conftest import Photograph
from tests.critic.critic_fakes import BrightnessCritic

from .helpers import run as command

SMALL = (
    "--net",
    "compact",
    "--size",
    "width=8",
    "--size",
    "convs=2",
    "--patch",
    "16",
    "--batch",
    "2",
    "--workers",
    "0",
)


@pytest.fixture
def data(tmp_path: Path, photograph: Photograph) -> Path:
    for part, name in (("train", "astronaut"), ("train", "coffee"), ("val", "chelsea")):
        folder = tmp_path / "data" / "photos" / part
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(name, 64, 40, 120)).save(folder / f"{name}.png")
    return tmp_path / "data"


def run(data: Path, *options: object, task: str = "denoise", name: str = "run") -> Result:
    return command("train", "restorer", task, "--data", data, "--run", data.parent / name, "--device", "cpu", *options)


def test_names_are_those_of_the_library() -> None:
    assert tuple(TASKS) == train_restorer.TASKS and tuple(NETS) == train_restorer.NETS
    page, own = " ".join(command("train", "restorer", "--help").stdout.split()), train.RestorerSettings()
    for name in ("steps", "batch", "loss", "ema", "save_every", "validate_every"):
        assert f"[default: {getattr(own, name)}]" in page, name
    assert own.channels_last and "Memory layout of the net. [default: channels-" in page


def test_a_run_and_the_tool_it_makes(data: Path) -> None:
    result = run(data, *SMALL, "--steps", "2")
    assert result.exit_code == 0, result.output
    assert "denoise: compact, 0.00 million parameters" in result.stdout and "pools" not in result.stdout
    assert "2 photographs, 1 held out; on cpu" in result.stdout
    assert "step 2/2 loss=" in result.stdout and "psnr/sigma-25/output=" in result.stdout
    final = data.parent / "run" / "final.safetensors"
    assert f"--tool NAME:noise={final}" in result.stdout
    picture = data / "photos/val/chelsea.png"
    applied = command("apply", final, picture, "-o", data / "out.png")
    assert applied.exit_code == 0, applied.output
    # Started again, nothing is left to do.
    again = run(data, *SMALL, "--steps", "2")
    assert again.exit_code == 0 and "step" not in again.stdout


def test_an_interrupted_run_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*SMALL, "--steps", "4", "--save-every", "2", "--validate-every", "3")
    assert run(data, *words, name="unbroken").exit_code == 0

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "figures", interrupt)
        stopped = run(data, *words)
    assert stopped.exit_code == 130 and "interrupted" in stopped.stderr
    assert torch.load(data.parent / "run/last.pt", weights_only=True)["step"] == 2
    assert run(data, *words).exit_code == 0
    finals = [(data.parent / name / "final.safetensors").read_bytes() for name in ("unbroken", "run")]
    assert finals[0] == finals[1]
    for other, expected in (
        (("--steps", "5"), "steps was 4, is 5"),
        (("--net", "span", "--size", "width=8"), "net was compact, is span"),
    ):
        mixed = run(data, *(words if other[0] == "--steps" else ()), "--patch", "16", *other)
        assert mixed.exit_code == 2 and expected in mixed.stderr
    mixed = run(data, *words, task="deblur")
    assert mixed.exit_code == 2 and "task was denoise, is deblur" in mixed.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--net", "unet"), "'unet' is not one of"),
        (("--net", "dncnn", "--size", "layers=3"), "at least 8 layers"),
        (("--size", "depth=3"), "nafnet-local has no size 'depth'"),
        (("--size", "width"), "--size takes KEY=VALUE"),
        (("--size", "width=wide"), "--size takes KEY=VALUE"),
        (("--patch", "8"), "8 is not in the range"),
        (("--patch", "20"), "patch must be a multiple of 8"),
        (("--patch", "128"), "no photograph has the 144 pixels"),
        (("--rate", "0"), "not in the range"),
        (("--rate", "nan"), "rate must be positive"),
        (("--device", "cuda:99"), "not available on this machine"),
        (("--photos", "nowhere"), "nowhere is missing"),
        (("--patch", "16", "--from", "nowhere.safetensors"), "no such file"),
        (("--patch", "16", "--from", "other.safetensors"), "other.safetensors: does not fit"),
        (("--patch", "16", "--from", "data/photos/val/chelsea.png"), "expected .safetensors"),
    ],
)
def test_what_does_not_fit(
    data: Path, options: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    export(build_net("compact", 1, {"width": 8}), Path("other.safetensors"), {})
    result = run(data, *options)
    assert result.exit_code == 2 and expected in result.stderr, result.output
    assert len(result.stderr.splitlines()) == 1
    assert not (data.parent / "run").exists()


def test_tasks_and_nets_that_do_not_go_together(data: Path) -> None:
    assert "'dehaze' is not one of" in run(data, task="dehaze").stderr
    result = run(data, "--net", "nafnet", task="upscale-x2")
    assert result.exit_code == 2 and "nafnet has no scale 2: expected one of compact, span" in result.stderr


@pytest.mark.parametrize("part", ["train", "val"])
def test_photographs_that_are_not_there(data: Path, part: str) -> None:
    folder = data / "photos" / part
    for file in folder.iterdir():
        file.unlink()
    result = run(data, *SMALL)
    assert result.exit_code == 2 and "expected images" in result.stderr
    folder.rmdir()
    result = run(data, *SMALL)
    assert result.exit_code == 2 and f"photos/{part} is missing" in result.stderr
    assert not (data.parent / "run").exists()


def test_a_file_that_is_no_image_is_named(data: Path) -> None:
    (data / "photos/train/broken.jpg").write_bytes(b"not an image")
    result = run(data, *SMALL, "--steps", "1")
    assert result.exit_code == 1 and "broken.jpg" in result.stderr and len(result.stderr.splitlines()) == 1


def test_small_photographs_are_left_out_and_said(data: Path, photograph: Photograph) -> None:
    more = data / "more"
    more.mkdir()
    Image.fromarray(photograph("rocket", 64)).save(more / "rocket.png")
    Image.fromarray(photograph("rocket", 24)).save(more / "small.png")
    result = run(data, *SMALL, "--steps", "1", "--photos", more)
    assert result.exit_code == 0 and "3 photographs" in result.stdout
    assert "small.png: too small for patches of 16, left out" in result.stderr


def test_going_on_from_weights(data: Path) -> None:
    assert run(data, *SMALL, "--steps", "1", "--precision", "float32").exit_code == 0
    first = data.parent / "run" / "final.safetensors"
    result = run(data, *SMALL, "--steps", "1", "--from", first, name="second")
    assert result.exit_code == 0, result.output
    assert json.loads((data.parent / "second/settings.json").read_text())["source"]


def test_the_folder_of_a_run_is_no_other_folder(data: Path) -> None:
    (data.parent / "run").mkdir()
    (data.parent / "run/thesis.txt").write_text("mine")
    result = run(data, *SMALL, "--steps", "1")
    assert result.exit_code == 2 and "expected an empty folder" in result.stderr
    (data.parent / "file").write_text("mine")
    result = run(data, *SMALL, "--steps", "1", name="file")
    assert result.exit_code == 2 and "expected an empty folder" in result.stderr
    result = run(data, *SMALL, "--steps", "1", name="file/run")
    assert result.exit_code == 2 and "cannot be made" in result.stderr


# ---- with a critic


@pytest.fixture
def critics(monkeypatch: pytest.MonkeyPatch) -> dict[str, BrightnessCritic]:
    """What every command gets, by name."""
    found = {
        "light": BrightnessCritic(name="light"),
        "dark": BrightnessCritic(name="dark", lower_better=True),
        "open": BrightnessCritic(name="open", score_range=(0.0, float("inf"))),
    }
    monkeypatch.setattr(known, "create_critic", lambda name, **options: found[name])
    return found


GUIDED = (*SMALL, "--critic", "light", "--held-out-critic", "dark", "--rate", "0.01", "--precision", "float32")


def guidance_of(data: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(read_metadata(data.parent / name / "final.safetensors")["guidance"])
    return found


def last_row(data: Path, name: str) -> dict[str, float]:
    rows = [json.loads(line) for line in (data.parent / name / "log.jsonl").read_text().splitlines()]
    found: dict[str, float] = next(row for row in reversed(rows) if "light/clean/output" in row)
    return found


def test_the_critic_is_followed_and_the_other_one_looks_on(data: Path, critics: dict[str, BrightnessCritic]) -> None:
    words = (*GUIDED, "--steps", "8", "--critic-loss", "20", "--stop-on", "none", "--validate-every", "4")
    result = run(data, *words, name="bright")
    assert result.exit_code == 0, result.output
    assert "critic light, weight 20; held-out critic dark; the last weights are kept" in result.stdout
    assert " fidelity=" in result.stdout and " reward=" in result.stdout
    assert run(data, *words[:-2], "--validate-every", "8", "--fidelity", "1e6", name="anchored").exit_code == 0
    bright, anchored = last_row(data, "bright"), last_row(data, "anchored")
    assert bright["light/clean/output"] > anchored["light/clean/output"] + 0.2
    assert bright["dark/clean/output"] == bright["light/clean/output"], "the same score, of which less is better"
    said = guidance_of(data, "bright")
    assert said["reward_weight"] == 20 and said["critic"] == "light fake-1" and said["held_out_critic"] == "dark fake-1"
    assert said["cap"] is None and said["views"] == 1 and said["guard"] is None and said["fidelity"] == 1


def test_a_cap_that_every_image_is_above_leaves_the_pixel_loss_alone(
    data: Path, critics: dict[str, BrightnessCritic]
) -> None:
    words = ("--steps", "3", "--batch", "2")
    assert run(data, *GUIDED, *words, "--critic-loss", "20", "--critic-cap", "1", name="capped").exit_code == 0
    assert run(data, *SMALL, *words, "--rate", "0.01", "--precision", "float32", name="plain").exit_code == 0
    states = [torch.load(data.parent / name / "last.pt", weights_only=True)["net"] for name in ("capped", "plain")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_held_out_critic_keeps_the_start_and_ends_the_run(data: Path, critics: dict[str, BrightnessCritic]) -> None:
    words = (*GUIDED, "--steps", "50", "--critic-loss", "20", "--fidelity", "0", "--validate-every", "1")
    result = run(data, *words, "--patience", "3")
    assert result.exit_code == 0 and "kept by dark" in result.stdout
    assert "kept: the weights of step 0 of 50, those of the start: none was better by dark" in result.stdout
    assert last_row(data, "run")["step"] == 3 and guidance_of(data, "run")["kept_step"] == 0
    by_psnr = run(data, *words, "--patience", "2", "--stop-on", "psnr", name="psnr")
    assert by_psnr.exit_code == 0 and "kept by psnr" in by_psnr.stdout


def test_an_interrupted_run_with_a_critic_goes_on(
    data: Path, critics: dict[str, BrightnessCritic], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patches of 32 and views of 24 pixels at least: where a view lies depends on the step.
    words: tuple[str, ...] = (
        *GUIDED,
        "--patch",
        "32",
        "--critic-loss",
        "20",
        "--critic-views",
        "2",
        "--stop-on",
        "ssim",
    )
    words = (*words, "--steps", "4", "--save-every", "2", "--validate-every", "3", "--psnr-loss", "50")
    assert run(data, *words, name="unbroken").exit_code == 0
    asked: list[int] = []

    def interrupt(*arguments: object) -> dict[str, float]:
        asked.append(0)
        if len(asked) > 1:
            raise KeyboardInterrupt
        return figures(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(train, "figures", interrupt)
        assert run(data, *words).exit_code == 130
    assert torch.load(data.parent / "run/last.pt", weights_only=True)["step"] == 2
    assert run(data, *words).exit_code == 0
    finals = [(data.parent / name / "final.safetensors").read_bytes() for name in ("unbroken", "run")]
    assert finals[0] == finals[1]
    for other, expected in (
        (("--critic-views", "1"), "views was 2, is 1"),
        (("--critic-cap", "3"), "cap was None, is 3.0"),
        (("--critic", "dark", "--held-out-critic", "light"), "critic was light fake-1, is dark fake-1"),
    ):
        mixed = run(data, *words, *other)
        assert mixed.exit_code == 2 and expected in mixed.stderr, mixed.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--critic-views", "1"), "--critic-views has no effect without  --critic-loss WEIGHT"),
        (("--critic", "light", "--patience", "2"), "--critic, --patience has no effect"),
        (("--critic-loss", "0"), "0.0 is not in the range x>0"),
        (("--critic-loss", "1", "--critic", "dark", "--held-out-critic", "dark"), "must be another than the one"),
        (("--critic-loss", "1", "--critic", "open", "--held-out-critic", "dark"), "open rates on an open range"),
        (("--critic-loss", "1", *GUIDED[-8:], "--critic-cap", "9"), "cap must be within the critic's range of 1 to 5"),
        (("--critic-loss", "nan", *GUIDED[-8:]), "weight must be positive"),
    ],
)
def test_critics_that_do_not_fit(
    data: Path, critics: dict[str, BrightnessCritic], options: tuple[str, ...], expected: str
) -> None:
    result = run(data, *SMALL, *options)
    assert result.exit_code == 2 and expected in result.stderr, result.output
    assert not (data.parent / "run").exists()
