"""``iqloop train diffusion``: a run of each method and what it leaves; going on; one error for what does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor

from iqloop.critic.verdicts import Rating, Unparsed
from iqloop.recipes import loading
from iqloop.recipes.options import CriticChoice
from iqloop.recipes.train import diffusion as train_diffusion
from iqloop.recipes.train import diffusion_run as train_diffusion_run
from iqloop.recipes.train.diffusion_figures import changes, document
from tests.conftest import Photograph

from .helpers import lines
from .helpers import run as command

pytest.importorskip("diffusers", reason="the extra diffusion is not installed")

from iqloop.restorers.diffusers_tool import load_pipeline_tool
from iqloop.restorers.diffusion import draft, lora, models, pairs, parts, train, tune

SMALL: tuple[object, ...] = ("--patch", 8, "--batch", 2, "--sample-steps", 2, "--rank", 2, "--measure-side", 32)
RUNS: dict[str, tuple[object, ...]] = {
    "dpo": (*SMALL, "--inputs", 3, "--candidates", 2, "--margin", 0),
    "draft": (*SMALL, "--views", 1),
}
STEPS: tuple[object, ...] = ("--steps", 4, "--measure-every", 2, "--save-every", 2, "--rate", 0.01)


@dataclass(eq=False)
class Bright:
    """A critic that likes light, with a gradient; or dislikes it, under another name."""

    name: str = "bright"
    sign: int = 1
    lower_better: bool = False
    score_range: tuple[float, float] = (1.0, 5.0)
    version: str = "1"
    capabilities: frozenset[str] = frozenset({"score"})

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        return torch.stack([3 + self.sign * (4 * image.mean() - 2) for image in images])

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        return [Rating(float(value), 0.1) for value in self.expected_scores(images)]

    def _cannot(self, *given: object) -> Any:
        raise AssertionError("asked for more than scores")

    perceive = compare = describe = _cannot


@pytest.fixture
def critics(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Those that a command finds by name; the defaults are two that agree, under the names of the defaults."""
    known = {
        "qinsight-mini": Bright(),
        train_diffusion.HELD_OUT: Bright("held-out"),
        "dark": Bright("dark", -1),
        "twin": Bright(),
        "open": Bright("open", score_range=(0.0, float("inf"))),
    }

    def load(choice: CriticChoice, needs: Sequence[str] = ("score",)) -> Any:
        return known[choice.name]

    monkeypatch.setattr(loading, "load_critic", load)
    return known


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An enlarger of random weights."""
    sizes = parts.Sizes(autoencoder=(8, 8), codes=64, denoiser=(8, 16), sample=8)
    coder = parts.build_autoencoder(sizes)
    folder = tmp_path_factory.mktemp("pipeline") / "enlarger"
    train.pipeline_of(coder.eval(), parts.build_denoiser(sizes).eval()).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path, photograph: Photograph) -> Path:
    for part, name in (("train", "astronaut"), ("train", "coffee"), ("val", "chelsea"), ("val", "rocket")):
        folder = tmp_path / "data" / "photos" / part
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(name, 100, 40, 120)).save(folder / f"{name}.png")
    return tmp_path / "data"


def shown(model: models.SuperResolution, latents: Tensor, given: models.Given) -> Tensor:
    """Latents as they are: a random decoder knows no bright and dark."""
    return torch.nn.functional.interpolate(latents / 4 + 0.5, scale_factor=2).clamp(0, 1)


@pytest.fixture
def start(pipeline: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a method on the photographs."""
    monkeypatch.setattr(models.SuperResolution, "decode", shown)

    def begin(method: str, *more: object, name: str = "run") -> Result:
        place = ("--data", data, "--run", data.parent / name, "--device", "cpu")
        return command("train", "diffusion", pipeline, "--method", method, *place, *RUNS[method], *more)

    return begin


def test_defaults_are_those_of_the_library() -> None:
    page = " ".join(command("train", "diffusion", "--help").stdout.split())
    owners: tuple[Any, ...] = (tune.TuneSettings(), lora.LoraSettings(), pairs.PairSettings(), draft.DraftSettings())
    for owner, names in zip(
        owners,
        (
            ("steps", "batch", "rate", "measure_every", "save_every"),
            ("rank",),
            ("sample_steps", "inputs", "candidates"),
            ("sample_steps", "gradient_steps", "kl", "fidelity", "anchor"),
        ),
        strict=True,
    ):
        for name in names:
            text = page.split(f"--{name.replace('_', '-')} ")[1].split(" --")[0]
            assert f"[default: {getattr(owner, name)}]" in text, name


