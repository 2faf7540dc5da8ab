"""Training data: label files as questions, and what happens to bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from iqloop.critic.training.examples import balanced, read_distorted, read_pairs, read_scores, readable
from iqloop.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        Image.new("RGB", (40, 30), (60 * i, 90, 20)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_scores_on_another_scale_are_stretched(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,mos\n0.png,20\n1.png,60\n2.png,100\n")
    examples = read_scores(folder / "labels.csv")
    assert [example.opinion for example in examples] == [1, 3, 5]
    assert examples[0].images == (folder / "0.png",)


def test_each_data_set_of_a_file_has_its_own_scale(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,mos,dataset\n0.png,0,x\n1.png,9,x\n2.png,40,y\n3.png,80,y\n")
    examples = read_scores(folder / "labels.csv")
    assert [(example.dataset, example.opinion) for example in examples] == [("x", 1), ("x", 5), ("y", 1), ("y", 5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,mos_1_5\n0.png,5.5\n", r"row 2: expected an opinion in \[1, 5\], got 5.5"),
        ("file,mos\n0.png,3\n1.png,3\n", "expected opinions that differ, got 3"),
        ("file,rank\n0.png,3\n", "expected the columns file"),
        ("", "empty file"),
    ],
)
def test_a_bad_label_file_is_one_clear_error(folder: Path, text: str, expected: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=expected):
        read_scores(folder / "labels.csv")


def test_degradations_with_null_as_word_and_as_null(folder: Path) -> None:
    rows = [
        {"image": "0.png", "distortion_class": "blur", "severity": "slight"},
        {"image": "1.png", "distortion_class": None, "severity": None},
        {"image": "2.png", "distortion_class": "null", "severity": "null"},
    ]
    (folder / "d.json").write_text(json.dumps(rows))
    examples = read_distorted(folder / "d.json")
    said = [(example.distortion_class, example.severity) for example in examples]
    assert said == [("blur", "slight"), ("null", "null"), ("null", "null")]


def test_pairs_are_turned_every_second_time(folder: Path) -> None:
    row = {"ref_image": "0.png", "ImageA": "1.png", "ImageB": "2.png", "result": "Image A"}
    (folder / "c.json").write_text(json.dumps([row, row, {**row, "result": "Similar"}, {**row, "result": "Similar"}]))
    examples = balanced(read_pairs(folder / "c.json"))
    assert [example.choice for example in examples] == ["A", "B", "similar", "similar"]
    assert [[path.name for path in example.images] for example in examples[:2]] == [
        ["0.png", "1.png", "2.png"],
        ["0.png", "2.png", "1.png"],
    ]
    assert {example.task for example in examples} == {"compare-reference"}


def test_similar_needs_a_reference(folder: Path) -> None:
    (folder / "c.json").write_text(json.dumps([{"ImageA": "1.png", "ImageB": "2.png", "result": "Similar"}]))
    with pytest.raises(UsageError, match="row 1: the question without a reference"):
        read_pairs(folder / "c.json")


@pytest.mark.parametrize("damage", ["missing", "text", "cut"])
def test_an_image_that_cannot_be_read_is_an_error_or_left_out(folder: Path, damage: str) -> None:
    (folder / "labels.csv").write_text("file,mos_1_5\n0.png,1\nbad.jpg,2\n2.png,3\n")
    bad = folder / "bad.jpg"
    if damage == "text":
        bad.write_text("no image")
    if damage == "cut":
        Image.effect_noise((200, 200), 60).convert("RGB").save(bad)
        bad.write_bytes(bad.read_bytes()[:4000])
    examples = read_scores(folder / "labels.csv")
    with pytest.raises(UsageError, match=r"bad\.jpg.*--missing skip"):
        readable(examples, "error", print)
    said: list[str] = []
    kept = readable(examples, "skip", said.append)
    assert [example.opinion for example in kept] == [1, 3]  # no other image under the label 2
    assert said[0].startswith("left out 1 of 3 rows")


def test_nothing_left_is_an_error(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,mos_1_5\nnone.png,1\n")
    with pytest.raises(UsageError, match="nothing to train on"):
        readable(read_scores(folder / "labels.csv"), "skip", lambda _: None)
