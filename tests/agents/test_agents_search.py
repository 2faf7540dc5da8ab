"""Beam and exhaustive search, the first accepted output, plans that name tools, and a run that is watched."""

from __future__ import annotations

from itertools import permutations

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from iqloop.agents import Budget, Restoration, RestoreSettings, restore
from iqloop.agents.settings import parse_search
from iqloop.agents.trace import to_document, trace_schema, without_times
from iqloop.critic.verdicts import Unparsed
from iqloop.errors import UsageError
from tests.agents.agents_fakes import CLEAN, FakeTool, Tools, World, degradation, photograph, psnr_critic, tool


def run(world: World, tools: Tools, search: str, **options: object) -> Restoration:
    options.setdefault("tools_per_step", 3)
    options.setdefault("order", (("compression",), ("noise", "blur"), ("darken",)))
    settings = RestoreSettings(search=search, **options)  # type: ignore[arg-type]
    free = Budget(max_steps=None, max_tool_calls=None, max_critic_calls=None)
    result = restore(world.images["input"], world.critic(), tools, settings=settings, budget=free)
    jsonschema.Draft202012Validator(trace_schema()).validate(to_document(result.trace))
    return result


def trap() -> tuple[World, Tools]:
    """The better first step leads to a dead end; the best picture lies behind the worse one."""
    both = degradation(noise=2.5, compression=2.0)
    world = World(
        {
            "input": (2.0, both),
            "dejpegged": (3.0, degradation(noise=2.0)),
            "denoised": (2.5, degradation(compression=2.0)),
            "dead end": (2.9, degradation(noise=1.9)),
            "best": (4.5, CLEAN),
        }
    )
    dejpeg = world.tool("dejpeg", "compression", {"input": "dejpegged", "denoised": "best"})
    denoise = world.tool("denoise", "noise", {"input": "denoised", "dejpegged": "dead end"})
    return world, Tools(dejpeg, denoise)


def test_greedy_walks_into_the_trap_and_a_beam_of_two_does_not() -> None:
    world, tools = trap()
    assert run(world, tools, "greedy").steps == ("dejpeg",)
    assert run(world, tools, "beam:1").steps == ("dejpeg",)
    wide = run(world, tools, "beam:2")
    assert wide.steps == ("denoise", "dejpeg") and wide.stop_reason == "done"
    assert world.name(wide.image) == "best"
    assert run(world, tools, "exhaustive").steps == ("denoise", "dejpeg")


def test_a_beam_keeps_its_width_and_meets_no_picture_twice() -> None:
    levels = {"noise": 0.9, "blur": 0.9, "compression": 0.9, "darken": 0.9}
    names = ["".join(sorted(part)) for n in range(5) for part in permutations("nbcd", n)]
    states = {name or "input": (2.0 + 0.4 * len(name), degradation(**levels)) for name in dict.fromkeys(names)}
    world = World(states)
    ways = {
        letter: {name or "input": "".join(sorted(name + letter)) for name in set(names) if letter not in name}
        for letter in "nbcd"
    }
    treatments = {"n": "noise", "b": "blur", "c": "compression", "d": "darken"}
    tools = Tools(*(world.tool(letter, treatments[letter], ways[letter]) for letter in "nbcd"))  # type: ignore[arg-type]
    for width in (1, 2, 3):
        for step in (found := run(world, tools, f"beam:{width}")).trace.steps:
            assert len(step.tries) == 1
        rounds: dict[int, set[str]] = {}
        for step in found.trace.steps:
            start = next(made for made in found.trace.candidates if made.id == step.started_from)
            depth = 0
            while start.parent is not None:
                start = next(made for made in found.trace.candidates if made.id == start.parent)
                depth += 1
            rounds.setdefault(depth, set()).add(step.started_from)
        assert all(len(starts) <= width for starts in rounds.values())
        assert len(found.steps) == 4 and found.stop_reason == "no-further-improvement"


def test_exhaustive_tries_every_order_once() -> None:
    levels = {"noise": 0.9, "blur": 0.9, "compression": 0.9}
    orders = [order for n in range(4) for order in permutations("nbc", n)]
    # Only n then c then b is good; every other picture looks worse than the input.
    states = {
        "".join(order) or "input": (
            4.0 if order == ("n", "c", "b") else 2.0 if not order else 1.0,
            degradation(**levels),
        )
        for order in orders
    }
    world = World(states)
    ways = {
        letter: {"".join(order) or "input": "".join((*order, letter)) for order in orders if letter not in order}
        for letter in "nbc"
    }
    tools = Tools(
        world.tool("n", "noise", ways["n"]),
        world.tool("b", "blur", ways["b"]),
        world.tool("c", "compression", ways["c"]),
    )
    result = run(world, tools, "exhaustive")
    assert result.steps == ("n", "c", "b")
    assert result.tool_calls == tools.calls == 15 == len({made.sha256 for made in result.trace.candidates}) - 1
    cut = restore(
        world.images["input"],
        world.critic(),
        tools,
        settings=RestoreSettings(search="exhaustive", order=(("compression",), ("noise", "blur"))),
        budget=Budget(max_tool_calls=4),
    )
    assert cut.stop_reason == "max-tool-calls" and cut.tool_calls == 4 and not cut.improved