@pytest.mark.parametrize("method", ["dpo", "draft"])
def test_a_run_goes_on_exactly_and_leaves_a_pipeline(
    start: Callable[..., Result], critics: dict[str, Any], data: Path, pipeline: Path, method: str
) -> None:
    unbroken = start(method, *STEPS, name="unbroken")
    assert unbroken.exit_code == 0, unbroken.output
    failing = iter([False, False, True])
    real = tune._advance

    def interrupt(*arguments: Any) -> Any:
        if next(failing):
            raise KeyboardInterrupt
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tune, "_advance", interrupt)
        stopped = start(method, *STEPS)
    assert stopped.exit_code == 130 and "interrupted" in stopped.stderr
    result = start(method, *STEPS)
    assert result.exit_code == 0, result.output
    assert "step 2/4" not in result.stdout and "step 4/4 loss=" in result.stdout
    home = data.parent / "run"
    for file in ("adapter/adapter_model.safetensors", "pipeline/unet/diffusion_pytorch_model.safetensors"):
        assert (home / file).read_bytes() == (data.parent / "unbroken" / file).read_bytes()
    table = json.loads((home / "result.json").read_text())
    assert table == json.loads((data.parent / "unbroken" / "result.json").read_text())
    assert set(table["table"]) == {"bright", "held-out", "psnr", "ssim", "inconsistency", "drift"}
    assert table["images"] == 2 and str(data) not in (home / "result.json").read_text()
    assert "figure\tbefore\tafter\tchange" in result.stdout and "\nheld-out\t" in result.stdout
    tool = load_pipeline_tool(home / "pipeline", steps=2)
    assert tool.restore(torch.rand(1, 3, 9, 8)).shape == (1, 3, 18, 16)
    said = json.loads((home / "settings.json").read_text())
    assert said["margin" if method == "dpo" else "views"] == (0 if method == "dpo" else 1)
    mixed = start(method, *STEPS, "--steps", 5)
    assert mixed.exit_code == 2 and "steps was 4, is 5" in mixed.stderr


