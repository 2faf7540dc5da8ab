"""Label files as they are published, and what is said of those that are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iqloop.critic.labels import Degraded, Format, Rated, detect, read_comparisons, read_degradations, read_ratings
from iqloop.errors import UsageError

DEQA = {
    "id": "10004473376.jpg->70.2",
    "image": "KONIQ/images/10004473376.jpg",
    "gt_score": 70.2,
    "gt_score_norm": 3.79,
    "level_probs": [0.1, 0.5, 0.3, 0.1, 0.0],
    "std": 14.5,
    "std_norm": 0.61,
}
CONVERSATION = {
    "id": 1,
    "dataset_name": "KADID-10K",
    "image": ["I01_01_01.png"],
    "conversations": [{"from": "human", "value": "rate it"}, {"from": "gpt", "value": 4.6336}],
}
COMPARISON = {"ref_image": "Original/1.png", "ImageA": "01/1_01.png", "ImageB": "02/1_02.png", "result": "Image B"}


def written(folder: Path, text: str | list[Any], name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_deqa(tmp_path: Path) -> None:
    found = read_ratings(written(tmp_path, [DEQA]))
    assert (found.format, found.scale) == ("deqa", (1.0, 5.0))
    assert found.rows == (Rated("KONIQ/images/10004473376.jpg", 3.79, 1, 0.61, group="KONIQ"),)
    plain = read_ratings(written(tmp_path, [DEQA]), column="gt_score")
    assert (plain.scale, plain.rows[0].mos, plain.rows[0].std) == (None, 70.2, 14.5)
    test_row = {"image": "1.jpg", "gt_score": 3.5}
    assert read_ratings(written(tmp_path, [test_row])).rows == (Rated("1.jpg", 3.5, 1),)


def test_r1_lines(tmp_path: Path) -> None:
    text = json.dumps(CONVERSATION) + "\n\n" + json.dumps({**CONVERSATION, "image": "2.png"}) + "\n"
    found = read_ratings(written(tmp_path, text))
    assert (found.format, found.scale) == ("r1-jsonl", (1.0, 5.0))
    assert found.rows[0] == Rated("I01_01_01.png", 4.6336, 1, group="KADID-10K")
    assert (found.rows[1].image, found.rows[1].row) == ("2.png", 3), "the number of the line"


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("I01.png I01_01_01.png 4.57 0.65", Rated("I01_01_01.png", 4.57, 1, 0.65, "I01.png")),
        ("10004473376.jpg 3.91 0.55", Rated("10004473376.jpg", 3.91, 1, 0.55)),
        ("DatabaseImage0001.JPG 47.5", Rated("DatabaseImage0001.JPG", 47.5, 1)),
        ("Original/1.png SwinIR/1.png 52.1", Rated("SwinIR/1.png", 52.1, 1, None, "Original/1.png")),
    ],
)
def test_r1_text(tmp_path: Path, line: str, row: Rated) -> None:
    """KADID, KonIQ, BID and SRIQA."""
    found = read_ratings(written(tmp_path, line + "\n"))
    assert (found.format, found.scale, found.rows) == ("r1-text", None, (row,))


def test_csv(tmp_path: Path) -> None:
    text = "file,mos,std,mos_1_5\nclive/101.jpg,66.4,20.2,3.83\n\n"
    found = read_ratings(written(tmp_path, text))
    assert found.scale == (1.0, 5.0)
    assert found.rows == (Rated("clive/101.jpg", 3.83, 2),), "std is on the scale of mos"
    named = read_ratings(written(tmp_path, text), column="mos")
    assert (named.scale, named.rows[0].mos, named.rows[0].std) == (None, 66.4, 20.2)


def test_csv_with_all_columns(tmp_path: Path) -> None:
    text = '\ufeffImage;MOS;dataset;scene;method;subset;ref\n"a, b.png";3,5;x;s;SwinIR;regression;r.png\n'
    with pytest.raises(UsageError, match=r"row 2: expected a finite number, got '3,5'"):
        read_ratings(written(tmp_path, text))
    (row,) = read_ratings(written(tmp_path, text.replace("3,5", "3.5"))).rows
    assert row == Rated("a, b.png", 3.5, 2, None, "r.png", "x", "s", "SwinIR", "regression")


def test_published_tables_of_distortions(tmp_path: Path) -> None:
    text = "dis_img_path,dis_type,ref_img_path,score\nCSIQ/AWGN/1600.png,AWGN,CSIQ/1600.png,0.06\n"
    found = read_ratings(written(tmp_path, text))
    assert found.rows == (Rated("CSIQ/AWGN/1600.png", 0.06, 2, None, "CSIQ/1600.png", "AWGN"),)


def test_degradations(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "distortion_class": "noise", "severity": "slight"},
        {"image": "b.png", "distortion_class": None, "severity": None},
        {"image": "c.png", "distortion_class": "null", "severity": "null"},
        {"image": "d.png", "distortion_class": "null"},
    ]
    found = read_degradations(written(tmp_path, rows))
    assert found[0] == Degraded("a.png", "noise", "slight", 1)
    assert {(one.distortion_class, one.severity) for one in found[1:]} == {("null", "null")}
    lines = "\n".join(json.dumps(row) for row in rows)
    assert read_degradations(written(tmp_path, lines)) == found


def test_comparisons(tmp_path: Path) -> None:
    rows: list[Any] = [COMPARISON, {**COMPARISON, "result": "Similar"}, {**COMPARISON, "result": "Image A"}]
    found = read_comparisons(written(tmp_path, [*rows, {**COMPARISON, "ref_image": None}]))
    assert [one.result for one in found] == ["B", "similar", "A", "B"]
    assert [one.reference for one in found] == ["Original/1.png"] * 3 + [None]
    assert (found[0].a, found[0].b, found[0].row) == ("01/1_01.png", "02/1_02.png", 1)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("[" + json.dumps(DEQA) + "]", "deqa"),
        (json.dumps(CONVERSATION), "r1-jsonl"),
        ("[" + json.dumps(COMPARISON) + "]", "comparison"),
        ('[{"image": "a", "distortion_class": null, "severity": null}]', "degradation"),
        ("file,mos\na.png,3\n", "csv"),
        ("file\tmos\na.png\t3\n", "csv"),
        ("file mos\na.png 3\n", "csv"),
        ("a.png 3\n", "r1-text"),
    ],
)
def test_the_format_is_in_the_content(tmp_path: Path, text: str, format: Format) -> None:
    assert detect(written(tmp_path, text, "labels")) == format


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected labels, got an empty file"),
        ("[]", "got an empty list"),
        ("[1]", "row 1: expected a JSON object, got 1"),
        ("[{", "expected JSON, which this is not"),
        ('{"image": "a",\n"gt_score": 3}', "row 1: expected JSON"),
        ('[{"image": "a"}]', "row 1: expected one of the keys ImageA and ImageB, .* got the keys image"),
        ('[{"gt_score": 3}]', "row 1: expected the name of an image under 'image', got None"),
        ('[{"image": "a", "gt_score": "good"}]', "row 1: expected a finite number, got 'good'"),
        ('[{"image": "a", "gt_score": NaN}]', "row 1: expected a finite number, got nan"),
        ('[{"image": "a", "gt_score": true}]', "row 1: expected a finite number, got True"),
        ('[{"image": "a", "gt_score": 1}, {"image": "b"}]', "row 2: expected the key 'gt_score'"),
        ('[{"image": ["a", "b"], "conversations": []}]', "row 1: expected the name of one image"),
        ('[{"image": "a", "conversations": []}]', "row 1: expected a turn of 'gpt'"),
        ("a,b\n1,2\n", "row 1: expected the columns file .*, got a, b"),
        ("file,mos\n", "row 2: expected a row for each image, got none"),
        ("file,mos\na.png\n", "row 2: expected 2 cells as in the header, got 1"),
        ("file,mos\na.png,\n", "row 2: expected a finite number, got ''"),
        ("file,mos\n,3\n", "row 2: expected the name of an image"),
        ("a.png 3\nb.png x\n", r"row 2: expected '\[reference\] image score \[std\]', got 'b.png x'"),
        ("hello\n", "row 1: expected JSON, a CSV"),
        ("[" + json.dumps(COMPARISON) + "]", "expected mean opinions .*, got comparison labels"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        read_ratings(path)
    assert str(caught.value).startswith(str(path))


def test_what_is_wrong_with_other_labels(tmp_path: Path) -> None:
    row = {"image": "a", "distortion_class": "haze", "severity": "slight"}
    with pytest.raises(UsageError, match=r"row 1: expected a distortion_class of noise, .* got 'haze'"):
        read_degradations(written(tmp_path, [row]))
    with pytest.raises(UsageError, match=r"row 1: expected a severity of slight, .* got None"):
        read_degradations(written(tmp_path, [{**row, "distortion_class": "blur", "severity": None}]))
    with pytest.raises(UsageError, match="row 1: expected the severity null"):
        read_degradations(written(tmp_path, [{**row, "distortion_class": None}]))
    with pytest.raises(UsageError, match=r"row 1: expected the result 'Image A'.* got 'C'"):
        read_comparisons(written(tmp_path, [{**COMPARISON, "result": "C"}]))
    with pytest.raises(UsageError, match=r"row 1: .* under 'ref_image', got 3"):
        read_comparisons(written(tmp_path, [{**COMPARISON, "ref_image": 3}]))
    with pytest.raises(UsageError, match=r"expected comparison labels .* got the format degradation"):
        read_comparisons(written(tmp_path, [row]))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv: cannot be read"):
        read_ratings(tmp_path / "nowhere.csv")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="expected a text file of labels"):
        detect(tmp_path / "photo.png")


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    path = written(tmp_path, "file mos\n")
    with pytest.raises(UsageError, match="row 1: expected"):
        read_ratings(path, "r1-text")
    with pytest.raises(UsageError, match="no named columns"):
        read_ratings(written(tmp_path, "a.png 3\n"), column="mos")
