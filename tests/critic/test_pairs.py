"""Pairs of which it is known which image is better: the truth, the positions, and what is passed over."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from iqloop import distort
from iqloop.critic.training import pairs
from iqloop.critic.training.pairs import Pair, psnr, severity_pair, tool_pair
from iqloop.errors import ToolError
from iqloop.restorers import ClassicalTool, Tool, ToolInfo
from iqloop.restorers.classical import classical_tools
from tests.conftest import Photograph

Bytes = NDArray[np.uint8]
SIDE = 64


def severities(photograph: Bytes, count: int) -> list[Pair]:
    return [severity_pair(photograph, SIDE, np.random.default_rng([3, i])) for i in range(count)]


def restored(photograph: Bytes, count: int, tools: list[Tool]) -> list[Pair]:
    return [tool_pair(photograph, SIDE, np.random.default_rng([3, i]), tools) for i in range(count)]


def adder(name: str, levels: int) -> Tool:
    """A tool for everything that adds grey levels, so that what was used can be read off the result."""
    info = ToolInfo(name, ("noise", "blur", "compression", "darken"), "adds")
    return ClassicalTool(info, lambda image: image + np.float32(levels / 255))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Bytes:
    """A scene of grey 100, which distortions darken to 90."""
    grey = np.full((SIDE + 16, SIDE + 16, 3), 100, np.uint8)
    monkeypatch.setattr(pairs, "scene", lambda photograph, side, rng: grey)
    monkeypatch.setattr(distort, "apply_all", lambda image, mixture, seed: image - 10)
    return grey


@pytest.mark.parametrize("kind", ["severity", "tools"])
def test_a_generator_decides_everything(photograph: Photograph, kind: str) -> None:
    image = photograph("coffee", 300)

    def make(seed: int) -> Pair:
        rng = np.random.default_rng(seed)
        return severity_pair(image, SIDE, rng) if kind == "severity" else tool_pair(image, SIDE, rng, classical_tools())

    first, again, other = make(5), make(5), make(6)
    for name in ("reference", "a", "b"):
        made = getattr(first, name)
        assert made.shape == (SIDE, SIDE, 3) and made.dtype == np.uint8
        assert np.array_equal(made, getattr(again, name)) and not np.array_equal(made, getattr(other, name))
    assert (first.choice, first.difference, first.distortion) == (again.choice, again.difference, again.distortion)


def test_the_milder_one_is_better(photograph: Photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def shaded(image: Bytes, name: str, severity: float, seed: int = 0) -> Bytes:
        asked.append((name, severity))
        return np.full_like(image, severity)

    monkeypatch.setattr(distort, "apply", shaded)
    found = severities(photograph("astronaut", 250), 300)
    for pair, (one, other) in zip(found, zip(asked[::3], asked[1::3], strict=True), strict=True):
        a, b = int(pair.a[0, 0, 0]), int(pair.b[0, 0, 0])
        assert {a, b} == {one[1], other[1]} and a != b
        assert pair.difference == b - a and pair.choice == ("A" if a < b else "B")
        assert pair.distortion == one[0] == other[0] and pair.kind == "severity"
    assert 120 < sum(pair.choice == "A" for pair in found) < 180
    counts = {name: sum(pair.distortion_class == name for pair in found) for name in pairs._PERCEIVED}
    assert min(counts.values()) > 50
    assert {abs(pair.difference) for pair in found} == {1, 2, 3, 4}
    references = [int(pair.reference[0, 0, 0]) for pair in found]
    assert set(references) == {1, 2, 3, 4, 5}, "to find the copy of the reference says nothing"


def test_both_severities_show_the_same_crop(photograph: Photograph) -> None:
    """Light aside the images of a pair are near each other, far nearer than two crops are."""
    found = [pair for pair in severities(photograph("astronaut", 300), 40) if pair.distortion_class == "compression"]
    assert found
    for pair in found:
        assert psnr(pair.a, pair.b) > 18
        assert not np.array_equal(pair.a, pair.b)


def test_equal_severities_are_drawn_again(photograph: Photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def late(image: Bytes, name: str, severity: float, seed: int = 0) -> Bytes:
        calls.append(1)
        return np.full_like(image, severity if len(calls) > 4 else 7)

    monkeypatch.setattr(distort, "apply", late)
    pair = severity_pair(photograph(), SIDE, np.random.default_rng(0))
    assert len(calls) == 6 and not np.array_equal(pair.a, pair.b)


def test_the_result_nearer_to_the_original_is_better(plain: Bytes) -> None:
    """Against grey 100: the input 90 is 10 off, the tools' 95 and 97 are 5 and 3 off."""
    found = restored(plain, 200, [adder("five", 5), adder("seven", 7)])
    values = [(int(pair.a[0, 0, 0]), int(pair.b[0, 0, 0])) for pair in found]
    assert {frozenset(both) for both in values} == {frozenset(two) for two in ((90, 95), (90, 97), (95, 97))}
    for pair, (a, b) in zip(found, values, strict=True):
        assert pair.choice == ("A" if a > b else "B") and pair.kind == "tools"
        assert pair.difference == pytest.approx(20 * np.log10((100 - b) / (100 - a)))
        assert (pair.reference == 90).all()
    assert 75 < sum(90 in both for both in values) < 125, "the input is one of them half of the time"
    assert 75 < sum(pair.choice == "A" for pair in found) < 125
    assert 25 < sum(pair.distortion_class == "mixture" for pair in found) < 75


