"""`evaluate comparison`: figures that a scripted critic makes predictable, kept and resumed."""

from __future__ import annotations

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
from iqloop.critic.training.crops import load_photographs
from iqloop.critic.verdicts import Choice, Preference, Unparsed
from iqloop.recipes.evaluate.comparison import made

from .helpers import ScriptedCritic, lines, run

Photograph = Callable[..., NDArray[np.uint8]]

COMMAND = ("evaluate", "comparison", "--photos", "photos", "--side", 64)
MIRRORED: dict[Choice, Choice] = {"A": "B", "B": "A", "similar": "similar"}


class Knowing(ScriptedCritic):
    """Knows the severities, and prefers what is not the input; favours what is shown first a little."""

    fails: bool = False
    truth: dict[bytes, Choice]

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        assert reference is not None
        self.batches.append(len(a))
        if self.fails and len(a) == 1:
            raise RuntimeError("out of memory")
        if self.fails and len(self.batches) == 1:
            raise RuntimeError("too many")
        return [self._one(*row) for row in zip(a, b, reference, strict=True)]

    def _one(self, a: Tensor, b: Tensor, reference: Tensor) -> Preference | Unparsed:
        assert a.shape == b.shape == reference.shape == (3, 64, 64) and 0 <= float(a.min()) <= float(a.max()) <= 1
        if self.unparsed:
            return Unparsed("hm", "expected A or B")
        guess: Choice = "B" if torch.equal(a, reference) else "A" if torch.equal(b, reference) else "similar"
        choice = self.truth.get(shown(*((image * 255).round().byte().numpy() for image in (a, b))), guess)
        said = [f"<think> </think><answer> {_WORDS[one]} </answer>" for one in (choice, MIRRORED[choice])]
        return Preference(choice, 0.5, raw=(said[0], said[1]), position_bias=0.125)


_WORDS: dict[Choice, str] = {"A": "Image A", "B": "Image B", "similar": "Similar"}


def shown(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bytes:
    """What a pair is known by; ``(3, 64, 64)`` uint8."""
    return a.tobytes() + b.tobytes()


@pytest.fixture
def photos(here: Path, photograph: Photograph) -> Path:
    Path("photos").mkdir()
    for name in ("astronaut", "chelsea"):
        Image.fromarray(photograph(name, 120)).save(f"photos/{name}.png")
    return Path("photos")


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch, photos: Path) -> Knowing:
    critic = Knowing(torch.zeros(3, 8, 8), capabilities=frozenset({"score", "compare"}))
    pairs = made(load_photographs(photos), ["severity"], 8, 64, seed=0, finished={})
    critic.truth = {shown(pair.a.transpose(2, 0, 1), pair.b.transpose(2, 0, 1)): pair.choice for _, pair in pairs}
    monkeypatch.setattr(known, "create_critic", lambda name, **options: critic)
    return critic


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text())
    return found


def kept(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "predictions.jsonl").read_text().splitlines()]


def test_pairs_are_made_and_counted(knowing: Knowing, photos: Path) -> None:
    result = run(*COMMAND, "--count", 8, "-o", "out", "--json")
    assert result.exit_code == 0, result.output
    (found,) = lines(result)
    assert found == summary("out") and found["photographs"] == 2 and found["failed"] == 0
    assert found["severity"]["pairs"] == found["tools"]["pairs"] == 8
    assert found["severity"]["accuracy"] == 1, "it knows them all"
    assert found["position_bias"] == 0.125 and found["position_bias_pairs"] == 16 and found["thurstone"] == 0
    assert found["order_agreement"] == 1
    rows = kept("out")
    assert [row["key"] for row in rows] == [f"{kind}/{i:05d}" for kind in ("severity", "tools") for i in range(8)]
    clear = [row["said"] == row["truth"] for row in rows if row["kind"] == "tools" and abs(row["difference"]) > 0.5]
    assert found["tools"]["clear"] == len(clear)
    assert found["tools"]["agreement"] == (sum(clear) / len(clear) if clear else None)
    assert {path.name for path in Path("out").iterdir()} == {"config.json", "predictions.jsonl", "summary.json"}


