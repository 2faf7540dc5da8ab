"""`bench critic-loss`: every variant trains as it says, from the same start; the page, its figures and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from iqloop.critic import known
from iqloop.recipes.bench.critic_loss.page import strip, summary
from iqloop.recipes.bench.critic_loss.study import ORIGINAL, START, VARIANTS, Outcome, Row, Study, guidance_for
from iqloop.recipes.train.restorer_guidance import Wanted
from iqloop.restorers.training.tasks import TASKS
from iqloop.restorers.training.train import RestorerSettings
from iqloop.restorers.training.validation import checks
from tests.conftest import Photograph
from tests.critic.critic_fakes import BrightnessCritic

from .helpers import lines, run

NAMES = [variant.name for variant in VARIANTS]


@pytest.fixture
def data(tmp_path: Path, photograph: Photograph, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs to train on and three held out; critics that like light, and dark."""
    for part, names in (("train", ("astronaut", "coffee")), ("val", ("chelsea", "rocket", "coffee"))):
        folder = tmp_path / "data" / "photos" / part
        folder.mkdir(parents=True)
        for name in names:
            Image.fromarray(photograph(name, 136, 40, 120)).save(folder / f"{name}.png")
    found = {"light": BrightnessCritic(name="light"), "dark": BrightnessCritic(name="dark", lower_better=True)}
    monkeypatch.setattr(known, "create_critic", lambda name, **options: found[name])
    return tmp_path / "data"


def study(folder: Path) -> Study:
    settings = RestorerSettings(steps=3, batch=2, patch=32, rate=1e-3, validate_on=1, validate_side=64, log_every=1)
    critics = BrightnessCritic(name="light"), BrightnessCritic(name="dark", lower_better=True)
    return Study(TASKS["upscale-x2"], [], [], settings, *critics, Wanted(2.0, cap=2.0, views=3), folder)


def test_the_command_again_and_again(data: Path, photograph: Photograph) -> None:
    page, plot, picture = (data.parent / name for name in ("page.md", "plot.png", "strip.png"))
    words: tuple[object, ...] = ("--data", data, "--run", data.parent / "runs", "--steps", 3, "--every", 3)
    words = (*words, "--batch", 1, "--choose-on", 1, "--side", 64, "--critic", "light", "--held-out-critic", "dark")
    words = (*words, "--rate", 0.005, "--weight", 10, "--device", "cpu", "-o", page, "--plot", plot)
    result = run("bench", "critic-loss", *words, "--strip", picture)
    assert result.exit_code == 0, result.output
    document = json.loads(page.with_suffix(".json").read_text())
    rows, mean = document["rows"], {}
    for name in (ORIGINAL, START, *NAMES):
        own = [row for row in rows if row["variant"] == name and row["weights"] == "last"]
        assert [row["photo"] for row in own] == [0, 1], "the first photograph chose, the two others are reported"
        mean[name] = sum(row["critic"] for row in own) / 2
    # Who follows the critic without a cap is brighter than all who have one, and than who does not follow it.
    free = ("no cap", "no guards")
    assert min(mean[name] for name in free) > max(mean[name] for name in NAMES if name not in free) + 0.1
    # The cap is what clean patches score.
    clean = [torch.from_numpy(photograph(name, 136, 40, 120)).float().mean() / 255 for name in ("astronaut", "coffee")]
    assert abs(document["cap"] - 1 - 4 * float(sum(clean)) / 2) < 0.5
    assert document["kept"]["no guards"] == 0, "who likes the dark keeps the start"
    kept = [row for row in rows if row["variant"] == "no guards" and row["weights"] == "kept"]
    start = [row for row in rows if row["variant"] == START]
    assert [row["psnr"] for row in kept] == [row["psnr"] for row in start]
    text = page.read_text()
    assert all(f"| {name} |" in text for name in NAMES) and "dark fake-1, lower is better" in text
    assert str(data.parent) not in text + page.with_suffix(".json").read_text()
    for file in (plot, picture):
        with Image.open(file) as image:
            assert min(image.size) > 200
    # Again: the runs are not made again, and the figures are the same.
    again = run("bench", "critic-loss", *words, "--json")
    assert again.exit_code == 0 and "step " not in again.stderr
    assert lines(again) == rows


def test_each_variant_lacks_what_it_says(tmp_path: Path) -> None:
    guidances = {variant.name: guidance_for(variant, study(tmp_path)) for variant in VARIANTS}
    about = {name: (one.about["cap"], one.about["views"], one.fidelity) for name, one in guidances.items()}
    assert about == {
        "no critic": (2.0, 3, 1.0), "all guards": (2.0, 3, 1.0), "no cap": (5.0, 3, 1.0), "no views": (2.0, 0, 1.0),
        "no fidelity": (2.0, 3, 0.0), "no guards": (5.0, 0, 0.0),
    }  # fmt: skip
    dark, bright = torch.full((1, 3, 64, 64), 0.1), torch.full((1, 3, 64, 64), 0.9)
    for name, guidance in guidances.items():
        assert guidance.guard is not None and guidance.guard.figure == "dark" and guidance.guard.patience > 3
        gains = [float(guidance.reward(image, 0)) for image in (dark, bright)]
        expected = [0.0, 0.0] if name == "no critic" else [0.1, 0.9 if name in ("no cap", "no guards") else 0.25]
        assert gains == pytest.approx(expected, abs=1e-5), name


def test_the_summary_compares_the_same_photographs(tmp_path: Path, photograph: Photograph) -> None:
    found = checks(TASKS["upscale-x2"], [photograph("coffee", 160), photograph("rocket", 160)], 128, 2)[0]

    def rows(name: str, gain: float) -> list[Row]:
        return [Row(name, "last", i, 3 + i + gain, 2 + i - gain, 30 + 5 * i - gain, 0.9) for i in range(2)]

    outputs = {START: list(found.target), "no guards": list(found.target)}
    outcome = Outcome([*rows(ORIGINAL, 0), *rows(START, 0), *rows("no guards", 0.5)], {}, {}, outputs, found)
    last = summary(outcome, study(tmp_path))[-1]
    # Every photograph gained the same, so the interval has no width whatever the photographs differ by.
    assert last["critic_change"] == [0.5, 0.5, 0.5] and last["psnr_change"] == [-0.5, -0.5, -0.5]
    assert last["critic"] == 4 and last["photographs"] == 2
    assert len(strip(outcome, study(tmp_path)).axes) == 2 * (2 + len(outputs))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--choose-on", "2"), "has 3 photographs: expected 2 to choose by"),
        (("--choose-on", "1", "-o", "page.txt"), "expected a name that ends in .md"),
        (("--choose-on", "1", "--plot", "plot.jpg"), "expected a name that ends in .png"),
        (("--choose-on", "1", "--cap", "7"), "cap must be within the critic's range"),
        (("--choose-on", "1", "--held-out-critic", "light"), "must be another than the one that trains"),
    ],
)
def test_what_does_not_fit(data: Path, words: tuple[str, ...], expected: str) -> None:
    always = ("--data", data, "--run", data.parent / "runs", "--critic", "light", "--held-out-critic", "dark")
    result = run("bench", "critic-loss", *always, "--batch", "1", *words)
    assert result.exit_code == 2 and expected in result.stderr, result.output
    assert not (data.parent / "runs").exists()
