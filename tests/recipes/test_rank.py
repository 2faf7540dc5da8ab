"""rank: order, groups, what is kept and resumed, and the contact sheet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqloop.critic import known
from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import Preference, Rating, Unparsed
from iqloop.recipes.rank.chart import MARGIN, Scale, whisker
from iqloop.recipes.rank.groups import Group, find_groups
from iqloop.recipes.rank.page import draw_page
from iqloop.recipes.rank.result import Place, Result, from_document

from .helpers import ScriptedCritic, lines, run
from .test_report import Page

FIELDS = ("path", "rank", "strength", "error", "standard_error", "score", "group", "comparisons")
WORDS = "</blockquote><script>alert(1)</script>Image A has <b>less</b> noise."


@dataclass
class Referee(ScriptedCritic):
    """Compares as well, in words that are markup, and remembers the sizes of what it was shown."""

    capabilities: frozenset[Capability] = frozenset({"score", "perceive", "compare"})
    shown: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    """Of each pair the sizes of a and b, and of the reference if there was one."""
    method: Any = "comparison"
    doubt: float = 1.0
    """Deviation of its scores: so large that any two are near ties."""

    def score(self, images: Any) -> list[Rating | Unparsed]:
        return [one if isinstance(one, Unparsed) else replace(one, std=self.doubt) for one in super().score(images)]

    def compare(self, a: Any, b: Any, reference: Any = None) -> list[Preference | Unparsed]:
        for row in zip(a, b, strict=True) if reference is None else zip(a, b, reference, strict=True):
            self.shown.append(tuple(tuple(image.shape[-2:]) for image in row))
        found = super().compare(a, b, reference)
        return [
            one
            if isinstance(one, Unparsed)
            else Preference(one.choice, one.probability, WORDS, ("A", "B"), self.method, position_bias=0.02)
            for one in found
        ]


@pytest.fixture
def referee(
    clean: NDArray[np.uint8], as_tensor: Callable[[NDArray[np.uint8]], Tensor], monkeypatch: pytest.MonkeyPatch
) -> Referee:
    scripted = Referee(as_tensor(clean))
    monkeypatch.setattr(known, "create_critic", lambda name, **options: scripted)
    return scripted


@pytest.fixture
def noised(here: Path, clean: NDArray[np.uint8]) -> Callable[..., str]:
    """``noised("a.png", 10)`` saves the clean photograph with that much noise, perhaps of another size."""

    def make(name: str, noise: float, size: tuple[int, int] | None = None) -> str:
        grain = np.random.default_rng(0).normal(0, noise, clean.shape)
        image = Image.fromarray(np.clip(clean + grain, 0, 255).astype(np.uint8))
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        (image if size is None else image.resize(size)).save(name)
        return name

    return make


@pytest.fixture
def three(noised: Callable[..., str]) -> list[str]:
    """Worst, best, middle."""
    return [noised("worst.png", 40), noised("best.png", 4), noised("middle.png", 15)]


@pytest.fixture
def folders(noised: Callable[..., str]) -> list[str]:
    """Three folders below ``in`` with two images each, of which ``b.png`` is better."""
    names = ["in/one", "in/two", "in/three"]
    for number, name in enumerate(names):
        noised(f"{name}/a.png", 20 + number)
        noised(f"{name}/b.png", 5 + number)
    return names


def order(*arguments: object) -> list[str]:
    return [row["path"] for row in lines(run("rank", *arguments, "--json"))]


def kept(path: str = "out.jsonl") -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# -- one group ---------------------------------------------------------------------------------------------------------


def test_fields_and_top(three: list[str], critic: ScriptedCritic) -> None:
    rows = lines(run("rank", *three, "--json"))
    assert [tuple(row) for row in rows] == [FIELDS] * 3
    assert [(row["path"], row["rank"]) for row in rows] == [("best.png", 1), ("middle.png", 2), ("worst.png", 3)]
    assert all(row["score"] == row["strength"] and row["standard_error"] == 0.05 for row in rows)
    assert order(*three, "--top", 1) == ["best.png"]
    critic.lower_better = True
    assert order(*three) == ["worst.png", "middle.png", "best.png"]


@pytest.mark.parametrize("by", ["comparison", "hybrid"])
def test_order_by_comparison(three: list[str], referee: Referee, by: str) -> None:
    result = run("rank", *three, "--by", by, "--json")
    assert result.exit_code == 0
    rows = lines(result)
    assert [(row["path"], row["rank"]) for row in rows] == [("best.png", 1), ("middle.png", 2), ("worst.png", 3)]
    assert abs(sum(row["strength"] for row in rows)) < 1e-6 and all(row["standard_error"] > 0 for row in rows)
    assert sum(row["comparisons"] for row in rows) == 2 * len(referee.shown) > 0
    assert [row["score"] is None for row in rows] == [by == "comparison"] * 3


def test_table_and_what_it_stands_on(three: list[str], referee: Referee) -> None:
    result = run("rank", *three, "--by", "comparison")
    head, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert head == ["rank", "strength", "±", "score", "path"]
    assert [(row[0], row[3], row[4]) for row in rows] == [
        ("1", "-", "best.png"),
        ("2", "-", "middle.png"),
        ("3", "-", "worst.png"),
    ]
    assert f"{len(referee.shown)} comparisons in both orders, position bias +0.020" in result.stderr
    assert "0 unparsed" in result.stderr
    assert run("rank", *three, "--quiet").stderr == ""


def test_how_it_is_ranked_unless_told(three: list[str], referee: Referee) -> None:
    assert "by hybrid: the critic scripted compares" in run("rank", *three).stderr
    referee.capabilities = frozenset({"score"})
    for given in ([], ["--by", "hybrid"]):
        result = run("rank", *three, *given)
        assert result.exit_code == 0 and "by score: the critic scripted cannot compare" in result.stderr
    assert run("rank", *three, "--by", "score").stderr == ""
    refused = run("rank", *three, "--by", "comparison")
    assert refused.exit_code == 2 and "cannot compare" in refused.stderr and "--critic" in refused.stderr


def test_comparisons_of_two_scores_tell_nothing(three: list[str], referee: Referee) -> None:
    referee.method = "thurstone"
    result = run("rank", *three, "-o", "out.jsonl", "--json")
    assert [row["path"] for row in lines(result)] == ["best.png", "middle.png", "worst.png"]
    assert kept()[0]["by"] == "score" and kept()[0]["note"] in result.stderr
    assert run("rank", *three, "--by", "comparison").exit_code == 2


def test_scores_that_leave_nothing_open(three: list[str], referee: Referee) -> None:
    referee.doubt = 0.001
    result = run("rank", *three)
    assert referee.shown == [] and "by hybrid, no comparisons" in result.stderr


def test_comparisons_are_limited(three: list[str], referee: Referee) -> None:
    run("rank", *three, "--by", "comparison", "--max-comparisons", 1)
    assert len(referee.shown) == 1


def test_best_of_n_by_knockout(noised: Callable[..., str], referee: Referee) -> None:
    names = [noised(f"{noise}.png", noise) for noise in (30, 5, 20, 10, 25)]
    (row,) = lines(run("rank", *names, "--by", "comparison", "--top", 1, "--json"))
    assert row["path"] == "5.png" and len(referee.shown) == 4


def test_mixed_sizes_and_formats(noised: Callable[..., str], referee: Referee) -> None:
    names = [noised("a.bmp", 30), noised("b.webp", 5, (160, 160)), noised("c.jpg", 15, (64, 64))]
    reference = noised("lq.tif", 30, (48, 48))
    assert set(order(*names, "--by", "comparison", "--reference", reference)) == set(names)
    assert referee.shown and all(len(set(sizes)) == 1 and len(sizes) == 3 for sizes in referee.shown)


def test_bad_files_are_named_and_the_others_ranked(three: list[str], referee: Referee) -> None:
    Path("text.png").write_text("not an image")
    for by in ("score", "comparison"):
        result = run("rank", "missing.png", *three, "text.png", "--by", by, "--json")
        assert result.exit_code == 1
        rows = lines(result)
        assert [row["rank"] for row in rows] == [1, 2, 3, None, None]
        assert [row["path"] for row in rows if row["error"]] == ["missing.png", "text.png"]
        assert "missing.png: no such file" in result.stderr and "text.png: " in result.stderr


@pytest.mark.parametrize("by", ["score", "comparison"])
def test_nothing_readable(here: Path, referee: Referee, by: str) -> None:
    result = run("rank", "a.png", "b.png", "--by", by, "--html", "page.html", "--json")
    assert result.exit_code == 1 and [row["rank"] for row in lines(result)] == [None, None]
    assert "none could be ranked" in read_page("page.html").text or "Not ranked" in read_page("page.html").text


@pytest.mark.parametrize("by", ["score", "comparison"])
def test_one_image_is_first(photo: Path, referee: Referee, by: str) -> None:
    result = run("rank", photo, "--by", by, "--json")
    assert result.exit_code == 0 and [row["rank"] for row in lines(result)] == [1]
    assert ("nothing to tell it from" in result.stderr) == (by == "comparison")
    assert run("rank").exit_code == 2


@pytest.mark.parametrize("by", ["score", "comparison"])
def test_copies_share_a_rank(three: list[str], referee: Referee, by: str) -> None:
    Path("again.png").write_bytes(Path("best.png").read_bytes())
    Image.open("best.png").save("same pixels.bmp")
    result = run("rank", *three, "again.png", "same pixels.bmp", "--by", by, "--json")
    ranks = {row["path"]: row["rank"] for row in lines(result)}
    assert ranks == {"best.png": 1, "again.png": 1, "same pixels.bmp": 1, "middle.png": 4, "worst.png": 5}
    for copy in ("again.png", "same pixels.bmp"):
        assert f"{copy} is a copy of best.png and shares its rank" in result.stderr
    assert sum(referee.batches) == (3 if by == "score" else 0), "copies are asked about once"


def test_standard_input_among_files(three: list[str], noised: Callable[..., str], critic: ScriptedCritic) -> None:
    data = Path(noised("stream.png", 1)).read_bytes()
    result = run("rank", *three, "-", "--json", "--html", "page.html", "-o", "out.jsonl", stdin=data)
    assert [row["path"] for row in lines(result)] == ["-", "best.png", "middle.png", "worst.png"]
    assert len(read_page("page.html").all("img")) == 4 and len(kept()[0]["asked"]["images"][0][1]) == 64


def test_unparsed_answers(three: list[str], referee: Referee) -> None:
    referee.unparsed = True
    result = run("rank", *three, "--by", "score", "--json")
    assert result.exit_code == 1 and all("could not be read" in row["error"] for row in lines(result))
    result = run("rank", *three, "--by", "comparison")
    assert f"{len(referee.shown)} unparsed" in result.stderr


def test_reference_that_cannot_be_used(three: list[str], referee: Referee) -> None:
    result = run("rank", *three, "--by", "comparison", "--reference", "gone.png", "--json")
    assert result.exit_code == 1 and [row["path"] for row in lines(result)] == ["gone.png"]
    assert run("rank", *three, "--reference", ".").exit_code == 2
    result = run("rank", *three, "--by", "score", "--reference", "worst.png")
    assert result.exit_code == 0 and "scores take no reference" in result.stderr


def test_a_real_critic_compares(three: list[str], tiny_folder: Path) -> None:
    arguments = ["--critic", tiny_folder, "--device", "cpu", "--critic-option", "max_new_tokens=4"]
    result = run("rank", *three[:2], "--by", "comparison", "-o", "out.jsonl", "--json", *arguments)
    # It has random weights: what it writes is no answer.
    assert result.exit_code == 1 and "1 comparison in both orders, 1 unparsed" in result.stderr
    assert [(row["path"], row["rank"]) for row in lines(result)] == [("worst.png", None), ("best.png", None)]
    (group,) = kept()
    assert (group["comparisons"], group["unparsed"], group["complete"]) == (1, 1, False)


# -- groups ------------------------------------------------------------------------------------------------------------


def test_groups_by_folder(folders: list[str], critic: ScriptedCritic) -> None:
    result = run("rank", "in", "--groups", "folder", "--json", "--top", 1)
    rows = lines(result)
    assert {row["group"]: (row["path"], row["rank"]) for row in rows} == {
        name: (f"{name}/b.png", 1) for name in folders
    }
    shown = run("rank", "in", "--groups", "folder").stdout.splitlines()
    assert shown[0].startswith("group\trank") and len(shown) == 7


def test_groups_of_a_table(noised: Callable[..., str], referee: Referee) -> None:
    for name, noise in (("a", 30), ("b", 5), ("c", 20), ("d", 10), ("lq", 40)):
        noised(f"data/{name}.png", noise)
    Path("data/groups.csv").write_text(
        "File;Group;Reference\na.png;x;lq.png\nb.png;x;\n\nc.png;y;\nd.png;y;\ngone.png;y;\nb.png;x;lq.png\n"
    )
    result = run("rank", "--groups", "data/groups.csv", "--by", "comparison", "--json")
    assert result.exit_code == 1 and "data/gone.png: no such file" in result.stderr
    ranks = [(row["group"], Path(row["path"]).stem, row["rank"]) for row in lines(result)]
    assert ranks == [("x", "b", 1), ("x", "a", 2), ("y", "d", 1), ("y", "c", 2), ("y", "gone", None)]
    assert {len(sizes) for sizes in referee.shown} == {2, 3}, "one group has a reference"
    Path("data/groups.csv").rename("groups.csv")
    assert len(lines(run("rank", "data", "--groups", "groups.csv", "--json"))) == 5
    shared = find_groups([], "groups.csv", "data/lq.png")
    assert [group.reference is not None for group in shared] == [True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,group\na.png,x\n", "row 1: expected the columns file, group"),
        ("file,group\na.png,x,y\n", "row 2: expected 2 cells"),
        ("file,group\na.png,\n", "row 2: expected a file and its group"),
        ("file,group\n", "row 2: expected a row"),
        ("", "row 1: expected the columns"),
        ("file,group,reference\na.png,x,p.png\nb.png,x,q.png\n", "row 3: expected one reference for the group x"),
        ("file,group\na.png,x\xff\n", "expected a CSV, got bytes"),
    ],
)
def test_tables_that_are_wrong(here: Path, critic: ScriptedCritic, text: str, said: str) -> None:
    Path("groups.csv").write_bytes(text.encode("latin-1"))
    result = run("rank", "--groups", "groups.csv")
    assert result.exit_code == 2 and said in result.stderr
    assert run("rank", "a.png", "--groups", "groups.csv").exit_code == 2
    refused = run("rank", "a.png", "--groups", "folders")
    assert refused.exit_code == 2


def test_a_group_that_fails_leaves_the_others(folders: list[str], referee: Referee) -> None:
    Path("groups.csv").write_text("file,group,reference\nin/one/a.png,x,gone.png\nin/two/a.png,y,\nin/two/b.png,y,\n")
    result = run("rank", "--groups", "groups.csv", "--by", "comparison", "--json")
    assert result.exit_code == 1 and "gone.png: no such file" in result.stderr
    assert [row["group"] for row in lines(result) if "group" in row] == ["y", "y"]


# -- what is kept ------------------------------------------------------------------------------------------------------


def interrupt_at(critic: ScriptedCritic, number: int) -> None:
    """Interrupt when so many images were scored."""

    def fault(image: object) -> None:
        if sum(critic.batches) >= number:
            raise KeyboardInterrupt

    critic.fault = fault


def test_interrupted_groups_are_resumed(folders: list[str], critic: ScriptedCritic) -> None:
    interrupt_at(critic, 6)
    arguments = ("rank", "in", "--groups", "folder", "-o", "out.jsonl", "--json")
    assert run(*arguments).exit_code == 130
    done = [group["group"] for group in kept()]
    assert len(done) == 2, "each group is written as it is finished"
    with Path("out.jsonl").open("a") as file:
        file.write('{"group": "in/thr')
    critic.fault, critic.batches = None, []
    assert run(*arguments).exit_code == 2, "an existing file is not written to unasked"
    result = run(*arguments, "--resume")
    assert result.exit_code == 0 and "ranked before: 2 of 3 groups" in result.stderr
    assert sum(critic.batches) == 2
    assert [group["group"] for group in kept()] == [*done, *(set(folders) - set(done))]
    assert len(lines(result)) == 6 and lines(run(*arguments, "--resume")) == lines(result)
    assert run(*arguments, "--overwrite").exit_code == 0 and sum(critic.batches) == 8


def test_what_has_changed_is_ranked_again(
    folders: list[str], noised: Callable[..., str], critic: ScriptedCritic
) -> None:
    arguments = ("rank", "in", "--groups", "folder", "-o", "out.jsonl", "--resume")
    run(*arguments)
    before = kept()
    noised("in/two/a.png", 1)
    result = run(*arguments)
    assert "in/two: ranked again, changed: images" in result.stderr and "2 of 3" in result.stderr
    after = kept()
    assert sorted(group["group"] for group in after) == sorted(folders)
    assert sum(one == other for one, other in zip(before, after, strict=True)) == 2
    critic.version = "2"
    assert run(*arguments).stderr.count("ranked again, changed: critic") == 3
    assert run(*arguments, "--seed", 1).stderr.count("changed: options") == 3
    critic.batches = []
    run("rank", "in/two", "--groups", "folder", "-o", "out.jsonl", "--resume", "--seed", 1)
    assert len(kept()) == 3 and critic.batches == [], "groups that were not asked for stay"
    assert "ranked before: 3 of 3" in run(*arguments, "--seed", 1, "--top", 1).stderr, "by score all is there"


def test_what_the_critic_failed_on_is_asked_again(three: list[str], critic: ScriptedCritic) -> None:
    Path("text.png").write_text("not an image")
    arguments = ("rank", *three, "text.png", "-o", "out.jsonl", "--resume")
    critic.unparsed = True
    assert run(*arguments).exit_code == 1
    critic.unparsed = False
    assert run(*arguments).exit_code == 1 and len(kept()[0]["places"]) == 4
    critic.batches = []
    again = run(*arguments)
    assert again.exit_code == 1 and critic.batches == [] and "text.png: " in again.stderr, "it is as unreadable as ever"


def test_files_that_are_no_journal(three: list[str], critic: ScriptedCritic) -> None:
    assert "--resume goes with -o" in run("rank", *three, "--resume").stderr
    assert run("rank", *three, "-o", ".").exit_code == 2
    for text in ("hello\n", "{}\n", "[1]\n", '{"asked": {}, "places": [], "duels": [], "other": 1}\n'):
        Path("out.jsonl").write_text(text)
        result = run("rank", *three, "-o", "out.jsonl", "--resume")
        assert result.exit_code == 2 and "line 1: expected a group" in result.stderr
        assert Path("out.jsonl").read_text() == text
    for option in ("-o", "--html"):
        result = run("rank", *three, option, "best.png/out")
        assert result.exit_code == 1 and "expected best.png to be a folder" in result.stderr.replace(
            f"{Path.cwd()}/", ""
        )
    assert critic.batches == []
    assert (
        run("rank", *three, "--by", "comparison", "-o", "new.jsonl").exit_code == 2 and not Path("new.jsonl").exists()
    )


# -- the page ----------------------------------------------------------------------------------------------------------


def read_page(path: str) -> Page:
    """The page, checked for what holds for every one: nothing from outside, nothing that runs, ids used once."""
    markup = Path(path).read_text(encoding="utf-8")
    page = Page(markup)
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    for tag, found in page.tags:
        assert "style" not in found and not any(name.startswith("on") for name in found), (tag, found)
        for name in {"src", "href", "srcset", "action", "data"} & set(found):
            inside = found[name][1:] in ids if found[name].startswith("#") else found[name].startswith("data:")
            assert inside, (tag, found[name])
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "base", "form"})
    policy = next(found["content"] for found in page.all("meta") if "http-equiv" in found)
    assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
    return page


def test_page_by_comparison(three: list[str], noised: Callable[..., str], referee: Referee) -> None:
    reference = noised("lq.png", 50, (48, 48))
    Path("text.png").write_text("not an image")
    arguments = ["--by", "comparison", "--reference", reference, "-o", "out.jsonl"]
    run("rank", *three, "text.png", *arguments, "--html", "page.html")
    page = read_page("page.html")
    alts = [found["alt"] for found in page.all("img")]
    assert alts == ["The reference: lq.png", "Rank 1: best.png", "Rank 2: middle.png", "Rank 3: worst.png"]
    (group,) = kept()
    assert len(page.all("svg", **{"class": "whisker"})) == 3
    for place in group["places"][:3]:
        assert f"± {place['standard_error']:.2f}" in page.text
    assert len(group["duels"]) == page.text.count("Image A has <b>less</b> noise") >= 2
    assert "best.png is better than middle.png" in page.text and "Position bias +0.020" in page.text
    assert "text.png: " in page.text and "lq.png reference" in page.text


def test_page_from_an_earlier_run(folders: list[str], referee: Referee) -> None:
    arguments = ("rank", "in", "--groups", "folder", "-o", "out.jsonl", "--resume")
    run(*arguments)
    asked = len(referee.shown)
    assert run(*arguments, "--html", "page.html", "--top", 2).exit_code == 0
    page = read_page("page.html")
    assert len(page.all("img")) == 6 and len(page.all("section")) == 3 and "6 images in 3 groups" in page.text
    assert len(referee.shown) > asked, "another --top is another question"
    asked = len(referee.shown)
    refused = run(*arguments, "--html", "page.html", "--top", 2)
    assert "exists already" in refused.stderr and refused.exit_code == 1
    run(*arguments, "--html", "page.html", "--top", 2, "--overwrite")
    assert len(referee.shown) == asked and read_page("page.html").text == page.text


def test_page_by_score_and_strange_names(noised: Callable[..., str], critic: ScriptedCritic) -> None:
    strange = noised("<img src=x onerror=alert(1)>\"'&.png", 5)
    run("rank", strange, noised("b.png", 20), noised("c.png", 30), "--html", "page.html", "--top", 2)
    page = read_page("page.html")
    assert strange in page.text and f"{strange} is best" in page.text
    assert len(page.all("img")) == 2 and "Left out: 1 image of lower rank" in page.text
    assert "What decided" not in page.text and "Score" in page.text
    Path(strange).unlink()
    group, result = (
        Group(None, find_groups([strange, "b.png", "c.png"], None, None)[0].sources),
        ranked_by_score(strange),
    )
    Path("page.html").write_text(draw_page([(group, result)]), encoding="utf-8")
    assert "within the error bars" not in read_page("page.html").text
    wide = replace(result, places=(*result.places[:1], replace(result.places[1], standard_error=0.9), result.places[2]))
    assert "is best; within the error bars: 1 other" in draw_page([(group, wide)])
    assert "no such file" in read_page("page.html").text, "a picture that has gone since"


def ranked_by_score(first: str, **more: Any) -> Result:
    places = (Place(first, 1, 4.0, 0.5, 4.0), Place("b.png", 2, 3.0, None, 3.0), Place("c.png", 3, 1.0, 0.25, 1.0))
    return Result(None, "score", "scripted", more.get("lower_better", False), None, places)


def test_dots_and_bars() -> None:
    def drawn(result: Result) -> list[list[float]]:
        scale = Scale(result, result.places)
        return [
            [float(x) for x in re.findall(r'(?:class="spread" x1|cx)="([0-9.]+)%"', whisker(place, scale))]
            for place in result.places
        ]

    width = 100 - 2 * MARGIN
    best, middle, worst = drawn(ranked_by_score("a.png"))
    assert max(best) == 100 - MARGIN and min(worst) == MARGIN
    assert middle == [pytest.approx(MARGIN + width * (3 - 0.75) / (4.5 - 0.75), abs=0.06)], "no bar, only a dot"
    mirrored = drawn(ranked_by_score("a.png", lower_better=True))
    assert min(mirrored[0]) == MARGIN and max(mirrored[2]) == 100 - MARGIN, "better is further right"
    same = Result(None, "comparison", "scripted", False, None, (Place("a", 1, 0.0), Place("b", 1, 0.0)))
    assert drawn(same) == [[50.0], [50.0]]


def test_results_survive_the_file(three: list[str], referee: Referee) -> None:
    run("rank", *three, "--by", "hybrid", "-o", "out.jsonl")
    (document,) = kept()
    asked = document.pop("asked")
    result = from_document(document)
    assert [place.path for place in result.ranked] == ["best.png", "middle.png", "worst.png"] and result.failed == ()
    assert asked["options"]["by"] == "hybrid" and asked["critic"]["version"] == "1"