def test_ties(plain: Bytes) -> None:
    """5 off on either side is the same distance, and 10 off too."""
    found = restored(plain, 40, [adder("below", 5), adder("above", 15), adder("over", 20)])
    for pair in found:
        away = sorted(abs(int(image[0, 0, 0]) - 100) for image in (pair.a, pair.b))
        assert (pair.choice == "similar") == (away[0] == away[1]) == (abs(pair.difference) <= pairs.TIE_BAND)
    assert {pair.choice for pair in found} == {"A", "B", "similar"}


def test_tools_that_fail_or_change_nothing_are_passed_over(plain: Bytes) -> None:
    class Broken:
        info = ToolInfo("broken", ("noise", "blur", "compression", "darken"), "fails")

        def restore(self, image: Tensor, seed: int = 0) -> Tensor:
            raise ToolError("no")

    enlarging = ClassicalTool(
        ToolInfo("large", ("noise", "blur", "compression", "darken"), "enlarges", scale=2),
        lambda image: image.repeat(2, 0).repeat(2, 1),
    )
    useless = [Broken(), adder("nothing", 0), enlarging]
    for pair in restored(plain, 20, [*useless, adder("five", 5)]):
        assert {int(pair.a[0, 0, 0]), int(pair.b[0, 0, 0])} == {90, 95}, "only one works: the input is the other"
    for pair in restored(plain, 4, useless):
        assert pair.choice == "similar" and pair.difference == 0 and np.array_equal(pair.a, pair.b)


def test_tools_for_the_class_come_first(plain: Bytes) -> None:
    tools = classical_tools()
    fitting = {tool.info.name for tool in tools if "blur" in tool.info.treats}

    def order(seed: int) -> list[str]:
        drawn = pairs._in_turn(tools, ["blur"], np.random.default_rng(seed))
        return [tool.info.name for tool in cast(list[Tool], drawn)]

    orders = [order(seed) for seed in range(200)]
    assert all(sorted(one) == sorted(tool.info.name for tool in tools) for one in orders)
    mistaken = [one for one in orders if one[0] not in fitting]
    assert 30 < len(mistaken) < 70
    assert all(set(one[: len(fitting) + (one in mistaken)]) >= fitting for one in orders)


def test_real_tools_on_a_real_photograph(photograph: Photograph) -> None:
    found = restored(photograph("astronaut", 300), 30, classical_tools())
    assert {pair.choice for pair in found} == {"A", "B", "similar"}
    for pair in found:
        assert not np.array_equal(pair.a, pair.b)
        assert (pair.choice == "A") == (pair.difference > pairs.TIE_BAND)
    touched = [any(np.array_equal(image, pair.reference) for image in (pair.a, pair.b)) for pair in found]
    assert 5 < sum(touched) < 25


def test_psnr() -> None:
    clean = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(clean + 10, clean) == pytest.approx(20 * np.log10(25.5))
    assert psnr(clean - 10, clean) == psnr(clean + 10, clean), "no wrapping round below zero"
    assert psnr(clean, clean) == pytest.approx(58.92, abs=0.01)


def test_the_classical_tools_keep_the_size() -> None:
    assert {tool.info.scale for tool in classical_tools()} == {1}
    treated = {treatment for tool in classical_tools() for treatment in tool.info.treats}
    assert treated == set(pairs._PERCEIVED)
