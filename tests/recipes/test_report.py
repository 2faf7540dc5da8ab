"""report: one page that holds everything, believes nothing it is told, and shows only the pictures of the run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from iqloop.agents import RestoreSettings, restore, to_json
from iqloop.critic import known
from iqloop.critic.verdicts import Unparsed
from iqloop.recipes.report import chart as report_chart
from iqloop.recipes.report.images import DETAIL, LARGE, THUMBNAIL, detail_pair, find, picture
from iqloop.recipes.report.json import Part
from iqloop.recipes.report.tree import grow, lineage, parents, scores
from iqloop.recipes.report.words import came_of_it

from ..agents.agents_fakes import CLEAN, Tools, World, degradation, photograph, tool
from .helpers import SIDE, ScriptedCritic, lines, run

VOID = {"meta", "link", "img", "input"}
HOSTILE = "</p><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'\"&amp;\u202e\x00\ud800"


class Page(HTMLParser):
    """A page read back; what is not well formed fails the test."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.tags
            if name == tag and all(value in found.get(key, "").split() for key, value in wanted.items())
        ]


def read_page(path: Path | str) -> Page:
    """The page, checked for what holds for every page: nothing from outside, nothing inline, ids used once."""
    markup = Path(path).read_text(encoding="utf-8")
    page = Page(markup)
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids)) and {"seen", "tried", "cost", "record"} <= set(ids)
    for tag, found in page.tags:
        assert "style" not in found and not any(name.startswith("on") for name in found), (tag, found)
        for name in {"src", "href", "srcset", "action", "data", "poster"} & set(found):
            assert found[name].startswith("data:"), (tag, name)
        if tag == "img":
            assert found["alt"] and int(found["width"]) > 0
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "base", "form"})
    assert len(page.all("script")) == len(page.all("style")) == len(page.all("h1")) == 1
    assert "url(" not in markup and "@import" not in markup
    policy = next(found["content"] for found in page.all("meta") if "http-equiv" in found)
    for tag in ("script", "style"):
        (source,) = re.findall(f"<{tag}>(.*?)</{tag}>", markup, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    return page


def thumbnails(page: Page) -> int:
    return sum(1 for found in page.all("img") if found["alt"].startswith("After "))


def restored(photo: Path, *more: str) -> Path:
    """Restore ``photo`` to ``out`` and name its trace."""
    assert run("restore", photo, "-o", "out/", *more).exit_code in (0, 3)
    return Path("out/.iqloop/photo.json")


def edit(trace: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(trace.read_bytes())
    change(document)
    trace.write_text(json.dumps(document))


def add_hostile(diagnosis: str, part: str, document: Any) -> None:
    document[diagnosis][part].update({HOSTILE: 0.5})


def tried(document: Any) -> Any:
    return document["steps"][0]["tries"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a noisy photograph that was improved, and with the tries kept."""
    clean = photograph(size=SIDE)
    noisy = clean + torch.from_numpy(np.random.default_rng(0).normal(0, 0.08, clean.shape)).float()
    home = tmp_path_factory.mktemp("finished")
    Image.fromarray(noisy.clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()).save(home / "photo.png")
    (home / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(known, "create_critic", lambda name, **options: ScriptedCritic(clean))
        edit(restored(Path("photo.png"), "--keep-steps"), add_tries)
    return home


def add_tries(document: Any) -> None:
    """Two more tries, so that the tests do not hang on how many the search makes; nothing is kept of the input."""
    first = next(attempt for attempt in tried(document) if attempt["decision"] == "taken")
    made = next(made for made in document["candidates"] if made["id"] == first["candidate"])
    document["candidates"][0].update(path=None, file_sha256=None)
    for number in (len(document["candidates"]), len(document["candidates"]) + 1):
        path = f".iqloop/photo.steps/c{number}-other.png"
        shutil.copy(Path("out") / made["path"], Path("out") / path)
        document["candidates"].append({**made, "id": f"c{number}", "tool": "other", "path": path})
        refused = {"tool": "other", "candidate": f"c{number}", "decision": "refused", "reason": "not better"}
        tried(document).append({**first, **refused, "score_after": 2.0})


@pytest.fixture
def trace(here: Path, finished: Path) -> Path:
    """The trace of that photograph, below the current folder."""
    shutil.copytree(finished, here, dirs_exist_ok=True)
    return Path("out/.iqloop/photo.json")


def test_page_of_a_run(trace: Path) -> None:
    result = run("report", trace)
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout == f"{trace} -> out/.iqloop/photo.html\n"
    page = read_page("out/.iqloop/photo.html")
    document = json.loads(trace.read_bytes())
    assert "photo.png" in page.text and document["stop_explanation"] in page.text
    assert "The photograph now has less noise. Its score rose from" in page.text
    for attempt in tried(document):
        assert attempt["tool"] in page.text and attempt["decision"] in page.text
        assert attempt["reason"][1:] in page.text
    assert page.text.count("grain in the sky") == 1, "one diagnosis holds for all steps and is told once"
    assert thumbnails(page) == len(document["candidates"]) - 1
    assert len(page.all("img")) == thumbnails(page) + 2
    assert [found["type"] for found in page.all("input")] == ["range"]
    assert len(page.all("li", **{"class": "kept"})) == 1
    assert len(page.all("circle")) == 1 + sum(attempt["score_after"] is not None for attempt in tried(document))


def test_comparison_is_quoted(photo: Path, critic: ScriptedCritic) -> None:
    critic.capabilities = frozenset({"score", "perceive", "compare"})
    Path("out").mkdir()
    trace = restored(photo)
    edit(trace, lambda document: tried(document)[0]["comparison"].update(reasoning="The first is\ncleaner."))
    run("report", trace)
    assert "<blockquote>The first is\ncleaner.</blockquote>" in Path("out/.iqloop/photo.html").read_text()


def test_hostile_texts_stay_texts(trace: Path) -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            ours = ("schema", "id", "parent", "candidate", "started_from", "taken", "sha256", "path")
            return {name: item if name in ours else poison(item) for name, item in value.items()} | {HOSTILE: HOSTILE}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    trace.write_text(json.dumps(poison(json.loads(trace.read_bytes())) | {"scale": 1}))
    edit(trace, lambda document: document["candidates"][1].update(id=HOSTILE, path=HOSTILE))
    edit(trace, lambda document: [made.pop(HOSTILE) for made in document["candidates"]])
    for diagnosis, part in product(("diagnosis", "final_diagnosis"), ("probabilities", "expected_severities")):
        edit(trace, partial(add_hostile, diagnosis, part))
    edit(trace, lambda document: document["critic"]["provenances"].update({HOSTILE: HOSTILE}))
    edit(trace, lambda document: document["budget"].pop(HOSTILE))
    result = run("report", trace)
    assert result.exit_code == 0, result.stderr
    page = read_page("out/.iqloop/photo.html")
    assert "<script>alert(1)</script>" in page.text and "evil.example" in page.text
    assert "\u202e" not in page.text and "\x00" not in page.text


def test_tries_that_were_not_kept(photo: Path, critic: ScriptedCritic) -> None:
    Path("out").mkdir()
    trace = restored(photo)
    run("report", trace)
    page = read_page("out/.iqloop/photo.html")
    tries = len(tried(json.loads(trace.read_bytes())))
    assert page.text.count("not kept: run with --keep-steps") == tries - 1
    assert thumbnails(page) == 1 and len(page.all("input")) == 1, "the result is one of the tries"


def test_missing_and_changed_pictures(trace: Path) -> None:
    Path("photo.png").unlink()
    edit(trace, lambda document: [made.pop("file_sha256", None) for made in document["candidates"]])
    kept = [made for made in json.loads(trace.read_bytes())["candidates"] if made["path"]]
    for number, made in enumerate(kept):
        path = Path("out", made["path"])
        path.unlink()
        if number == 1:
            path.write_bytes(b"no image")
        elif number > 1:
            Image.new("RGB", (5, 5)).save(path)
    with Path("out/photo.png").open("ab") as file:
        file.write(b"changed")
    result = run("report", trace)
    assert result.exit_code == 0
    # The input's name is also the output's: a file of that name is there, but none with its hash.
    assert "before is not shown: changed since; the picture after is not shown: changed since" in result.stderr
    page = read_page("out/.iqloop/photo.html")
    assert page.all("input") == [] and thumbnails(page) == 0
    for reason in ("not found: name its folder", "cannot be read as an image", "it has another size"):
        assert reason in page.text


def test_originals_elsewhere_are_found_by_their_hash(trace: Path) -> None:
    Path("originals").mkdir()
    Path("photo.png").rename("originals/photo.png")
    assert "before is not shown" in run("report", trace).stderr
    assert run("report", trace, "--images", "originals", "--overwrite").stderr == ""
    assert len(read_page("out/.iqloop/photo.html").all("input")) == 1


@pytest.mark.parametrize("path", ["../../private.png", "{outside}/private.png", "link.png"])
def test_paths_that_lead_outside_are_refused(trace: Path, tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    private = outside / "private.png"
    shutil.copy("photo.png", private)
    shutil.copy("photo.png", Path.cwd().parent / "private.png")
    Path("link.png").symlink_to(private)
    digest = hashlib.sha256(private.read_bytes()).hexdigest()
    home = Path("deep/deeper/deepest")
    home.mkdir(parents=True)
    trace = trace.rename(home / "photo.json")
    path = path.format(outside=outside).replace("../..", "../../../..")

    def reach(document: Any) -> None:
        document["input"].update(path=path, sha256=digest)
        document["candidates"][1]["path"] = path

    edit(trace, reach)
    run("report", trace)
    page = read_page(trace.with_suffix(".html"))
    assert page.text.count("refused: its path leads out of the folders searched") == 2
    assert find("photo.png", digest, [Path.cwd()]) == private.read_bytes()
    assert find("out/../photo.png", digest, [Path.cwd()]) == private.read_bytes(), "it stays inside"
    assert isinstance(find("\0", digest, [Path.cwd()]), str)


def test_hash_of_a_kept_try_counts_when_there_is_one(trace: Path) -> None:
    kept = [made for made in json.loads(trace.read_bytes())["candidates"] if made["path"]]
    right = hashlib.sha256((Path("out") / kept[0]["path"]).read_bytes()).hexdigest()
    edit(trace, lambda document: document["candidates"][1].update(file_sha256=right))
    run("report", trace)
    assert thumbnails(read_page("out/.iqloop/photo.html")) == len(kept)
    edit(trace, lambda document: [made.update(file_sha256="0" * 64) for made in document["candidates"][1:]])
    run("report", trace, "--overwrite")
    page = read_page("out/.iqloop/photo.html")
    assert thumbnails(page) == 1 and page.text.count("changed since") == len(kept) - 1, "the result has its own hash"


def test_kept_pictures_stand_for_files_that_are_gone(trace: Path) -> None:
    shutil.copy("photo.png", "out/.iqloop/photo.steps/c0-input.png")
    edit(trace, lambda document: document["candidates"][0].update(path=".iqloop/photo.steps/c0-input.png"))
    Path("photo.png").unlink()
    Path("out/photo.png").unlink()
    assert run("report", trace).stderr == ""
    assert len(read_page("out/.iqloop/photo.html").all("input")) == 1


def test_nothing_wrong(photo: Path, critic: ScriptedCritic) -> None:
    critic.kind = "null"
    Path("out").mkdir()
    assert run("report", restored(photo)).exit_code == 0
    page = read_page("out/.iqloop/photo.html")
    assert "Nothing seemed wrong with this photograph, so it was left exactly as it was." in page.text
    assert "Unchanged" in page.text and "Nothing was tried." in page.text
    assert len(page.all("img")) == 1 and page.all("input") == [] == page.all("circle")


def test_unreadable_answer(photo: Path, critic: ScriptedCritic) -> None:
    critic.unparsed = True
    Path("out").mkdir()
    assert run("report", restored(photo)).exit_code == 0
    page = read_page("out/.iqloop/photo.html")
    assert "Answer not readable" in page.text and "expected JSON" in page.text
    assert "could not be read" in page.text


def test_failed_tool_and_no_improvement(here: Path) -> None:
    def fail(image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the net <fell> over")

    noisy = degradation(noise=3.0)
    world = World({"bad": (2.0, noisy), "same": (2.0, noisy), "good": (4.0, CLEAN)})
    tools = Tools(tool("broken", "noise", fail), world.tool("useless", "noise", {"bad": "same"}))
    settings = RestoreSettings(tools_per_step=2)
    outcome = restore(world.images["bad"], world.critic(), tools, settings=settings)
    Path("run.json").write_text(to_json(outcome.trace))
    result = run("report", "run.json")
    assert result.exit_code == 0 and "the trace names no file" in result.stderr
    page = read_page("run.html")
    assert (
        "\N{MULTIPLICATION SIGN} failed" in page.text
        and "the net <fell> over" in page.text
        and "no picture" in page.text
    )
    assert "Something seemed wrong, but none of 2 tries was better" in page.text


def test_unreadable_answer_on_the_way(here: Path) -> None:
    world = World({"bad": (2.0, degradation(noise=3.0)), "mended": (4.0, CLEAN)})
    broken = Unparsed("mumble <b>", "expected JSON")
    world.states["mended"] = (4.0, broken)
    critic = world.critic()
    outcome = restore(world.images["bad"], critic, Tools(world.tool("mend", "noise", {"bad": "mended"})))
    Path("run.json").write_text(to_json(outcome.trace))
    assert run("report", "run.json").exit_code == 0
    assert "no evidence: a diagnosis could not be read"[1:] in read_page("run.html").text


def without(*names: str) -> Callable[[Any], object]:
    return lambda document: [document.pop(name) for name in names]


def put(name: str, value: Any) -> Callable[[Any], object]:
    return lambda document: document.update({name: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("schema", "iqloop-trace/99"), "schema iqloop-trace/99, expected iqloop-trace/1"),
        (put("schema", 1), "not a trace: expected a JSON object with schema"),
        (without("schema"), "not a trace: expected a JSON object with schema"),
        (without("candidates"), "has no candidates"),
        (put("candidates", "c0"), "expected the document.candidates to be an array, got 'c0'"),
        (lambda document: document["candidates"][1].update(parent="c2"), "a parent made before it"),
        (lambda document: document["candidates"][1].update(id="c0"), "an id of its own"),
        (put("score_before", "high"), "expected the document.score_before to be a number, got 'high'"),
        (put("score_before", float("nan")), "a number of reasonable size"),
        (lambda document: document["steps"][0]["tries"][0].update(reason=3), "steps[0].tries[0].reason to be a text"),
        (put("improved", 1), "improved to be true or false"),
        (put("steps", [[]]), "steps[0] to be an object"),
    ],
)
def test_what_is_no_trace_is_2_with_one_line(trace: Path, change: Callable[[Any], object], said: str) -> None:
    edit(trace, change)
    result = run("report", trace)
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert said in line and str(trace) in line
    assert not trace.with_suffix(".html").exists()


@pytest.mark.parametrize("depth", [10, 300, 600, 900, 1200, 100_000])
def test_deep_nesting_gives_a_page_or_one_line(trace: Path, depth: int) -> None:
    deep = '{"settings": ' + '{"a": ' * depth + "1" + "}" * depth + ", "
    trace.write_text(deep + trace.read_text().lstrip("{ \n").replace('"settings"', '"former"'))
    result = run("report", trace)
    assert result.exit_code in (0, 2) and len(result.stderr.splitlines()) == (result.exit_code == 2)
    assert result.exit_code == (0 if depth == 10 else 2) or 10 < depth < 100_000


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"schema": null}'])
def test_other_files_are_2_with_one_line(here: Path, content: bytes) -> None:
    Path("x.json").write_bytes(content)
    result = run("report", "x.json")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and "x.json: not" in result.stderr
    assert "cannot be read" in run("report", "missing.json").stderr


def test_nothing_is_overwritten_unasked(trace: Path) -> None:
    page = trace.with_suffix(".html")
    page.write_text("mine")
    result = run("report", trace)
    assert result.exit_code == 1 and "--overwrite" in result.stderr and page.read_text() == "mine"
    assert run("report", trace, "--overwrite", "--quiet").stdout == ""
    read_page(page)


def test_several_traces(trace: Path) -> None:
    Path("out/.iqloop/sub").mkdir()
    shutil.copy(trace, "out/.iqloop/sub/second.json")
    Path("out/other.json").write_text("{}")
    result = run("report", "out", "-o", "pages", "--json")
    assert result.exit_code == 0 and result.stderr == ""
    assert lines(result) == [
        {"input": "out/.iqloop/photo.json", "output": "pages/photo.html"},
        {"input": "out/.iqloop/sub/second.json", "output": "pages/sub/second.html"},
    ]
    assert read_page("pages/photo.html").text == read_page("pages/sub/second.html").text
    some = run("report", "out/other.json", trace, "-o", "again")
    assert some.exit_code == 1 and "out/other.json: not a trace" in some.stderr and Path("again/photo.html").exists()
    assert run("report", "out", "-o", "one.html").exit_code == 2
    clash = run("report", trace, trace, "-o", "again")
    assert clash.exit_code == 2 and "different folders" in clash.stderr
    empty = run("report", "pages")
    assert empty.exit_code == 2 and "no traces in pages" in empty.stderr


def document_of(steps: list[tuple[str, list[tuple[str, str]]]], candidates: dict[str, str]) -> Part:
    """Steps as (start, tries) with tries as (start, candidate); candidates with their parents."""
    made = [{"id": name, "parent": parent or None, "tool": f"t{name}"} for name, parent in candidates.items()]
    told = [
        {"index": 1 + number, "started_from": start, "tries": [{"started_from": a, "candidate": b} for a, b in tries]}
        for number, (start, tries) in enumerate(steps)
    ]
    return Part({"candidates": made, "steps": told})


def test_tree_of_a_search_with_several_starts() -> None:
    steps = [
        ("c0", [("c0", "c1"), ("c0", "c2")]),
        ("c1", [("c1", "c3"), ("c2", "c4")]),
        ("c4", []),
        ("c0", [("c0", "c5")]),
        ("c9", []),
    ]
    candidates = {"c0": "", "c1": "c0", "c2": "c0", "c3": "c1", "c4": "c2", "c5": "c0", "c6": "c3"}
    document = document_of(steps, candidates)
    found = [
        (0 if group.step is None else int(group.step["index"].value), group.start, group.depth)
        for group in grow(document)
    ]
    # c6 is told of by no step, c9 by no candidate.
    assert found == [(1, "c0", 0), (2, "c1", 1), (0, "c3", 2), (2, "c2", 1), (3, "c4", 2), (4, "c0", 0), (5, "c9", 0)]
    assert lineage(parents(document), "c4") == ["c0", "c2", "c4"]


def test_long_chain_of_candidates() -> None:
    count = 3000
    steps = [(f"c{n}", [(f"c{n}", f"c{n + 1}")]) for n in range(count)]
    candidates = {"c0": ""} | {f"c{n + 1}": f"c{n}" for n in range(count)}
    assert [group.depth for group in grow(document_of(steps, candidates))] == list(range(count))


def test_chart_has_better_above_and_round_ticks() -> None:
    tree, scores = {"c0": "", "c1": "c0", "c2": "c0", "c3": "c1"}, {"c0": 2.0, "c1": 3.0, "c3": 3.4}

    def heights(lower_better: bool) -> list[float]:
        drawn = report_chart.draw(tree, scores, ["c0", "c1", "c3"], {}, lower_better)
        assert drawn.count("way kept") == 2 and drawn.count("dot kept") == 3
        return [float(y) for y in re.findall(r'cy="([0-9.]+)"', drawn)]

    assert heights(False) == sorted(heights(False), reverse=True)
    assert heights(True) == sorted(heights(True))
    assert report_chart.draw(tree, {"c0": 1.0}, ["c0"], {}) == ""
    for low, high in ((1.0, 5.0), (2.31, 2.33), (0.0, 0.0), (-40.0, 97.0), (3.0, 3.0), (1e-5, 0.8)):
        marks = report_chart.ticks(low, high)
        assert 2 <= len(marks) <= 8 and marks[0] <= low and high <= marks[-1] and marks == sorted(set(marks))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"improved": True, "score_before": 1.0, "score_after": 2.5},
            "has less noise. Its score rose from 1.00 to 2.50",
        ),
        ({"improved": True, "score_before": 9, "score_after": 4}, "Its score fell from 9.00 to 4.00"),
        ({"improved": True, "scale": 2}, "The photograph was enlarged 2 times and now has less noise."),
        (
            {"improved": True, "scale": 2, "score_before": 1.0, "score_after": 2.5},
            "now has less noise. Its score is 2.50; by interpolation alone it would be 1.00.",
        ),
        ({"scale": 4, "stop_reason": "bicubic"}, "enlarged 4 times by interpolation and otherwise left"),
        ({"stop_reason": "perceive-only"}, "only looked at, and left exactly as it was. Seen: slight darkness."),
        ({"stop_reason": "no-improvement"}, "the one thing tried was not better than the photograph itself"),
        ({"stop_reason": "time-limit", "stop_explanation": "too slow"}, "left exactly as it was: too slow."),
    ],
)
def test_what_came_of_it_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    document = document_of([("c0", [("c0", "c1")])], {"c0": "", "c1": "c0"}).value
    document["steps"][0]["treatment"] = "noise"
    document["diagnosis"] = {"distortion_class": "darken", "severity": "slight"}
    assert said in came_of_it(Part(document | {"output": {"candidate": "c1"}} | changes))


def test_enlarged_pictures_have_their_own_scores(here: Path, photo: Path) -> None:
    trace = restored(photo, "--keep-steps", "--scale", "2")
    document = json.loads(trace.read_bytes())
    made = {candidate["id"]: candidate for candidate in document["candidates"]}
    enlarged = {candidate["parent"]: name for name, candidate in made.items() if candidate["tool"] == "bicubic"}
    assert all(Path("out", made[name]["path"]).is_file() for name in enlarged.values())
    bicubic = enlarged["c0"]
    tries = [attempt for step in document["steps"] for attempt in step["tries"]]
    native = next(attempt["score_before"] for attempt in tries if made[attempt["candidate"]]["width"] == SIDE)
    rated = scores(Part(document))
    assert rated["c0"] == native
    assert rated[bicubic] == document["score_before"]
    assert set(rated) == set(made)
    page = Path("page.html")
    assert run("report", trace, "-o", page).exit_code == 0
    assert "not kept" not in page.read_text() and "beside interpolation (bicubic)" in page.read_text()
    assert page.read_text().count(">to compare with<") == len(enlarged) and "not judged" not in page.read_text()


def test_pictures_are_small_and_the_detail_is_where_most_has_changed() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (1500, 2100, 3), dtype=np.uint8)
    after = before.copy()
    after[3 * DETAIL[1] : 4 * DETAIL[1], DETAIL[0] : 2 * DETAIL[0]] //= 2
    pair = detail_pair(Image.fromarray(before), Image.fromarray(after))
    assert pair is not None and {(cut.width, cut.height) for cut in pair} == {DETAIL}
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(cut.url.partition(",")[2])))) for cut in pair]
    assert decoded[1].mean() < 0.6 * decoded[0].mean()
    assert detail_pair(Image.new("RGB", (LARGE, 9)), Image.new("RGB", (LARGE, 9))) is None
    small = picture(Image.fromarray(before), THUMBNAIL)
    assert (small.width, small.height) == (THUMBNAIL, round(THUMBNAIL * 1500 / 2100))


def test_browser_accepts_the_page(trace: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser is None:
        pytest.skip("no chromium to look at the page with")
    run("report", trace, "-o", "page.html")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={Path.cwd() / 'profile'}", "--dump-dom", Path("page.html").absolute().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 'class="pair slider"' in done.stdout, "the policy lets the script run"
    assert "CONSOLE" not in done.stderr, done.stderr
