"""`bench all`: the arithmetic of rounds, ratios and growth, the page, the peers, and a quick run end to end."""

from __future__ import annotations

import io
import json
import math
import socket
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iqloop.errors import CriticError
from iqloop.recipes.bench.critic import PLAIN
from iqloop.recipes.bench.speed import against_metrics, against_nets, folder, start_up
from iqloop.recipes.bench.speed import memory as memory_growth
from iqloop.recipes.bench.speed import ranking as ranking_speed
from iqloop.recipes.bench.speed import run as all_run
from iqloop.recipes.bench.speed.figures import Part, Report, Row, Target, curve, row
from iqloop.recipes.bench.speed.memory import Job
from iqloop.recipes.bench.speed.page import page, shown
from iqloop.recipes.bench.speed.plot import cost_plot, growth_plot
from iqloop.recipes.bench.speed.rounds import exponent, interleave, spread, within_rounds
from iqloop.recipes.options import CriticChoice
from iqloop.restorers.registry import builtin_entries
from tests.conftest import Photograph

from .helpers import ScriptedCritic, lines, run


def test_spread_is_a_median_with_an_interval_that_holds_it() -> None:
    values = [3.0, 1.0, 2.0, 10.0, 4.0]
    found = spread(values)
    assert found.median == 3.0 and found.values == tuple(values)
    assert 1.0 <= found.low < 3.0 < found.high <= 10.0
    assert spread(values) == found
    wide, narrow = (spread(np.random.default_rng(0).normal(5, 1, count).tolist()) for count in (10, 1000))
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
    single = spread([2.5])
    assert (single.median, single.low, single.high) == (2.5, 2.5, 2.5)
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_ratios_are_taken_within_rounds() -> None:
    # The machine was ten times as slow in the second round: the ratio does not notice, medians' ratio would.
    own, base = [2.0, 20.0, 2.0], [1.0, 10.0, 1.0]
    found = within_rounds(own, base)
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError):
        within_rounds([1.0], base)


def test_tasks_take_turns_after_a_warm_round_that_is_not_timed() -> None:
    done: list[str] = []
    readings = iter(range(100))
    drawn: list[float] = []

    def noted(name: str) -> None:
        done.append(name)
        drawn.append(float(torch.rand(())))

    tasks = {name: lambda name=name: noted(name) for name in "abc"}
    seconds = interleave(tasks, 2, clock=lambda: next(readings) ** 2)
    assert "".join(done) == "abc" + "abcabc"
    # Reading i is i squared, so a task between readings 2k and 2k + 1 took 4k + 1.
    assert seconds == {"a": [1, 13], "b": [5, 17], "c": [9, 21]}
    assert drawn[3] == drawn[4] == drawn[5] != drawn[6]  # seeded by round
    done.clear()
    interleave(tasks, 1, warm=False)
    assert "".join(done) == "abc"


def test_exponent_of_growth() -> None:
    sizes = [224, 352, 512, 1024]
    assert math.isclose(exponent(sizes, [3e-6 * size**2 for size in sizes]), 2)
    assert math.isclose(exponent(sizes, [7.0] * 4), 0, abs_tol=1e-9)
    noisy = np.random.default_rng(0).normal(1, 0.05, 4) * np.array(sizes) ** 1.5
    assert 1.3 < exponent(sizes, noisy.tolist()) < 1.7
    with pytest.raises(ValueError, match="two sizes"):
        exponent([1], [1.0])


def test_rows_are_per_unit_and_ratios_of_whole_rounds() -> None:
    seconds = {"ours": [4.0, 8.0, 4.0], "theirs": [1.0, 4.0, 1.0]}
    found = row("ours", seconds, {"them": "theirs"}, per=4, facts={"parameters": 7})
    assert found.seconds is not None and found.seconds.values == (1.0, 2.0, 1.0)
    assert found.ratios["them"].values == (4.0, 2.0, 4.0) and found.ratios["them"].median == 4.0
    assert found.facts == {"parameters": 7}


def made_up() -> Report:
    seconds = {"ours": [0.010, 0.012, 0.011], "pyiqa X": [0.022, 0.024, 0.022]}
    bases = {"ours": "ours"}
    part = Part(
        "Calls",
        "one a call.",
        "ms/image",
        1000,
        (
            row("ours", seconds, bases, facts={"parameters": 5734272}),
            row("pyiqa X", seconds, bases, facts={"weights": "random"}),
        ),
    )
    memory = Part("Memory", "one run.", "", 1, (Row("score", facts={"peak, MB": 901}),))
    curves = (
        curve("score", "side", "seconds", {224: [0.02, 0.02], 512: [0.1, 0.1]}),
        curve("net", "side", "seconds", {512: [0.3], 1024: [1.2]}),
        curve("score, 512 px", "count", "peak MB", {16: [900.0], 64: [905.0]}),
    )
    known = (Target("help", 0.31, 0.5, "s"), Target("speed", 11.0, 12, "images/s", at_most=False))
    return Report("critic", "a machine", (*known, Target("first", None, 6, "s")), (part, memory), curves)