@pytest.mark.parametrize("search", ["greedy", "beam:2", "exhaustive"])
def test_every_search_leaves_alone_what_nothing_improves(search: str) -> None:
    world = World({"input": (3.0, degradation(noise=2.0)), "worse": (2.0, degradation(noise=3.0))})
    image = world.images["input"]
    result = run(world, Tools(world.tool("bad", "noise", {"input": "worse"})), search)
    assert result.image is image and result.stop_reason == "no-improvement"
    assert run(world, Tools(), search).stop_reason == "no-tools"
    world.states["input"] = (3.0, CLEAN)
    assert run(world, Tools(world.tool("t", "noise", {})), search).stop_reason == "clean"
    world.states["input"] = (3.0, Unparsed("blah", "no JSON"))
    assert run(world, Tools(world.tool("t", "noise", {})), search).stop_reason == "unparsed"


def test_a_step_ends_with_the_first_accepted_output() -> None:
    world = World({"input": (2.0, degradation(noise=3.0)), "good": (3.0, CLEAN), "better": (4.0, CLEAN)})
    tools = Tools(world.tool("a", "noise", {"input": "good"}), world.tool("b", "noise", {"input": "better"}))
    assert run(world, tools, "greedy").steps == ("a",) and tools.calls == 1
    assert run(world, tools, "greedy", first_accepted=False).steps == ("b",)


def test_a_plan_may_name_tools() -> None:
    world = World({"input": (2.0, degradation(noise=3.0)), "good": (3.0, CLEAN), "better": (4.0, CLEAN)})
    first, second = (
        world.tool("a", "noise", {"input": "good"}),
        world.tool("b", "noise", {"input": "better", "good": "better"}),
    )
    tools = Tools(first, second)
    result = run(world, tools, "greedy", plan=("b",))
    assert result.steps == ("b",) and result.stop_reason == "done" and first.calls == 0
    assert run(world, tools, "greedy", exclude=("a",)).steps == ("b",)
    assert run(world, tools, "greedy", only=("b",)).steps == ("b",)
    assert run(world, tools, "greedy", plan=("a", "b"), repeats=2).steps == ("a", "b")
    for option in ("plan", "only", "exclude"):
        with pytest.raises(UsageError, match=f"{option}: expected some of .* got c"):
            run(world, tools, "greedy", **{option: ("c",)})


def test_an_order_replaces_the_prior() -> None:
    world, tools = trap()
    result = run(world, tools, "greedy", order=(("noise",), ("compression",)))
    assert result.steps == ("denoise", "dejpeg") and world.name(result.image) == "best"


def test_steps_are_told_while_they_happen() -> None:
    world, tools = trap()
    settings = RestoreSettings(search="beam:2")
    result = restore(world.images["input"], world.critic(), tools, settings=settings)
    assert tools.calls == 0 and "running" in repr(result)
    seen = []
    for step in result:
        seen.append(step)
        assert step.index == len(seen) <= tools.calls
        if len(seen) == 2:
            break
    assert tools.calls == 2
    assert list(result)[:2] == seen and list(result) == list(result.trace.steps)
    calls = tools.calls
    assert result.image is result.image and tools.calls == calls
    assert repr(result) == "Restoration(denoise + dejpeg, done)"
    whole = restore(world.images["input"], world.critic(), tools, settings=RestoreSettings(search="beam:2"))
    assert without_times(whole.trace) == without_times(result.trace)


def test_what_the_critic_raises_is_not_hidden() -> None:
    world, tools = trap()
    critic = world.critic()
    critic.score = None  # type: ignore[method-assign,assignment]
    result = restore(world.images["input"], critic, tools)
    with pytest.raises(TypeError):
        _ = result.image
    with pytest.raises(UsageError, match="interrupted"):
        _ = result.image


def test_any_source_is_taken_and_saved_with_what_came_in(tmp_path: object) -> None:
    from pathlib import Path

    clean = photograph(size=96)
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    pixels = (noisy * 255).round().byte().permute(1, 2, 0).numpy()
    alpha = np.full((96, 96, 1), 128, np.uint8)
    picture = Image.fromarray(np.concatenate([pixels, alpha], axis=2))
    mend: FakeTool = tool("mend", "noise", lambda image: 0.5 * image + 0.5 * clean)
    critic = psnr_critic(clean, lambda image: degradation(noise=2.0))
    result = restore(picture, critic, Tools(mend))
    assert result.steps == ("mend",)
    saved = result.save(Path(str(tmp_path)) / "out.png")
    with Image.open(saved) as back:
        assert back.mode == "RGBA" and back.getchannel("A").getextrema() == (128, 128)


def test_names_of_searches() -> None:
    assert [parse_search(name) for name in ("greedy", "beam:12", "none")] == [("greedy", 1), ("beam", 12), ("none", 1)]
