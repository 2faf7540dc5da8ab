"""Baselines: sequences are run in their order, shared beginnings once, and the oracle is the best there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from iqloop.agents.baselines import Outputs, all_chains, best_of, prior_chain, random_chain
from iqloop.agents.order import default_stages
from iqloop.errors import ToolError

from .agents_fakes import FakeTool, photograph, tool

IMAGE = photograph("coffee", 100, 150, size=32)
NAMES = ("brighter", "darker", "flip", "square")


def toys() -> list[FakeTool]:
    """Four tools whose order matters."""
    return [
        tool("brighter", "darken", lambda x: (x + 0.3).clamp(0, 1)),
        tool("darker", "noise", lambda x: x * 0.6),
        tool("flip", "blur", lambda x: 1 - x),
        tool("square", "compression", lambda x: x**2),
    ]


def by_hand(names: tuple[str, ...]) -> Tensor:
    image = IMAGE
    changes = {one.info.name: one.change for one in toys()}
    for name in names:
        image = changes[name](image)
    return image


@pytest.mark.parametrize("target", [0.2, 0.55, 0.9])
def test_the_oracle_is_the_best_of_everything(target: float) -> None:
    def value(image: Tensor) -> float:
        return -abs(float(image.mean()) - target)

    everything = [chain for length in range(4) for chain in itertools.permutations(NAMES, length)]
    best = max(value(by_hand(chain)) for chain in everything)
    found = best_of(IMAGE, all_chains(NAMES, 3), Outputs(toys()), value)
    assert value(found.image) == best == value(by_hand(found.tools))
    singles = best_of(IMAGE, [(name,) for name in NAMES], Outputs(toys()), value)
    assert value(singles.image) == max(value(by_hand((name,))) for name in NAMES) <= best


def test_nothing_is_the_best_where_everything_harms() -> None:
    found = best_of(IMAGE, all_chains(NAMES, 3), Outputs(toys()), lambda image: -float((image - IMAGE).abs().max()))
    assert found.tools == () and found.image is IMAGE


def test_beginnings_are_shared_and_counted_once() -> None:
    tools = toys()
    ticks = iter(range(1000))
    outputs = Outputs(tools, clock=lambda: float(next(ticks)))
    chains = all_chains(NAMES, 3)
    assert len(chains) == len(set(chains)) == 41 and chains[0] == ()
    found = best_of(IMAGE, chains, outputs, lambda image: float(image.mean()))
    # Each run lasts one tick of the clock.
    assert found.tool_calls == 40 and found.seconds == 40
    assert sum(one.calls for one in tools) == 40
    again = best_of(IMAGE, [("flip", "square", "darker")], outputs, lambda image: 0.0)
    assert (again.tool_calls, again.seconds) == (3, 3), "what they cost, though they were known"
    assert sum(one.calls for one in tools) == 40, "made before"


def test_outputs_are_known_by_what_they_were_made_from() -> None:
    idle = tool("idle", "noise", lambda x: x.clone())
    twice = tool("square", "blur", lambda x: x**2)
    best_of(IMAGE, [("idle", "square"), ("square",)], Outputs([idle, twice]), lambda image: 0.0)
    assert (idle.calls, twice.calls) == (1, 1), "an output that equals the input is the input"


def test_a_sequence_is_run_in_its_order() -> None:
    for chain in (("flip", "square"), ("square", "flip"), NAMES):
        found = best_of(IMAGE, [chain], Outputs(toys(), seed=3), lambda image: 0.0)
        assert found.tools == chain and torch.equal(found.image, by_hand(chain))
    assert not torch.equal(by_hand(("flip", "square")), by_hand(("square", "flip")))


def test_seeds_reach_the_tools() -> None:
    one = tool("flip", "blur", lambda x: 1 - x)
    best_of(IMAGE, [("flip",)], Outputs([one], seed=7), lambda image: 0.0)
    assert one.seeds == [7]


def test_an_output_that_is_no_image_is_named() -> None:
    broken = tool("broken", "noise", lambda x: x * math.nan)
    with pytest.raises(ToolError, match="broken: values that are not finite"):
        best_of(IMAGE, [("broken",)], Outputs([broken]), lambda image: 0.0)


def test_a_tool_that_works_in_place_spoils_nothing() -> None:
    outputs = Outputs([tool("greedy", "noise", lambda x: x.mul_(0.5)), tool("flip", "blur", lambda x: 1 - x)])
    before = IMAGE.clone()
    found = best_of(IMAGE, all_chains(("greedy", "flip"), 2), outputs, lambda image: -float(image.mean()))
    assert torch.equal(IMAGE, before)
    assert found.tools == ("greedy",)


def test_the_fixed_order_is_that_of_the_prior() -> None:
    infos = [one.info for one in toys()]
    place = {treatment: number for number, stage in enumerate(default_stages()) for treatment in stage}
    found = prior_chain(infos)
    assert sorted(found) == sorted(NAMES)
    treats = {info.name: info.treats[0] for info in infos}
    assert [place[treats[name]] for name in found] == sorted(place[treats[name]] for name in found)


def test_random_orders_are_drawn_and_repeat() -> None:
    drawn = [random_chain(NAMES, np.random.default_rng(seed)) for seed in range(40)]
    assert all(sorted(chain) == sorted(NAMES) for chain in drawn) and len(set(drawn)) > 10
    assert drawn[3] == random_chain(NAMES, np.random.default_rng(3))
