"""`evaluate degradation` and `evaluate ranking`: figures that a scripted critic makes predictable, kept and resumed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.critic import known
from iqloop.critic.verdicts import Preference, Rating, Unparsed

from .helpers import ScriptedCritic, lines, run

Photograph = Callable[..., NDArray[np.uint8]]

BRIGHTNESS = {"Original": 250, "SwinIR": 130, "RRDB": 128, "BSRGAN": 60, "OSEDiff": 200}
"""Of flat images; a `Lightmeter` scores one 255 units apart as 4 points apart."""
OPINIONS = {"Original": 100.0, "SwinIR": 40.0, "RRDB": 40.0, "BSRGAN": 0.0, "OSEDiff": 100.0}
SCENE_KINDS = {
    "overall": (10, 9, 2),
    "regression": (3, 3, 1),
    "generative": (3, 2, 1),
}
"""Pairs, those in order and ties of opinion: Original and OSEDiff are one for people, and 0.78 apart for the meter."""


class Lightmeter(ScriptedCritic):
    """Scores the mean brightness on 1 to 5, compares by it, and favours the image shown first a little."""

    def _value(self, image: Tensor) -> float:
        value = float(image.mean()) * 4
        return 5 - value if self.lower_better else 1 + value

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        found: list[Preference | Unparsed] = []
        for x, y in zip(a, b, strict=True):
            more = float(x.mean() - y.mean())
            if max(x.mean(), y.mean()) < 0.05:
                found.append(Unparsed("hm", "expected A or B"))
            else:
                choice: Any = "similar" if abs(more) < 0.02 else "A" if more > 0 else "B"
                found.append(Preference(choice, 0.5 + more / 2, position_bias=0.125))
        return found


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Lightmeter:
    made = Lightmeter(torch.zeros(3, 8, 8))
    monkeypatch.setattr(known, "create_critic", lambda name, **options: made)
    return made


def flat(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((32, 40, 3), value, np.uint8)).save(path)


@pytest.fixture
def table(here: Path) -> Path:
    """One scene of five images."""
    with Path("table.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "mos", "scene", "method"])
        for method, mos in OPINIONS.items():
            flat(Path("images") / f"{method}.png", BRIGHTNESS[method])
            writer.writerow([f"images/{method}.png", mos, "0001", method])
    return Path("table.csv")


@pytest.fixture
def photos(here: Path, photograph: Photograph) -> Path:
    Path("photos").mkdir()
    for name in ("astronaut", "chelsea"):
        Image.fromarray(photograph(name, 96)).save(f"photos/{name}.png")
    return Path("photos")


@pytest.fixture
def labels(here: Path) -> Path:
    """Three noisy images and a blurred one; the scripted critic says obvious noise of everything."""
    rows = [("noise", "obvious"), ("noise", "slight"), ("noise", "obvious"), ("blur", "obvious"), (None, None)]
    for i, _ in enumerate(rows):
        flat(Path(f"{i}.png"), 40 * i)
    said = [{"image": f"{i}.png", "distortion_class": kind, "severity": how} for i, (kind, how) in enumerate(rows)]
    Path("labels.json").write_text(json.dumps(said))
    return Path("labels.json")


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text())
    return found


def cut_short(folder: str, keep: int) -> None:
    """Leave ``keep`` answers and half of another, as a run that was killed does."""
    path = Path(folder) / "predictions.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    assert len(rows) > keep
    path.write_bytes(b"".join(rows[:keep]) + rows[keep][: len(rows[keep]) // 2])
    (Path(folder) / "summary.json").unlink()


# -- degradation -------------------------------------------------------------------------------------------------------


def test_photographs_are_distorted_and_counted(critic: ScriptedCritic, photos: Path) -> None:
    arguments = ["--photos", photos, "--count", 20, "--native", 64, "--mixtures", 10]
    result = run("evaluate", "degradation", *arguments, "-o", "out", "--json")
    assert result.exit_code == 0, result.output
    (found,) = lines(result)
    assert found == summary("out")
    assert found["short_side_224"]["cases"] == found["native_64"]["cases"] == 20
    assert found["short_side_224"]["by_class"]["noise"] == 1 and found["short_side_224"]["by_class"]["blur"] == 0
    assert found["short_side_224"]["class_accuracy"] == pytest.approx(0.2), "one class of five"
    assert set(found["ladders_fall"]) == {"noise", "blur", "compression", "darken"} and found["photographs"] == 2
    written = {path.name for path in Path("out").iterdir()}
    pictures = {"confusion_short_side_224.png", "confusion_native_64.png", "ladders.png"}
    assert written == {"config.json", "predictions.jsonl", "summary.json"} | pictures
    answers = (Path("out") / "predictions.jsonl").read_text().splitlines()
    assert len(answers) == 20 + 20 + 10 + 2 * 21


def test_figures_are_said_to_people_and_ladders_can_be_left_out(critic: ScriptedCritic, photos: Path) -> None:
    arguments = ["evaluate", "degradation", "--photos", photos, "--count", 20, "--native", 0, "--mixtures", 0]
    text = run(*arguments).stdout
    assert text.startswith("short_side_224: class 0.200, level ") and "unparsed 0.000" in text
    assert text.count("at severity 0 to 5: ") == 4
    critic.capabilities = frozenset({"perceive"})
    short = run(*arguments, "--no-ladders")
    assert short.exit_code == 0 and "severity 0 to 5" not in short.stdout
    assert run(*arguments).exit_code == 2, "ladders need scores"


def test_any_class_of_a_mixture_is_right(critic: ScriptedCritic, photos: Path) -> None:
    arguments = ["evaluate", "degradation", "--photos", photos, "--count", 20, "--native", 0, "--no-ladders"]
    result = run(*arguments, "--mixtures", 10, "-o", "out")
    assert result.exit_code == 0, result.output
    kept = [json.loads(row) for row in (Path("out") / "predictions.jsonl").read_text().splitlines()]
    asked = [row for row in kept if row["part"] == "mixtures"]
    assert [len(row["truth"]) for row in asked].count(2) == 5 and len(asked) == 10
    assert all(len(row["functions"]) == len(row["severities"]) == len(row["truth"]) for row in asked)
    found = summary("out")["mixtures"]
    hits = {size: sum("noise" in row["truth"] for row in asked if len(row["truth"]) == size) for size in (2, 3)}
    assert (found["two"], found["three"]) == (hits[2] / 5, hits[3] / 5) and found["cases"] == 10
    assert found["accuracy"] == (hits[2] + hits[3]) / 10 and found["null"] == found["unparsed"] == 0
    assert found["named"]["noise"] == 1 and found["named"]["blur"] == 0
    folds = f"(two {found['two']:.3f} three {found['three']:.3f})"
    said = f"mixtures: any present class {found['accuracy']:.3f} {folds}, null 0.000, unparsed 0.000\n"
    assert said in result.stdout
    assert {path.name for path in Path("out").glob("*.png")} == {"confusion_short_side_224.png"}
    critic.kind = "null"
    clean = lines(run(*arguments, "--mixtures", 10, "--json"))[0]["mixtures"]
    assert clean["null"] == 1 and clean["accuracy"] == 0
    critic.unparsed = True
    unread = lines(run(*arguments, "--mixtures", 10, "--json"))[0]["mixtures"]
    assert unread["unparsed"] == 1 and unread["accuracy"] == 0 and unread["null"] == 0


def test_mixtures_can_be_left_out_and_are_not_asked_again(
    critic: ScriptedCritic, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["evaluate", "degradation", "--photos", photos, "--count", 20, "--native", 0, "--no-ladders"]
    without = run(*arguments, "--mixtures", 0, "-o", "without")
    assert "mixtures" not in summary("without") and "mixtures" not in without.stdout
    assert run(*arguments, "--mixtures", 10, "-o", "without", "--resume").exit_code == 2, "another run"
    run(*arguments, "--mixtures", 10, "-o", "out")
    whole = summary("out")
    cut_short("out", 24)
    asked: list[int] = []
    perceive = critic.perceive

    def counted(images: Sequence[Tensor]) -> Any:
        asked.append(len(images))
        return perceive(images)

    monkeypatch.setattr(critic, "perceive", counted)
    assert run(*arguments, "--mixtures", 10, "-o", "out", "--resume").exit_code == 0
    assert summary("out") == whole and sum(asked) == 30 - 24


def test_labels_are_counted_by_hand(critic: ScriptedCritic, labels: Path) -> None:
    result = run("evaluate", "degradation", labels, "--json")
    assert result.exit_code == 0, result.output
    found = lines(result)[0]["labels"]
    assert found["by_class"] == {"noise": 1.0, "blur": 0.0, "null": 0.0}
    assert found["class_accuracy"] == pytest.approx(1 / 3) and found["level_accuracy"] == pytest.approx((2 / 3 + 0) / 2)


def test_answers_that_cannot_be_read_are_wrong_and_counted(critic: ScriptedCritic, labels: Path) -> None:
    critic.unparsed = True
    found = lines(run("evaluate", "degradation", labels, "--json"))[0]["labels"]
    assert found["unparsed"] == 1 and found["class_accuracy"] == 0 and found["confusion"]["noise"]["unparsed"] == 3


def test_an_interrupted_run_gives_the_same_figures(critic: ScriptedCritic, photos: Path) -> None:
    arguments = ["evaluate", "degradation", "--photos", photos, "--count", 20, "--native", 64, "-o", "out"]
    arguments += ["--mixtures", 10]
    assert run(*arguments, "--batch-size", 3).exit_code == 0
    whole = summary("out")
    cut_short("out", 57)
    critic.batches.clear()
    assert run(*arguments).exit_code == 2, "not without --resume"
    assert run(*arguments, "--resume").exit_code == 0
    assert summary("out") == whole
    assert sum(critic.batches) == 42 - 7, "what was answered is not asked again"
    assert run(*arguments[:5], 40, *arguments[6:], "--resume").exit_code == 2, "another run"


def test_a_missing_image_is_named_or_skipped(critic: ScriptedCritic, labels: Path) -> None:
    Path("3.png").unlink()
    refused = run("evaluate", "degradation", labels)
    assert refused.exit_code == 2 and "3.png" in refused.stderr and "--skip-missing" in refused.stderr
    found = lines(run("evaluate", "degradation", labels, "--skip-missing", "--json"))[0]
    assert found["missing"] == 1 and found["labels"]["cases"] == 4
    Path("moved").mkdir()
    for path in Path().glob("*.png"):
        path.rename(Path("moved") / path.name)
    assert run("evaluate", "degradation", labels, "--skip-missing").exit_code == 2, "none is there"
    assert run("evaluate", "degradation", labels, "--images", "moved", "--skip-missing").exit_code == 0


def test_an_image_that_is_broken_fails_alone(critic: ScriptedCritic, labels: Path) -> None:
    Path("0.png").write_bytes(b"no image")
    result = run("evaluate", "degradation", labels, "-o", "out")
    assert result.exit_code == 1 and "0.png" in result.stderr
    assert summary("out")["failed"] == 1 and summary("out")["labels"]["cases"] == 4
    flat(Path("0.png"), 0)
    assert run("evaluate", "degradation", labels, "-o", "out", "--resume").exit_code == 0, "asked about again"
    assert summary("out")["failed"] == 0 and summary("out")["labels"]["cases"] == 5


def test_what_to_measure_on_must_be_said_once(critic: ScriptedCritic, labels: Path) -> None:
    assert run("evaluate", "degradation").exit_code == 2
    assert run("evaluate", "degradation", labels, "--photos", ".").exit_code == 2
    assert "clean photographs" in run("evaluate", "degradation", "--photos", "nowhere").stderr
    Path("empty").mkdir()
    assert run("evaluate", "degradation", "--photos", "empty").exit_code == 2


# -- ranking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower_better", [False, True])
def test_a_scene_by_scores(meter: Lightmeter, table: Path, lower_better: bool) -> None:
    meter.lower_better = lower_better
    result = run("evaluate", "ranking", table, "-o", "out", "--json")
    assert result.exit_code == 0, result.output
    found = lines(result)[0]
    assert found == summary("out") and found["by"] == "score" and found["delta"] == 0.1
    assert {name: (one["pairs"], one["correct"], one["ties"]) for name, one in found["subsets"].items()} == SCENE_KINDS
    assert Path("out/scenes.png").stat().st_size > 1000


def test_another_delta_is_counted_from_the_same_answers(meter: Lightmeter, table: Path) -> None:
    run("evaluate", "ranking", table, "-o", "out")
    meter.batches.clear()
    result = run("evaluate", "ranking", table, "-o", "out", "--resume", "--delta", 0.01, "--json")
    assert lines(result)[0]["subsets"]["overall"]["correct"] == 8, "SwinIR and RRDB are 0.03 apart"
    assert meter.batches == []


def test_scenes_by_comparison(meter: Lightmeter, table: Path) -> None:
    meter.capabilities = frozenset({"score", "compare"})
    found = lines(run("evaluate", "ranking", table, "--by", "comparison", "-o", "out", "--json"))[0]
    assert {name: (one["pairs"], one["correct"], one["ties"]) for name, one in found["subsets"].items()} == SCENE_KINDS
    assert found["position_bias"] == 0.125 and found["position_bias_pairs"] == 10 and found["thurstone"] == 0
    whole = summary("out")
    cut_short("out", 4)
    assert run("evaluate", "ranking", table, "--by", "comparison", "-o", "out", "--resume").exit_code == 0
    assert summary("out") == whole


@pytest.mark.parametrize("lower_better", [False, True])
def test_two_scores_stand_in_for_a_comparison(meter: Lightmeter, table: Path, lower_better: bool) -> None:
    """Deviation 0.05: Phi(0.03 / 0.07) is 0.67, so that SwinIR and RRDB are no longer a tie."""
    meter.lower_better = lower_better
    found = lines(run("evaluate", "ranking", table, "--by", "comparison", "--json"))[0]
    assert found["thurstone"] == 1 and found["position_bias"] is None
    assert found["subsets"]["overall"]["correct"] == 8


def test_references_go_with_comparisons(meter: Lightmeter, table: Path) -> None:
    meter.capabilities = frozenset({"score", "compare"})
    flat(Path("degraded/0001.png"), 90)
    assert run("evaluate", "ranking", table, "--references", "degraded").exit_code == 2, "scores take none"
    arguments = ["evaluate", "ranking", table, "--by", "comparison", "--references"]
    assert run(*arguments, "degraded").exit_code == 0
    Path("degraded/0001.png").rename("degraded/0002.png")
    lacking = run(*arguments, "degraded")
    assert lacking.exit_code == 2 and "0001" in lacking.stderr
    assert run(*arguments, "degraded", "--skip-missing").exit_code == 2, "no pair is left"


def test_direction_of_the_labels(meter: Lightmeter, table: Path) -> None:
    """Turned round, only the tie of SwinIR and RRDB is in order."""
    found = lines(run("evaluate", "ranking", table, "--lower-better-labels", "--json"))[0]
    assert found["subsets"]["overall"]["correct"] == 1


def test_missing_contestants(meter: Lightmeter, table: Path) -> None:
    Path("images/BSRGAN.png").unlink()
    assert "BSRGAN.png" in run("evaluate", "ranking", table).stderr
    found = lines(run("evaluate", "ranking", table, "--skip-missing", "--json"))[0]
    assert found["missing"] == 1 and found["subsets"]["overall"]["pairs"] == 6


def test_scores_that_cannot_be_read_are_wrong(meter: Lightmeter, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        return [Unparsed("hm", "why") if image.mean() < 0.3 else Rating(meter._value(image), 0) for image in images]

    monkeypatch.setattr(meter, "score", score)
    found = lines(run("evaluate", "ranking", table, "--json"))[0]["subsets"]["overall"]
    assert (found["unparsed"], found["correct"], found["pairs"]) == (4, 5, 10)


def test_a_table_needs_scenes(meter: Lightmeter, table: Path) -> None:
    rows = [line.rsplit(",", 2)[0] for line in table.read_text().splitlines()]
    Path("plain.csv").write_text("\n".join(rows))
    refused = run("evaluate", "ranking", "plain.csv")
    assert refused.exit_code == 2 and "scene" in refused.stderr


def test_without_a_column_the_path_names_the_method(meter: Lightmeter, table: Path) -> None:
    named = lines(run("evaluate", "ranking", table, "--json"))[0]["subsets"]
    rows = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    Path("plain.csv").write_text("\n".join(rows))
    assert lines(run("evaluate", "ranking", "plain.csv", "--json"))[0]["subsets"] == named


def test_without_methods_there_is_one_figure(meter: Lightmeter, here: Path) -> None:
    for name, value in (("one", 60), ("two", 160)):
        flat(Path(f"{name}.png"), value)
    Path("plain.csv").write_text("file,mos,scene\none.png,1,s\ntwo.png,2,s\n")
    assert set(lines(run("evaluate", "ranking", "plain.csv", "--json"))[0]["subsets"]) == {"overall"}


@pytest.fixture
def comparisons(here: Path) -> Path:
    """Right, right, wrong, right (a tie), and one that cannot be read."""
    rows = [(200, 100, "Image A"), (50, 150, "Image B"), (120, 60, "Image B"), (90, 91, "Similar"), (5, 3, "Image A")]
    said = []
    for i, (a, b, result) in enumerate(rows):
        for name, value in (("low", 80), ("a", a), ("b", b)):
            flat(Path(f"{i}-{name}.png"), value)
        said.append({"ref_image": f"{i}-low.png", "ImageA": f"{i}-a.png", "ImageB": f"{i}-b.png", "result": result})
    Path("comparison.json").write_text(json.dumps(said))
    return Path("comparison.json")


def test_comparison_labels(meter: Lightmeter, comparisons: Path) -> None:
    meter.capabilities = frozenset({"score", "compare"})
    found = lines(run("evaluate", "ranking", comparisons, "-o", "out", "--json"))[0]
    counted = found["comparison"]
    assert (counted["pairs"], counted["accuracy"], counted["unparsed"]) == (5, 0.6, 1)
    assert counted["by_truth"] == {"A": 0.5, "B": 0.5, "similar": 1.0} and counted["confusion"]["A"]["unparsed"] == 1
    assert found["position_bias_pairs"] == 4 and Path("out/confusion.png").exists()
    by_score = lines(run("evaluate", "ranking", comparisons, "--by", "score", "--json"))[0]
    assert by_score["comparison"]["accuracy"] == 0.6, "the last pair is too near"


def test_a_broken_image_loses_its_pair_only(meter: Lightmeter, comparisons: Path) -> None:
    meter.capabilities = frozenset({"score", "compare"})
    Path("1-b.png").write_bytes(b"no image")
    result = run("evaluate", "ranking", comparisons, "-o", "out")
    assert result.exit_code == 1 and "1-b.png" in result.stderr
    assert summary("out")["failed"] == 1 and summary("out")["comparison"]["pairs"] == 4


def test_a_batch_that_fails_is_asked_pair_by_pair(
    meter: Lightmeter, comparisons: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter.capabilities = frozenset({"score", "compare"})
    compare = meter.compare

    def fragile(a: Sequence[Tensor], b: Sequence[Tensor], reference: object = None) -> list[Preference | Unparsed]:
        if any(abs(float(image.mean()) - 50 / 255) < 1e-3 for image in a):
            raise RuntimeError("out of memory")
        return compare(a, b)

    monkeypatch.setattr(meter, "compare", fragile)
    assert run("evaluate", "ranking", comparisons, "-o", "out").exit_code == 1
    assert summary("out")["comparison"]["pairs"] == 4