def test_page() -> None:
    text = page(made_up(), "iqloop bench all", ("a.png",))
    assert "| help | at most 0.5 s | 0.31 s | met |" in text
    assert "| speed | at least 12 images/s | 11 images/s | missed |" in text
    assert "| first | at most 6 s | - | not measured |" in text
    assert "|  | ms/image | as a multiple of ours | parameters | weights |" in text
    assert "| ours | 11 [10, 12] | 1 | 5,734,272 |  |" in text
    assert "| pyiqa X | 22 [22, 24] | 2 [2, 2.2] |  | random |" in text
    assert "|  | peak, MB |" in text and "| score | 901 |" in text
    assert "|  | 224 px | 512 px | 1024 px | exponent |" in text
    assert "| score | 0.02 | 0.1 |  | 1.95 |" in text and "| net |  | 0.3 | 1.2 | 2.00 |" in text
    assert "| score, 512 px | 900 | 905 | 0.00 |" in text
    assert "![a.png](a.png)" in text and "a machine" in text
    assert [shown(value) for value in (0.00123456, 998.0, 99.96, 12345.6)] == ["0.00123", "998", "100", "12346"]


def test_a_target_is_met_on_its_own_side() -> None:
    less, more = Target("", 0.5, 0.5, "s"), Target("", 12.0, 12, "1/s", at_most=False)
    assert less.met and more.met
    assert replace(less, measured=0.51).met is False and replace(more, measured=11.9).met is False
    assert replace(less, measured=None).met is None


def test_targets_come_from_what_was_measured() -> None:
    processes = Part("", "", "s", 1, tuple(Row(name, spread([0.4])) for name in (start_up.HELP, start_up.SCORE)))
    files = Part("", "", "ms/image", 1e3, (Row(folder.ALL, spread([0.05, 0.1, 0.1])), Row("other", spread([0.01]))))
    found = all_run.targets([processes, files])
    assert [one.measured for one in found] == [0.4, 0.4, 10.0] and [one.met for one in found] == [True, True, False]
    assert [one.met for one in all_run.targets([])] == [None, None, None]


def test_plots_show_everything() -> None:
    report = made_up()
    growth = growth_plot(report.curves)
    legends = [legend for axes in growth.axes if (legend := axes.get_legend())]
    labels = [text.get_text() for legend in legends for text in legend.get_texts()]
    assert labels == ["score: exponent 1.95", "net: exponent 2.00", "score, 512 px: exponent 0.00"]
    assert sum(axes.get_visible() for axes in growth.axes) == 2
    cost = cost_plot(report.parts)  # memory has nothing of others to show
    (axes,) = cost.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["ours", "pyiqa X"]


def test_peers_of_metrics_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyiqa", reason="the extra pyiqa is not installed")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = against_metrics._peers("cpu")
    assert len(found) >= 5 and found["pyiqa PIQE"].weights == "none"
    assert 4e6 < found["pyiqa WaDIQaM-NR"].parameters < 8e6  # the embedded critic's size
    assert {one.weights for one in found.values() if one.parameters} == {against_metrics.RANDOM}
    with torch.inference_mode():
        scores = [one.call(torch.rand(1, 3, 64, 64)) for one in found.values()]
    assert all(isinstance(score, torch.Tensor) and score.numel() == 1 for score in scores)


def test_without_pyiqa_the_critics_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    image = torch.rand(3, 64, 64)
    scripted: Any = ScriptedCritic(image)
    part = against_metrics.measure(scripted, [image], 1, "cpu")
    assert [one.name for one in part.rows] == ["scripted", "nss-mini"] and "pip install 'iqloop[pyiqa]'" in part.about