def test_pairs_are_not_made_twice(
    start: Callable[..., Result], critics: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = start("dpo", "--steps", 1)
    assert result.exit_code == 0, result.output
    (data.parent / "run" / "last.pt").unlink()

    def refuse(*arguments: object) -> None:
        raise AssertionError("a pair is made again")

    monkeypatch.setattr(pairs, "_pair", refuse)
    again = start("dpo", "--steps", 1)
    assert again.exit_code == 0 and "3 pairs, margin" in again.stdout


def test_the_reward_of_training_does_not_choose(
    start: Callable[..., Result], critics: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Whatever pleases the critic displeases this held-out one: nothing is kept."""
    free = ("--psnr-loss", 60, "--anchor", 0, *STEPS)
    for name, kept in (("dark", False), (train_diffusion.HELD_OUT, True)):
        result = start("draft", *free, "--held-out-critic", name, "--json", name=name)
        assert result.exit_code == 0, result.output
        rows = {row["figure"]: row for row in lines(result)}
        document = json.loads((tmp_path / name / "result.json").read_text())
        # One of the two goes up and the other down, by exactly as much.
        assert (document["kept_step"] > 0) is kept, (rows, (tmp_path / name / "log.jsonl").read_text())
        assert (rows["bright"]["change"] > 0) is kept
        assert (rows["drift"]["after"] > 0) is kept


def test_other_held_out_critics_only_look_on(
    start: Callable[..., Result], critics: dict[str, Any], tmp_path: Path
) -> None:
    two = ("--held-out-critic", train_diffusion.HELD_OUT, "--held-out-critic", "dark")
    result = start("draft", "--psnr-loss", 60, "--anchor", 0, *STEPS, *two, "--json")
    assert result.exit_code == 0, result.output
    rows = {row["figure"]: row for row in lines(result)}
    assert rows["held-out"]["change"] > 0 > rows["dark"]["change"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["kept_step"] > 0
    twice = start("draft", *two, "--held-out-critic", "dark", name="twice")
    assert twice.exit_code == 2 and "each of its own name" in twice.stderr


def test_a_dry_run_leaves_nothing(start: Callable[..., Result], critics: dict[str, Any], data: Path) -> None:
    result = start("draft", "--dry-run")
    assert result.exit_code == 0
    assert "LDMSuperResolutionPipeline: UNet2DModel of 0.0" in result.stdout
    assert "million trained, of rank 2 on" in result.stdout and "draft: 200 steps of 2" in result.stdout
    assert "2 photographs, 2 held out" in result.stdout and "the gradient of 1 of 2 sampling steps" in result.stdout
    assert "pairs from 3 inputs, 6 images of 2 steps" in start("dpo", "--dry-run").stdout
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("draft", ("--beta", 5), "--beta belongs to --method dpo"),
        ("dpo", ("--cap", 4, "--gradient-steps", 1), "--gradient-steps, --cap belongs to --method draft"),
        ("dpo", ("--prompts", "x.txt"), "--prompts and --held-out-prompts are for text to image"),
        ("dpo", ("--guidance", 3), "leave guidance and size out"),
        ("dpo", ("--patch", 9), "patch must be a multiple of 2"),
        ("dpo", ("--patch", 64), "no photograph has the 160 pixels"),
        ("dpo", ("--target", "nothing"), "no layer is called nothing"),
        ("dpo", ("--held-out-critic", "twin"), "must be another than the one that trains"),
        ("dpo", ("--seed", -1), "seed must be at least 0"),
        ("draft", ("--gradient-steps", 3), "gradient_steps must be from 1 to the 2 sampling steps"),
        ("draft", ("--cap", 6), "cap must be within the critic's range"),
        ("draft", ("--critic", "open"), "take  --method dpo"),
    ],
)
def test_what_does_not_fit(
    start: Callable[..., Result],
    critics: dict[str, Any],
    data: Path,
    method: str,
    options: tuple[object, ...],
    expected: str,
) -> None:
    result = start(method, *options)
    assert result.exit_code == 2 and expected in result.stderr, result.output
    assert len(result.stderr.splitlines()) == 1
    assert not (data.parent / "run").exists()


def test_a_folder_that_is_no_pipeline(critics: dict[str, Any], data: Path) -> None:
    words = ("--method", "dpo", "--data", data, "--run", data.parent / "run")
    result = command("train", "diffusion", data, *words)
    assert result.exit_code == 2 and "without model_index.json" in result.stderr
    assert "no such folder" in command("train", "diffusion", data / "nowhere", *words).stderr


def test_candidates_that_tie_are_named(start: Callable[..., Result], critics: dict[str, Any]) -> None:
    result = start("dpo", "--margin", 4)
    assert result.exit_code == 2 and "the candidates of all 3 inputs tie" in result.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_from_text(critics: dict[str, Any], tmp_path: Path) -> None:
    from tests.restorers.test_restorers_diffusers import text_to_image

    text_to_image(tmp_path / "text")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("abc\n\ned\ncab\n")

    def begin(*more: object) -> Result:
        small = ("--sample-steps", 2, "--rank", 2, "--batch", 2, "--steps", 2, "--size", 32, "--device", "cpu")
        return command("train", "diffusion", tmp_path / "text", "--run", tmp_path / "run", *small, *more)

    asked = ("--method", "draft", "--prompts", prompts, "--views", 0, "--guidance", 2)
    result = begin(*asked)
    assert result.exit_code == 0, result.output
    assert "2 prompts, 1 held out" in result.stdout and "psnr" not in result.stdout
    assert (tmp_path / "run/pipeline/tokenizer").is_dir()
    pipeline = load_pipeline_tool(tmp_path / "run/pipeline", steps=1).pipeline
    pipeline.load_lora_weights(tmp_path / "run/adapter")
    assert "give  --prompts FILE" in begin("--method", "dpo").stderr
    assert "are for super-resolution" in begin("--method", "dpo", "--prompts", prompts, "--patch", 8).stderr
    prompts.write_text("alone\n")
    assert "expected a prompt to train on" in begin("--method", "dpo", "--prompts", prompts).stderr
    assert "expected a text file" in begin("--method", "dpo", "--prompts", tmp_path / "none").stderr


def test_the_embedded_critic_is_followed(pipeline: Path, data: Path, tiny_folder: Path) -> None:
    """Real critics, one of them of random weights: the wiring, not the worth."""
    result = command(
        "train", "diffusion", pipeline, "--method", "draft", "--data", data, "--run", data.parent / "run",
        "--device", "cpu", *RUNS["draft"], "--steps", 1, "--measure-on", 1, "--held-out-critic", tiny_folder,
        "--cap", 4.9, "--patch", 16,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    log = [json.loads(line) for line in (data.parent / "run/log.jsonl").read_text().splitlines()]
    assert log[1]["gradient"] > 0 and 0 < log[1]["reward"] < 1
    assert get_args(train_diffusion_run.Method) == ("dpo", "draft")


def test_changes_with_their_intervals() -> None:
    found = changes({"a": [1.0, 2.0, 3.0]}, {"a": [2.0, 2.0, 5.0]})["a"]
    assert found[:3] == (2.0, 3.0, 1.0) and found.low is not None and found.high is not None
    assert 0 <= found.low < 1 < found.high <= 2 and str(found).startswith("+1 [")
    alone = changes({"a": [1.0]}, {"a": [2.0]})["a"]
    assert (alone.low, str(alone)) == (None, "+1")
    unread = changes({"a": [1.0, 2.0]}, {"a": [math.nan, 2.0]})
    assert unread["a"].low is None and b'"after": null' in document({}, unread)
