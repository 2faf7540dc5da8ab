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
    assert {chunk.half for chunk in cut(None, 34, 4, 100, half=1)} == {1}


def test_what_is_present_is_learned_on_other_photographs_than_what_helps() -> None:
    readers = [lambda i=i: np.full((8, 8, 3), i, np.uint8) for i in range(5)]
    first, second = share_of(readers, 0), share_of(readers, 1)
    assert [int(read()[0, 0, 0]) for read in (*first, *second)] == [0, 2, 4, 1, 3]
    assert share_of(readers, None) == readers and share_of(readers[:1], 1) == readers[:1]


def test_it_writes_evidence_that_restore_uses(photo: Path, clean: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Path("clean").mkdir()
    Image.fromarray(clean).save("clean/a.png")
    small = ["--looks", 24, "--count", 16, "--held-out-count", 8, "--side", 96]
    result = run("train", "judge", "--photos", "clean", "--held-out", "clean", *small, "-o", "judge.json", "--json")
    assert result.exit_code == 0, result.stderr
    rows = lines(result)
    assert {"treatment", "agreement", "pairs"} == set(rows[0]) and all(0 <= row["agreement"] <= 1 for row in rows)
    evidence = load_evidence(Path("judge.json"))
    assert evidence.critic == "scripted" and evidence.verdict and evidence.origin["looks"] == 24
    again = run("train", "judge", "--photos", "clean", *small[:4], "--side", 96, "-o", "again.json")
    assert again.exit_code == 0
    assert json.loads(Path("again.json").read_text()) == json.loads(Path("judge.json").read_text())
    restored = run("restore", photo, "--judge", "judge.json", "--trace", "t.json", "--json")
    assert restored.exit_code in (0, 3)
    assert json.loads(Path("t.json").read_text())["critic"]["evidence"] == evidence.name
    assert run("train", "judge", "-o", "judge.json").exit_code != 0