class _Missing:
    """Finds that pyiqa is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "pyiqa":
            raise ModuleNotFoundError(f"No module named {name!r}", name="pyiqa")


def test_every_tool_of_the_package_has_a_peer(photograph: Photograph) -> None:
    parts = against_nets.measure(photograph("astronaut", 64), 1, "cpu")
    names = [one.name for part in parts for one in part.rows]
    assert set(names) >= {entry.info.name for entry in builtin_entries()}
    assert all(sum(one.name.startswith("OpenCV") for one in part.rows) >= 1 for part in parts)
    rows = {one.name: one for one in parts[0].rows}
    assert set(rows["denoise"].ratios) == {"OpenCV fastNlMeansDenoisingColored", against_nets.DNCNN}
    assert rows["OpenCV fastNlMeansDenoisingColored"].ratios["OpenCV fastNlMeansDenoisingColored"].median == 1
    # Zhang et al.'s net for colour: 3 to 64, eighteen of 64 to 64, 64 to 3, each 3 x 3 with a bias.
    assert rows[against_nets.DNCNN].facts["parameters"] == 27 * 64 + 64 + 18 * (576 * 64 + 64) + 576 * 3 + 3
    bare = parts[1].rows
    assert {one.facts["parameters"] for one in bare if one.name.startswith("OpenCV")} == {None}


def test_ranking_counts_comparisons(critic: Any, photograph: Photograph) -> None:
    part = ranking_speed.measure(
        replace(critic, capabilities=frozenset({"score"})), photograph("astronaut", 96), [4], 1
    )
    told = {one.name: (one.facts["ranked by"], one.facts["comparisons"]) for one in part.rows}
    assert told["scripted, score, 4 images"] == ("score", 0) == told["scripted, hybrid, 4 images"]
    by, comparisons = told["simulated, 0.95 right, hybrid, 4 images"]
    assert by == "hybrid" and isinstance(comparisons, int) and 1 <= comparisons <= 8


def test_a_process_that_fails_says_why() -> None:
    assert start_up.run(["-c", "print(input())"], 1, "hello") == "hello\n"
    with pytest.raises(CriticError, match="ended with 3, expected 0; it said: no such critic"):
        start_up.run(["-c", "import sys; sys.stderr.write('no such critic\\n'); sys.exit(3)"], 1)


def test_memory_is_that_of_a_process_of_its_own() -> None:
    before = torch.get_num_threads()
    part, (grown,) = memory_growth.measure(CriticChoice(), [Job("denoise", "side", (64, 256), 1)], 1)
    (found,) = part.rows
    peak, most, loaded = (found.facts[name] for name in ("peak, MB", "peak there, MB", "loaded, MB"))
    assert isinstance(peak, int) and isinstance(most, int) and isinstance(loaded, int)
    assert 50 < loaded <= peak < most  # the larger image needs more
    assert (found.facts["from"], found.facts["to"], found.name) == ("64 px", "256 px", "denoise, 1 image")
    assert grown.sizes == (64, 256) and [round(value.median) for value in grown.values] == [peak, most]
    assert torch.get_num_threads() == before


def in_this_process(words: Sequence[str], threads: int, given: str = "") -> str:
    """As `start_up.run`; what would import torch once more is run here instead."""
    if words[:3] == ("-m", "iqloop", "score"):
        result = run(*words[2:])
        assert result.exit_code == 0, result.stderr
        return result.stdout
    if words[0] == "-m" and words[1] == memory_growth.__name__:
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
            patch.setattr(sys, "stdin", io.StringIO(given))
            memory_growth._measure_own_peaks()
        return said.getvalue()
    return start_process(words, threads, given)


start_process = start_up.run


def test_quick_run(here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (start_up, folder, memory_growth):
        monkeypatch.setattr(module, "run", in_this_process)
    tiny = ("--critic", tiny_folder, "--critic-option", "max_new_tokens=4")  # random weights never finish an answer
    result = run("bench", "all", "-o", "out", "--quick", "--threads", 1, *tiny, "--json")
    assert result.exit_code == 0, result.stderr
    written = json.loads(Path("out/speed.json").read_text())
    assert lines(result) == [written]
    parts = {part["title"]: part["rows"] for part in written["parts"]}
    assert {"Critic modes", "The loop", "Ranking", "Start-up", "Memory"} <= set(parts)
    plain = next(one for one in parts["Critic modes"] if one["name"] == PLAIN)
    assert plain["ratios"][PLAIN]["values"] == [1.0]
    assert all(one["facts"]["critic calls"] >= 1 for one in parts["The loop"])
    assert len(parts["Start-up"]) == 4 and all(one["seconds"]["median"] > 0 for one in parts["Start-up"])
    assert all(one["facts"]["peak there, MB"] >= one["facts"]["peak, MB"] > 50 for one in parts["Memory"])
    assert {(one["by"], one["of"]) for one in written["curves"]} >= {("side", "seconds"), ("count", "peak MB")}
    limits = {one["name"]: one["met"] for one in written["targets"]}
    assert None not in limits.values()
    assert [one["name"] for one in parts["A folder"]] == [folder.ALL, folder.STARTED]
    text = Path("out/speed.md").read_text()
    assert "# Speed\n\n```sh\niqloop bench all" in text and str(tiny_folder) not in text
    for name in ("speed-cost.png", "speed-growth.png"):
        assert f"({name})" in text and Path("out", name).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_measured_is_refused_at_once(here: Path) -> None:
    Path("file").write_text("")
    for arguments, code, said in (
        (("-o", "file"), 2, "is a file"),
        (("-o", "out", "--critic", "nss-mini"), 2, "measures checkpoints"),
        ((), 2, "--output"),
    ):
        result = run("bench", "all", "--quick", *arguments)
        assert result.exit_code == code and said in result.stderr, result.stderr
    assert not Path("out").exists()