def test_one_kind_is_said_to_people(knowing: Knowing, photos: Path) -> None:
    text = run(*COMMAND, "--count", 4, "--kind", "severity").stdout
    assert text.startswith("severity: accuracy 1.000 of 4 pairs (") and "tools" not in text
    assert "both orders agree 1.000" in text and "position bias +0.125 (mean of 4 pairs)" in text
    text = run(*COMMAND, "--count", 4, "--kind", "tools").stdout
    assert text.startswith("tools: agreement ") and "ties " in text


def test_the_seed_decides_the_pairs(knowing: Knowing, photos: Path) -> None:
    for folder, seed in (("one", 1), ("again", 1), ("other", -2)):
        assert run(*COMMAND, "--count", 3, "--seed", seed, "-o", folder).exit_code == 0
    assert kept("one") == kept("again") != kept("other")


def test_answers_that_cannot_be_read_are_wrong(knowing: Knowing, photos: Path) -> None:
    knowing.unparsed = True
    found = lines(run(*COMMAND, "--count", 4, "--json"))[0]
    assert found["severity"]["unparsed"] == found["tools"]["unparsed"] == 1
    assert found["severity"]["accuracy"] == 0 and found["position_bias"] is None


def test_an_interrupted_run_gives_the_same_figures(knowing: Knowing, photos: Path) -> None:
    arguments = [*COMMAND, "--count", 6, "-o", "out"]
    assert run(*arguments, "--batch-size", 4).exit_code == 0
    assert knowing.batches == [4, 4, 4]
    whole = summary("out")
    path = Path("out/predictions.jsonl")
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:5]) + rows[5][:20])
    Path("out/summary.json").unlink()
    knowing.batches.clear()
    assert run(*arguments).exit_code == 2, "not without --resume"
    assert run(*arguments, "--resume").exit_code == 0
    assert summary("out") == whole and path.read_bytes() == b"".join(rows)
    assert sum(knowing.batches) == 7, "what was answered is not asked again"
    assert run(*arguments, "--side", 80, "--resume").exit_code == 2, "another run"


def test_a_pair_that_fails_is_lost_alone(knowing: Knowing, photos: Path) -> None:
    knowing.fails = True
    result = run(*COMMAND, "--count", 5, "--kind", "severity", "--batch-size", 3, "-o", "out")
    assert result.exit_code == 1 and "severity/00002" in result.stderr and "severity/00003" not in result.stderr
    assert summary("out")["failed"] == 3 and summary("out")["severity"]["pairs"] == 2
    assert knowing.batches == [3, 1, 1, 1, 2]
    knowing.fails = False
    assert run(*COMMAND, "--count", 5, "--kind", "severity", "-o", "out", "--resume").exit_code == 0
    assert summary("out")["failed"] == 0 and summary("out")["severity"]["pairs"] == 5, "asked about again"


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_photographs(knowing: Knowing, here: Path, there: bool) -> None:
    if there:
        Path("empty").mkdir()
        Path("empty/notes.txt").write_text("no image")
    result = run(*COMMAND, "--photos", "empty")
    assert result.exit_code == 2 and "empty" in result.stderr and len(result.stderr.splitlines()) == 1


def test_two_scores_stand_in_for_a_comparison(critic: ScriptedCritic, photos: Path) -> None:
    """Nothing was shown side by side, so there are no orders and no bias."""
    found = lines(run(*COMMAND, "--count", 3, "-o", "out", "--json"))[0]
    assert found["thurstone"] == 1 and found["position_bias"] is None and found["order_agreement"] is None
    assert sum(critic.batches) == 2 * 6
    assert {row["method"] for row in kept("out")} == {"thurstone"}
    assert "by two scores instead of a comparison: 100.0%" in run(*COMMAND, "--count", 3).stdout


def test_the_embedded_critic_tells_severities_apart(here: Path, photograph: Photograph) -> None:
    """At the size of the pairs that it learned on; on smaller ones it mostly sees no difference."""
    Path("large").mkdir()
    for name in ("astronaut", "chelsea"):
        Image.fromarray(photograph(name, 240)).save(f"large/{name}.png")
    asked = ("evaluate", "comparison", "--photos", "large", "--side", 168, "--count", 8, "--kind", "severity")
    found = lines(run(*asked, "--device", "cpu", "--json"))[0]
    assert found["critic"] == "qinsight-mini" and found["severity"]["unparsed"] == 0
    assert found["severity"]["accuracy"] > 0.5 and found["severity"]["likelier"] > 0.5
