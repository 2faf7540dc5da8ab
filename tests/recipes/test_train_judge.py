"""iqloop train judge, with a scripted critic, and with the package's in two processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iqloop.agents.evidence import load_evidence
from iqloop.recipes.train.judge_chunks import Chunk, cut, share_of

from .helpers import ScriptedCritic, lines, run


def test_chunks_hold_every_crop_and_their_seeds_do_not_depend_on_how_many_there_are() -> None:
    chunks = cut(None, 34, 4, 100)
    assert [chunk.count for chunk in chunks] == [9, 9, 8, 8]
    assert [chunk.seed for chunk in chunks] == [100, 101, 102, 103]
    assert cut(None, 1, 4, 7) == [Chunk(None, 1, 7)] and len(cut(None, 20, 16, 0)) == 2
    assert {chunk.share for chunk in cut(None, 34, 4, 100, share=(1, 2))} == {(1, 2)}


def test_what_is_present_is_learned_on_other_photographs_than_what_helps() -> None:
    readers = [lambda i=i: np.full((8, 8, 3), i, np.uint8) for i in range(5)]
    shares = [[int(read()[0, 0, 0]) for read in share_of(readers, first, 2)] for first in range(2)]
    assert shares == [[0, 2, 4], [1, 3]]
    quarters = [[int(read()[0, 0, 0]) for read in share_of(readers, first, 4)] for first in range(4)]
    assert quarters == [[0, 4], [1], [2], [3]], "two quarters make a half"
    assert share_of(readers, 0, 1) == readers and share_of(readers[:3], 1, 4) == readers[:3]


def test_it_writes_evidence_that_restore_uses(photo: Path, clean: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Path("clean").mkdir()
    Image.fromarray(clean).save("clean/a.png")
    small = ["--glances", 64, "--looks", 24, "--count", 16, "--held-out-count", 8, "--side", 96]
    result = run(
        "train",
        "judge",
        "--photos",
        "clean",
        "--held-out",
        "clean",
        *small,
        "--pairs",
        "pairs.jsonl",
        "-o",
        "judge.json",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    rows = lines(result)
    assert {"treatment", "agreement", "at_even_odds", "pairs"} == set(rows[0])
    assert all(0 <= row[share] <= 1 for row in rows for share in ("agreement", "at_even_odds"))
    evidence = load_evidence(Path("judge.json"))
    assert evidence.critic == "scripted" and evidence.verdict and evidence.origin["looks"] == 24
    assert evidence.origin["glances"] == 64 and evidence.traces
    pairs = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert sum(not pair["held_out"] for pair in pairs) == evidence.origin["pairs"] < len(pairs)
    assert all(pair["chance"] is None or 0 <= pair["chance"] <= 1 for pair in pairs)
    again = run("train", "judge", "--photos", "clean", *small[:6], "--side", 96, "-o", "again.json")
    assert again.exit_code == 0
    assert json.loads(Path("again.json").read_text()) == json.loads(Path("judge.json").read_text())
    restored = run("restore", photo, "--judge", "judge.json", "--trace", "t.json", "--json")
    assert restored.exit_code in (0, 3)
    assert json.loads(Path("t.json").read_text())["critic"]["evidence"] == evidence.name
    assert run("train", "judge", "-o", "judge.json").exit_code != 0
