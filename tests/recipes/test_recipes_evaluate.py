"""`evaluate score` and `evaluate stability`: figures that a scripted critic makes predictable, kept and resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from iqloop.critic import known
from iqloop.critic.verdicts import Rating, Unparsed

from .helpers import ScriptedCritic, lines, run

LEVELS = (20, 60, 90, 120, 170, 200, 230)
"""Grey levels of the images."""
OPINIONS = (1.5, 1.2, 2.6, 3.4, 3.1, 4.2, 4.9)


class Lightmeter(ScriptedCritic):
    """Scores the mean brightness on 1 to 5; a black image leaves it speechless."""

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        self.batches.append(len(images))
        means = [float(image.mean()) for image in images]
        return [Rating(1 + 4 * mean, 0.1) if mean else Unparsed("hm", "expected a number") for mean in means]


@dataclass
class Dice(Lightmeter):
    """Adds to the brightness what the seed throws, when it draws."""

    decoding: str = "expected"
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        said = super().score(images)
        if self.decoding == "expected":
            return said
        assert self.decoding == "reason" and self.samples > 1
        thrown = self.temperature * (self.seed % 3)
        spoken = tuple(f"<answer>{2 + thrown + step}</answer>" for step in (0, 0.5))
        return [
            Rating(one.mean + thrown, 0.2, answers=spoken, unparsed=1) if isinstance(one, Rating) else one
            for one in said
        ]


def use(critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "create_critic", lambda name, **options: critic)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Lightmeter:
    made = Lightmeter(torch.zeros(3, 8, 8))
    use(made, monkeypatch)
    return made


@pytest.fixture
def table(here: Path) -> Path:
    """``rated.csv`` beside a folder with its images."""
    Path("photos").mkdir()
    rows = ["file,mos_1_5,group"]
    for i, (level, opinion) in enumerate(zip(LEVELS, OPINIONS, strict=True)):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(f"photos/{i}.png")
        rows.append(f"photos/{i}.png,{opinion},{'ab'[i % 2]}")
    Path("rated.csv").write_text("\n".join(rows) + "\n")
    return Path("rated.csv")


def summary(*arguments: object, code: int = 0) -> dict[str, Any]:
    few = ("--resamples", 10) if arguments[0] == "score" else ()
    result = run("evaluate", *arguments, *few, "--json")
    assert result.exit_code == code, result.output
    return lines(result)[-1]


def test_score(meter: Lightmeter, table: Path) -> None:
    result = run("evaluate", "score", table, "--json", "--resamples", "50", "-o", "run")
    assert result.exit_code == 0, result.output
    (said,) = lines(result)
    scores = [1 + 4 * level / 255 for level in LEVELS]
    assert (said["critic"], said["rows"], said["scored"], said["unparsed"]) == ("scripted", 7, 7, 0)
    overall = said["overall"]
    assert overall["srcc"]["value"] == pytest.approx(stats.spearmanr(scores, OPINIONS).statistic)
    assert overall["plcc"]["value"] == pytest.approx(stats.pearsonr(scores, OPINIONS).statistic)
    error = np.sqrt(np.mean((np.array(scores) - OPINIONS) ** 2))
    assert overall["rmse_raw"]["value"] == pytest.approx(error, abs=1e-6), "both on 1 to 5"
    assert overall["rmse"]["value"] <= error and overall["curve"]["rises"]
    assert set(said["groups"]) == {"a", "b"} and said["groups"]["b"]["images"] == 3
    assert said["groups"]["b"]["plcc_fitted"]["value"] is None, "three images are no curve"
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "config.json",
        "predictions.jsonl",
        "scores.png",
        "summary.json",
    ]
    assert json.loads(Path("run/summary.json").read_text()) == said
    config = json.loads(Path("run/config.json").read_text())
    assert (config["measure"], config["critic"]["version"], len(config["table"])) == ("score", "1", 64)
    assert config["about"]["packages"]["torch"] == torch.__version__.split("+")[0]
    first = json.loads(Path("run/predictions.jsonl").read_text().splitlines()[0])
    assert first["key"] == "photos/0.png" and first["score"] == pytest.approx(scores[0]) and first["mos"] == 1.5


def test_score_for_people(meter: Lightmeter, table: Path) -> None:
    result = run("evaluate", "score", table, "--resamples", "0")
    assert [row.split("\t")[:3] for row in result.stdout.splitlines()[:2]] == [
        ["of", "images", "SRCC"],
        ["all", "7", "0.929"],
    ]


def test_score_of_a_fold(meter: Lightmeter, table: Path) -> None:
    said = summary("score", table, "--fold", "1", "--folds", "3")
    assert (said["rows"], said["fold"]) == (2, 1), "rows 1 and 4 of seven"
    assert sum(meter.batches) == 2
    assert run("evaluate", "score", table, "--fold", "5").exit_code == 2
    Path("short.csv").write_text("file,mos\nphotos/0.png,3\n")
    assert "none of them in fold 1" in run("evaluate", "score", "short.csv", "--fold", "1").stderr


def test_direction(meter: Lightmeter, table: Path) -> None:
    """A critic or a table where low is good gives the same figures with the other sign taken out."""
    high = summary("score", table)["overall"]
    meter.lower_better = True
    low = summary("score", table)["overall"]
    assert low["srcc"]["value"] == pytest.approx(-high["srcc"]["value"])
    assert low["rmse_raw"]["value"] is None
    assert low["plcc_fitted"]["value"] == pytest.approx(high["plcc_fitted"]["value"], abs=1e-4)
    assert not low["curve"]["rises"]
    both = summary("score", table, "--lower-better-labels")["overall"]
    assert both["srcc"] == high["srcc"] and both["rmse_raw"] == high["rmse_raw"]


def test_unread_answers_are_counted_and_never_scored(meter: Lightmeter, table: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("photos/3.png")
    said = summary("score", table, "-o", "run")
    assert (said["rows"], said["scored"], said["unparsed"], said["overall"]["images"]) == (7, 6, 1, 6)
    kept = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert kept[3]["score"] is None and kept[3]["reason"] == "expected a number" and kept[3]["raw"] == "hm"
    people = run("evaluate", "score", table, "--resamples", 10)
    assert people.exit_code == 0 and "unparsed: 1 of 7 images" in people.stderr


def test_nothing_could_be_read(meter: Lightmeter, table: Path) -> None:
    for path in Path("photos").iterdir():
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    said = summary("score", table, "-o", "run")
    assert (said["scored"], said["unparsed"], said["overall"]["srcc"]["value"]) == (0, 7, None)
    assert "needs two images" in said["overall"]["srcc"]["reason"]
    assert "needs two images" in run("evaluate", "score", table, "--resamples", 10).stderr


def test_a_missing_image(meter: Lightmeter, table: Path) -> None:
    Path("photos/2.png").unlink()
    refused = run("evaluate", "score", table, "--resamples", 10)
    assert refused.exit_code == 2 and "photos/2.png: no such file" in refused.stderr and not meter.batches
    said = summary("score", table, "--skip-missing")
    assert (said["rows"], said["scored"], said["missing"]) == (7, 6, 1)
    elsewhere = run("evaluate", "score", table, "--images", "photos", "--skip-missing")
    assert elsewhere.exit_code == 2 and "7 of its 7 images" in elsewhere.stderr
    assert "nowhere: expected the folder" in run("evaluate", "score", table, "--images", "nowhere").stderr


def test_images_above_the_table(meter: Lightmeter, table: Path) -> None:
    """As in data sets whose tables lie in a folder of their own and name images from the one above."""
    Path("tables").mkdir()
    moved = table.rename("tables/rated.csv")
    assert summary("score", moved)["scored"] == 7
    assert summary("score", moved, "--images", ".")["scored"] == 7


def test_images_above_a_link_to_the_tables(meter: Lightmeter, table: Path) -> None:
    """The folder above is that of the table itself, not that of the link."""
    Path("data/tables").mkdir(parents=True)
    Path("photos").rename("data/photos")
    table.rename("data/tables/rated.csv")
    Path("elsewhere").mkdir()
    Path("elsewhere/link").symlink_to(Path("data/tables").absolute())
    assert summary("score", "elsewhere/link/rated.csv")["scored"] == 7


def test_an_image_named_in_two_ways(meter: Lightmeter, table: Path) -> None:
    with table.open("a") as file:
        file.write("./photos/0.png,1.6,a\n")
    said = summary("score", table)
    assert (said["rows"], said["scored"], said["failed"]) == (8, 8, 0)


def test_a_broken_image_costs_only_itself(meter: Lightmeter, table: Path) -> None:
    whole = Path("photos/2.png").read_bytes()
    Path("photos/2.png").write_bytes(b"not an image")
    said = summary("score", table, "-o", "run", code=1)
    assert (said["scored"], said["failed"]) == (6, 1)
    Path("photos/2.png").write_bytes(whole)
    again = summary("score", table, "-o", "run", "--resume")
    assert (again["scored"], again["failed"]) == (7, 0)


def test_resuming_an_interrupted_run(meter: Lightmeter, table: Path) -> None:
    """Cut in the middle of the fourth line: three answers are taken over, four asked, and all comes out the same."""
    whole = summary("score", table, "-o", "run")
    pages = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    rows = pages["predictions.jsonl"].splitlines(keepends=True)
    Path("run/predictions.jsonl").write_bytes(b"".join(rows[:3]) + rows[3][:20])
    Path("run/summary.json").unlink()
    meter.batches.clear()
    assert summary("score", table, "-o", "run", "--resume") == whole
    assert sum(meter.batches) == 4
    for name in ("config.json", "predictions.jsonl", "summary.json"):
        assert Path("run", name).read_bytes() == pages[name]


def test_resuming_something_else_is_refused(meter: Lightmeter, table: Path) -> None:
    summary("score", table, "-o", "run")
    again = run("evaluate", "score", table, "-o", "run")
    assert again.exit_code == 2 and "add --resume" in again.stderr
    for change, named in ((["--fold", "1"], "fold was None, now 1"), (["--column", "mos_1_5"], "column was None")):
        refused = run("evaluate", "score", table, "-o", "run", "--resume", *change)
        assert refused.exit_code == 2 and named in refused.stderr
    refused = run("evaluate", "score", table, "-o", "run", "--resume", "--dtype", "bfloat16")
    assert refused.exit_code == 2 and "dtype was None, now 'bfloat16'" in refused.stderr
    meter.version = "2"
    assert "critic was" in run("evaluate", "score", table, "-o", "run", "--resume").stderr
    meter.version = "1"
    table.write_text(table.read_text().replace("4.9", "4.8"))
    assert "table was" in run("evaluate", "score", table, "-o", "run", "--resume").stderr
    assert "--resume goes with -o" in run("evaluate", "score", table, "--resume").stderr
    assert "holds other files" in run("evaluate", "score", table, "-o", "photos").stderr
    assert "is a file" in run("evaluate", "score", table, "-o", table).stderr
    Path("run/predictions.jsonl").write_text("{}\n")
    table.write_text(table.read_text().replace("4.8", "4.9"))
    broken = run("evaluate", "score", table, "-o", "run", "--resume")
    assert broken.exit_code == 2 and "line 1: expected an answer as JSON" in broken.stderr


def test_stability(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds 0 to 3 throw 0, 1, 2 and 0 at temperature 1: the same spread for each image."""
    use(Dice(torch.zeros(3, 8, 8)), monkeypatch)
    said = summary("stability", "photos", "--seeds", "4", "-o", "run")
    std = float(np.std([0, 1, 2, 0], ddof=1))
    assert said["std_mean"] == pytest.approx(std) and said["std_max"] == pytest.approx(std)
    assert said["span_max"] == pytest.approx(2.0) and said["deterministic_span_max"] == 0
    assert (said["seeds"], said["answers"], said["unparsed"], said["retried"]) == ([0, 1, 2, 3], 28, 0, 28)
    assert said["own_std"] == pytest.approx(0.2)
    answers = [2 + thrown + step for thrown in (0, 1, 2, 0) for step in (0, 0.5)]
    assert said["single_std_mean"] == pytest.approx(np.std(answers, ddof=1)) == said["single_std_max"]
    assert said["by_image"]["photos/0.png"]["mean"] == pytest.approx(1 + 4 * 20 / 255 + 0.75)
    assert {path.name for path in Path("run").iterdir()} == {
        "config.json",
        "predictions.jsonl",
        "seeds.png",
        "summary.json",
    }
    lines_kept = Path("run/predictions.jsonl").read_text().splitlines(keepends=True)
    Path("run/predictions.jsonl").write_text("".join(lines_kept[:2]) + lines_kept[2][:9])
    assert summary("stability", "photos", "--seeds", "4", "-o", "run", "--resume") == said
    refused = run("evaluate", "stability", "photos", "--seeds", "5", "-o", "run", "--resume")
    assert refused.exit_code == 2 and "seeds was" in refused.stderr
    half = summary("stability", "photos/0.png", "--seeds", "4", "--temperature", "0.5")
    assert half["std_mean"] == pytest.approx(std / 2)
    people = run("evaluate", "stability", "photos", "--seeds", "3")
    assert "deterministic mode: largest difference 0" in people.stdout


def test_stability_of_a_critic_that_draws_nothing(meter: Lightmeter, table: Path) -> None:
    said = summary("stability", "photos", "-o", "run")
    assert (said["seeds"], said["answers"], said["std_mean"], said["deterministic_span_max"]) == ([], 0, None, 0)
    assert sum(meter.batches) == 14, "seven images, twice"
    people = run("evaluate", "stability", "photos")
    assert people.stdout == "scripted draws no answers; asked twice, largest difference 0\n"


def test_stability_of_a_checkpoint(tiny_folder: Path, table: Path) -> None:
    """Random weights write nothing that could be read: every score is unparsed, and the expectation is steady."""
    short = ["--critic", tiny_folder, "--critic-option", "max_new_tokens=3", "--seeds", "2"]
    said = summary("stability", "photos/0.png", "photos/1.png", *short)
    assert (said["unparsed"], said["unparsed_share"], said["std_mean"]) == (4, 1.0, None)
    assert said["deterministic_span_max"] < 1e-4


def test_ranking_of_published_text_labels(meter: Lightmeter, table: Path) -> None:
    """VisualQuality-R1's layout of SRIQA: reference, which is the scene; image, whose folder is the method; opinion."""
    rows = []
    for i, (method, opinion) in enumerate([("Original", 90), ("SwinIR", 40), ("OSEDiff", 70), ("BSRGAN", 80)]):
        Path(method).mkdir()
        Path("photos", f"{6 - i}.png").rename(Path(method, "1.png"))
        rows.append(f"LR/1.png {method}/1.png {opinion}")
    Path("sriqa.txt").write_text("\n".join(rows) + "\n")
    said = summary("ranking", "sriqa.txt")
    assert {name: (one["correct"], one["pairs"]) for name, one in said["subsets"].items()} == {
        "regression": (1, 1),
        "generative": (2, 3),
        "overall": (3, 6),
    }, "by brightness the order is that of the rows"
