"""The loop in a scripted world: what is accepted, what is refused, what it costs and why it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import pytest
import torch
from torch import Tensor

from iqloop.agents import Budget, Cache, Event, JudgeSettings, Restoration, RestoreSettings, restore
from iqloop.agents.resize import at_size, enlarge
from iqloop.agents.stop import STOP_REASONS
from iqloop.agents.trace import to_document, to_json, trace_schema, with_files, without_times
from iqloop.critic.verdicts import Unparsed
from iqloop.errors import ImageReadError, ToolError, UsageError
from tests.agents.agents_fakes import (
    CLEAN,
    Clock,
    FakeCritic,
    FakeTool,
    Tools,
    World,
    degradation,
    photograph,
    psnr_critic,
    tool,
)

UNREAD = Unparsed("blah", "no JSON")
NOISY = degradation(noise=3.0)
ALL = RestoreSettings(first_accepted=False, tools_per_step=3)
COMPRESSION_FIRST = (("compression",), ("noise", "blur"), ("darken",))
ORDERED = RestoreSettings(order=COMPRESSION_FIRST)  # type: ignore[arg-type]


def check(outcome: Restoration) -> Restoration:
    """Every trace satisfies its schema and survives JSON."""
    document = to_document(outcome.trace)
    jsonschema.Draft202012Validator(trace_schema()).validate(document)
    assert json.loads(to_json(outcome.trace)) == document
    assert outcome.stop_reason in STOP_REASONS
    return outcome


def noisy_world() -> World:
    return World(
        {
            "input": (2.0, NOISY),
            "mended": (4.0, CLEAN),
            "better": (3.0, degradation(noise=1.0)),
            "worse": (1.5, degradation(noise=4.0)),
            "same": (2.02, degradation(noise=2.0)),
            "blurred": (3.0, degradation(blur=4.0)),
            "noisier": (3.0, degradation(noise=3.5)),
            "unread": (UNREAD, CLEAN),
            "unseen": (3.0, UNREAD),
        }
    )


def run(world: World, tools: Tools, *, critic: FakeCritic | None = None, **options: object) -> Restoration:
    options.setdefault("settings", RestoreSettings(tools_per_step=3))
    return check(restore(world.images["input"], critic or world.critic(), tools, **options))  # type: ignore[arg-type]


def only_reason(outcome: Restoration) -> str:
    (step,) = outcome.trace.steps
    (attempt,) = step.tries
    return attempt.reason


def test_the_best_accepted_output_is_taken() -> None:
    world = noisy_world()
    ways = {"a": "better", "b": "mended", "c": "worse"}
    tools = Tools(*(world.tool(n, "noise", {"input": to}) for n, to in ways.items()))
    outcome = run(world, tools, settings=ALL)
    assert outcome.improved and outcome.steps == ("b",) and outcome.stop_reason == "done"
    assert world.name(outcome.image) == "mended"
    assert (outcome.score_before, outcome.score_after) == (2.0, 4.0)
    assert [t.decision for t in outcome.trace.steps[0].tries] == ["accepted", "taken", "refused"]
    assert outcome.tool_calls == tools.calls == 3


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("worse", "score gain over the current best"),
        ("same", "score gain over the current best"),
        ("blurred", "all degradations rises"),
        ("noisier", "severity of noise changes"),
        ("unread", "no evidence: a score"),
        ("unseen", "no evidence: a diagnosis"),
        ("input", "equals the current best"),
    ],
)
def test_bad_outputs_leave_the_input_alone(to: str, words: str) -> None:
    world = noisy_world()
    image = world.images["input"]
    before = image.clone()
    outcome = run(world, Tools(world.tool("bad", "noise", {"input": to})))
    assert outcome.image is image and torch.equal(image, before)
    assert not outcome.improved and outcome.steps == () and outcome.stop_reason == "no-improvement"
    assert outcome.score_after == outcome.score_before
    assert words in only_reason(outcome)


def test_thresholds_are_settings() -> None:
    world = noisy_world()
    for to, judge in (
        ("same", JudgeSettings(min_gain=0.01)),
        ("blurred", JudgeSettings(max_total_rise=5)),
        ("noisier", JudgeSettings(max_severity_change=0.5)),
    ):
        tools = Tools(world.tool("bold", "noise", {"input": to}))
        assert run(world, tools, settings=RestoreSettings(judge=judge)).improved, to


def test_comparison_must_agree_with_the_score() -> None:
    world = noisy_world()
    tools = Tools(world.tool("t", "noise", {"input": "mended"}))
    asked: list[tuple[str, str, str]] = []

    def prefer(probability: float | Unparsed) -> Callable[[str, str, str], float | Unparsed]:
        def compare(a: str, b: str, reference: str) -> float | Unparsed:
            asked.append((a, b, reference))
            return probability

        return compare

    assert run(world, tools, critic=world.critic(prefer(0.9))).trace.steps[0].tries[0].judgement.probability == 0.9  # type: ignore[union-attr]
    assert asked == [("mended", "input", "input")]
    similar = run(world, tools, critic=world.critic(prefer(0.5)))
    assert not similar.improved and "not preferred to the current best" in only_reason(similar)
    assert "comparison" in only_reason(run(world, tools, critic=world.critic(prefer(UNREAD))))
    ignoring = RestoreSettings(judge=JudgeSettings(use_comparison=False))
    assert run(world, tools, critic=world.critic(prefer(0.1)), settings=ignoring).improved


def test_it_must_beat_the_input_too() -> None:
    world = World(
        {
            "input": (2.0, degradation(compression=2.0, noise=2.0)),
            "first": (3.0, degradation(noise=2.0)),
            "second": (4.0, CLEAN),
        }
    )
    tools = Tools(
        world.tool("deblock", "compression", {"input": "first"}), world.tool("denoise", "noise", {"first": "second"})
    )

    def compare(a: str, b: str, reference: str) -> float:
        return 0.2 if (a, b) == ("second", "input") else 0.9

    outcome = run(world, tools, critic=world.critic(compare))
    assert outcome.steps == ("deblock",)
    assert any("not preferred to the input" in t.reason for s in outcome.trace.steps for t in s.tries)
    assert run(world, tools).steps == ("deblock", "denoise")


def test_lower_better_and_score_only_critics() -> None:
    world = noisy_world()
    scores = {"input": 60.0, "mended": 20.0, "worse": 90.0}
    for range_ in ((0.0, 100.0), (0.0, float("inf"))):
        critic = FakeCritic(lambda image: scores[world.name(image)], score_range=range_, lower_better=True)
        tools = Tools(world.tool("bad", "noise", {"input": "worse"}), world.tool("good", "noise", {"input": "mended"}))
        outcome = run(world, tools, critic=critic)
        assert outcome.steps == ("good",) and outcome.score_after == 20.0
        # Nobody can say that nothing is left.
        assert outcome.stop_reason == "no-further-improvement"


def test_a_tool_that_raises_is_a_refused_try() -> None:
    world = noisy_world()

    def fail(error: Exception) -> Callable[[Tensor], Tensor]:
        def change(image: Tensor) -> Tensor:
            image.zero_()  # and spoils its argument
            raise error

        return change

    tools = Tools(
        tool("a", "noise", fail(ToolError("too small"))),
        tool("b", "noise", fail(MemoryError())),
        world.tool("c", "noise", {"input": "mended"}),
    )
    outcome = run(world, tools, settings=RestoreSettings(tools_per_step=3))
    assert outcome.steps == ("c",) and outcome.tool_calls == 3
    assert [t.reason for t in outcome.trace.steps[0].tries][:2] == ["ToolError: too small", "MemoryError"]
    assert [t.decision for t in outcome.trace.steps[0].tries] == ["failed", "failed", "taken"]


def test_a_tool_that_does_not_load_is_a_refused_try() -> None:
    class Broken(FakeTool):
        def load(self) -> FakeTool:
            raise ImportError("no such package")

    world = noisy_world()
    broken = Broken(tool("x", "noise", lambda x: x).info, lambda x: x)
    assert "ImportError" in only_reason(run(world, Tools(broken)))


def test_insane_outputs_fail() -> None:
    world = noisy_world()
    for change, words in (
        (lambda x: x * float("nan"), "not finite"),
        (lambda x: torch.zeros_like(x), "flat"),
        (lambda x: x[:, :-1], "wrong shape"),
    ):
        assert words in only_reason(run(world, Tools(tool("t", "noise", change))))


# -- stop reasons


def test_clean_images_are_left_alone_without_a_tool_call() -> None:
    world = World({"input": (4.5, degradation(noise=1.0)), "mended": (5.0, CLEAN)})  # null with probability 0.8
    tools = Tools(world.tool("t", "noise", {"input": "mended"}))
    outcome = run(world, tools)
    assert outcome.stop_reason == "clean" and outcome.tool_calls == 0 and outcome.image is world.images["input"]
    # A user's plan stands above the diagnosis.
    assert run(world, tools, settings=RestoreSettings(plan=("noise",))).steps == ("t",)
    assert run(world, tools, settings=RestoreSettings(judge=JudgeSettings(clean_probability=0.9))).steps == ("t",)


def test_only_and_exclude() -> None:
    world = noisy_world()
    tools = Tools(world.tool("t", "noise", {"input": "mended"}))
    for settings in (RestoreSettings(only=("blur",)), RestoreSettings(exclude=("noise",))):
        assert run(world, tools, settings=settings).stop_reason == "clean"


def test_no_tools() -> None:
    outcome = run(noisy_world(), Tools())
    assert outcome.stop_reason == "no-tools" and "no tool was tried" in outcome.trace.steps[0].decision


def test_no_further_improvement() -> None:
    world = noisy_world()
    tools = Tools(world.tool("t", "noise", {"input": "better"}))
    outcome = run(world, tools)
    assert outcome.steps == ("t",) and outcome.stop_reason == "done"
    world.states["better"] = (3.0, degradation(noise=2.5))
    outcome = run(world, tools, settings=RestoreSettings(repeats=2))
    assert outcome.steps == ("t",) and outcome.stop_reason == "no-further-improvement"


def test_perceive_only() -> None:
    world = noisy_world()
    outcome = run(world, Tools(world.tool("t", "noise", {})), settings=RestoreSettings(search="none"), scale=2)
    assert outcome.stop_reason == "perceive-only" and outcome.tool_calls == 0
    assert outcome.image is world.images["input"] and outcome.score_before == 2.0
    assert outcome.trace.diagnosis == NOISY


@pytest.mark.parametrize("search", ["greedy", "none"])
def test_unparsed_first_diagnosis(search: str) -> None:
    world = noisy_world()
    world.states["input"] = (2.0, UNREAD)
    tools = Tools(world.tool("t", "noise", {"input": "mended"}))
    outcome = run(world, tools, settings=RestoreSettings(search=search))
    assert outcome.stop_reason == "unparsed" and not outcome.improved and outcome.tool_calls == 0


def test_unparsed_or_infinite_first_score() -> None:
    for score in (UNREAD, float("nan"), float("inf")):
        world = noisy_world()
        world.states["input"] = (score, NOISY)
        outcome = run(world, Tools(world.tool("t", "noise", {"input": "mended"})))
        assert outcome.stop_reason == "unparsed" and outcome.score_before is None


# -- budgets


def test_budgets_are_exact() -> None:
    world = noisy_world()
    tools = Tools(*(world.tool(n, "noise", {"input": to}) for n, to in (("a", "better"), ("b", "mended"))))
    for limit in range(3):
        outcome = run(world, tools, settings=ALL, budget=Budget(max_tool_calls=limit))
        assert outcome.tool_calls == limit
        assert outcome.stop_reason == ("max-tool-calls" if limit < 2 else "done")
        # What was accepted before the limit is kept.
        assert outcome.steps == ((), ("a",), ("b",))[limit]
    needed = run(world, tools, settings=ALL, budget=Budget(max_critic_calls=None)).critic_calls
    for limit in range(needed + 1):
        critic = world.critic()
        outcome = run(world, tools, critic=critic, settings=ALL, budget=Budget(max_critic_calls=limit))
        assert outcome.critic_calls == len(critic.asked) <= limit
        assert outcome.stop_reason == ("max-critic-calls" if limit < needed else "done"), limit
    assert run(world, tools, settings=ALL, budget=Budget(max_steps=0)).stop_reason == "max-steps"
    assert run(world, tools, settings=ALL, budget=Budget(max_steps=1)).stop_reason == "done"


def test_time_limit_with_an_injected_clock() -> None:
    world = noisy_world()
    clock = Clock()

    def slow(image: Tensor) -> Tensor:
        clock.now += 10
        return world.images["better"].clone()

    tools = Tools(tool("slow", "noise", slow), world.tool("next", "noise", {"input": "mended"}))
    outcome = run(world, tools, budget=Budget(time_limit=5), clock=clock)
    assert outcome.stop_reason == "time-limit" and outcome.seconds == 10
    assert outcome.trace.steps[0].tries[0].reason == "not judged: time-limit"
    assert run(world, tools, budget=Budget(time_limit=0), clock=clock).trace.diagnosis is None


def test_nothing_is_computed_twice() -> None:
    world = noisy_world()
    tools = Tools(world.tool("a", "noise", {"input": "worse"}), world.tool("b", "noise", {"input": "mended"}))
    cache = Cache()
    critic = world.critic()
    first = run(world, tools, critic=critic, cache=cache)
    # Input and "mended" are scored and perceived, "worse" only scored; the rest of the questions are hits.
    assert sorted(critic.asked) == ["perceive"] * 2 + ["score"] * 3
    assert first.critic_calls == 5 and first.trace.spent.critic_cache_hits > 0
    again = run(world, tools, critic=critic, cache=cache)
    assert (again.tool_calls, again.critic_calls) == (0, 0) and again.trace.spent.tool_cache_hits == 2
    assert torch.equal(again.image, first.image) and tools.calls == 2
    assert run(world, tools, critic=critic, cache=cache, seed=1).tool_calls == 2


def test_the_output_cache_is_bounded() -> None:
    cache = Cache(max_bytes=100)
    for number in range(5):
        cache.keep_output((str(number),), torch.zeros(3, 2, 2))  # 48 bytes each
    assert [cache.output((str(n),)) is not None for n in range(5)] == [False, False, False, True, True]
    cache.keep_output(("large",), torch.zeros(3, 9, 9))
    assert cache.output(("large",)) is None


# -- order, going back


def test_steps_follow_the_plan_and_start_from_the_current_best() -> None:
    both = degradation(compression=1.0, noise=3.0)
    world = World({"input": (2.0, both), "a": (3.0, degradation(noise=3.0)), "b": (4.0, CLEAN)})
    tools = Tools(world.tool("denoise", "noise", {"a": "b"}), world.tool("deblock", "compression", {"input": "a"}))
    outcome = run(world, tools, settings=ORDERED)
    assert outcome.steps == ("deblock", "denoise") and outcome.stop_reason == "done"
    assert [s.started_from for s in outcome.trace.steps] == ["c0", "c1"]
    reverse = run(world, tools, settings=RestoreSettings(plan=("noise", "compression")))
    assert [s.treatment for s in reverse.trace.steps][:2] == ["noise", "compression"]
    # Denoising failed on the input and is tried again on the changed image.
    assert reverse.steps == ("deblock", "denoise")


def redo_world() -> tuple[World, Tools]:
    both = degradation(compression=1.0, noise=3.0)
    world = World(
        {
            "input": (2.0, both),
            "deblocked": (2.5, degradation(noise=3.0)),
            "smeared": (1.5, degradation(noise=3.0)),
            "denoised": (4.0, degradation(compression=1.0)),
            "both": (4.5, CLEAN),
        }
    )
    tools = Tools(
        world.tool("deblock", "compression", {"input": "deblocked", "denoised": "both"}),
        world.tool("denoise", "noise", {"input": "denoised", "deblocked": "smeared"}),
    )
    return world, tools


def test_redo_from_the_original() -> None:
    world, tools = redo_world()
    world.states["denoised"] = (4.0, degradation(compression=2.0))
    outcome = run(world, tools, settings=ORDERED)
    kinds = [(s.kind, s.treatment, s.started_from) for s in outcome.trace.steps]
    assert kinds[:3] == [("treat", "compression", "c0"), ("treat", "noise", "c1"), ("redo", "noise", "c0")]
    # The wrong order is undone: the other degradation is treated anew on the new lineage.
    assert outcome.steps == ("denoise", "deblock") and outcome.stop_reason == "done"
    off = run(world, tools, settings=replace(ORDERED, redo=False))
    assert off.steps == ("deblock",) and off.stop_reason == "no-further-improvement"


def test_a_redo_must_beat_the_current_best_and_happens_once() -> None:
    world, tools = redo_world()
    world.states["denoised"] = (2.4, degradation(compression=2.0))
    outcome = run(world, tools, settings=ORDERED)
    assert outcome.steps == ("deblock",)
    assert [s.kind for s in outcome.trace.steps].count("redo") == 1


def test_no_redo_of_what_was_tried_on_the_original_nor_of_light() -> None:
    world, tools = redo_world()
    # Noise first: its output is refused, compression is mended, and noise fails on that too.
    world.states["denoised"] = (1.9, degradation(compression=2.0))
    outcome = run(world, tools, settings=RestoreSettings(plan=("noise", "compression")))
    kinds = [(s.kind, s.treatment, s.started_from) for s in outcome.trace.steps]
    assert kinds == [("treat", "noise", "c0"), ("treat", "compression", "c0"), ("treat", "noise", "c2")]
    dark = degradation(compression=1.0, darken=3.0)
    world = World({"input": (2.0, dark), "deblocked": (2.5, degradation(darken=3.0)), "pale": (1.5, CLEAN)})
    tools = Tools(
        world.tool("deblock", "compression", {"input": "deblocked"}),
        world.tool("light", "darken", {"input": "pale", "deblocked": "pale"}),
    )
    outcome = run(world, tools, settings=RestoreSettings(plan=("compression", "darken")))
    assert [(s.kind, s.treatment) for s in outcome.trace.steps] == [("treat", "compression"), ("treat", "darken")]


# -- real photographs


def denoising_run(change: Callable[[Tensor], Tensor]) -> Restoration:
    clean = photograph()
    given = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    # A critic without taste: whatever is not the input is perfect.
    critic = FakeCritic(
        lambda image: 2.0 if image is given else 5.0,
        lambda image: NOISY if image is given else CLEAN,
        lambda a, b, r: 1.0,
    )
    return check(restore(given, critic, Tools(tool("t", "noise", change))))


def test_the_fidelity_gate_stands_against_the_critic() -> None:
    clean = photograph()
    assert denoising_run(lambda image: clean.clone()).improved
    for change in (
        lambda image: photograph("coffee", top=60),
        lambda image: clean.roll(10, 2),
        lambda image: enlarge(at_size(clean, (4, 4)), 32),
    ):
        outcome = denoising_run(change)
        assert not outcome.improved and "content not kept" in only_reason(outcome)
        judged = outcome.trace.steps[0].tries[0].judgement
        assert judged is not None and judged.fidelity is not None and judged.score_after is None


# -- upscaling


def test_an_upscaler_that_beats_bicubic_is_taken() -> None:
    clean = photograph()
    small = at_size(clean, (64, 64))
    good = tool("sr", "low-resolution", lambda image: 0.5 * enlarge(image, 2) + 0.5 * clean, scale=2)
    bad = tool(
        "nearest", "low-resolution", lambda image: image.repeat_interleave(2, 1).repeat_interleave(2, 2), scale=2
    )
    critic = psnr_critic(clean, lambda image: CLEAN)
    settings = RestoreSettings(only=("noise",), tools_per_step=2)
    outcome = check(restore(small, critic, Tools(bad, good), scale=2, settings=settings))
    assert outcome.steps == ("sr",) and outcome.stop_reason == "done" and outcome.image.shape == clean.shape
    assert outcome.score_after is not None and outcome.score_before is not None
    assert outcome.score_after > outcome.score_before
    assert outcome.trace.steps[-1].kind == "upscale"
    fallback = check(restore(small, critic, Tools(bad), scale=2))
    assert fallback.stop_reason == "bicubic" and not fallback.improved and fallback.steps == ()
    assert torch.equal(fallback.image, enlarge(small, 2))
    assert "bicubic" in fallback.trace.steps[-1].decision


def test_the_size_asked_for_is_always_given() -> None:
    small = photograph(size=32)
    critic = FakeCritic(lambda image: 3.0, lambda image: NOISY)
    for budget in (Budget(), Budget(max_critic_calls=0), Budget(max_steps=0), Budget(max_tool_calls=0)):
        for tools in (Tools(), Tools(tool("x4", "low-resolution", lambda image: enlarge(image, 4).flip(2), scale=4))):
            outcome = check(restore(small, critic, tools, scale=4, budget=budget))
            assert outcome.image.shape == (3, 128, 128)
            assert torch.equal(outcome.image, enlarge(small, 4)) and not outcome.improved
            assert "bicubic" in outcome.trace.steps[-1].decision
    no_upscaler = restore(small, critic, Tools(), scale=2, settings=RestoreSettings(exclude=("low-resolution",)))
    assert no_upscaler.stop_reason == "bicubic"


def test_restoration_comes_before_upscaling() -> None:
    clean = photograph()
    small = at_size(clean, (64, 64))
    given = (small + 0.1 * torch.randn(small.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    critic = psnr_critic(clean, lambda image: NOISY if image is given else CLEAN)
    tools = Tools(
        tool("denoise", "noise", lambda image: small.clone()),
        tool("sr", "low-resolution", lambda image: 0.5 * enlarge(image, 2) + 0.5 * clean, scale=2),
    )
    outcome = check(restore(given, critic, tools, scale=2))
    assert outcome.steps == ("denoise", "sr")
    assert outcome.trace.steps[-1].started_from == "c1"


# -- determinism, trace, events


def test_two_runs_with_one_seed_give_equal_traces() -> None:
    world, tools = redo_world()
    clock = Clock()

    def ticking() -> float:
        clock.now += 1
        return clock.now

    first = run(world, tools, settings=ORDERED, seed=7)
    second = run(world, tools, settings=ORDERED, seed=7, clock=ticking)
    assert without_times(first.trace) == without_times(second.trace)
    assert without_times(json.loads(to_json(first.trace))) == without_times(first.trace)
    assert to_document(first.trace) != to_document(second.trace)
    assert set(tools.entries[0].seeds) == {7}


def test_trace_names_files_and_candidates() -> None:
    world = noisy_world()
    outcome = run(world, Tools(world.tool("t", "noise", {"input": "mended"})))
    trace = with_files(
        outcome.trace,
        input_path="in.png",
        input_sha256="0" * 64,
        output_path="out.png",
        output_sha256="1" * 64,
        candidate_paths={"c1": "steps/c1.png"},
    )
    document = to_document(trace)
    jsonschema.validate(document, trace_schema())
    assert document["input"]["path"] == "in.png" and document["output"]["candidate"] == "c1"
    assert [c["path"] for c in document["candidates"]] == [None, "steps/c1.png"]
    assert document["critic"]["provenances"]["score"][0]["prompt"] == "fake/score/1"
    assert document["steps"][0]["tries"][0]["fidelity"]["mean"] > 0.9
    assert document["versions"]["torch"] and document["stop_explanation"] == STOP_REASONS["done"]


def test_the_schema_is_strict_and_knows_every_setting() -> None:
    jsonschema.Draft202012Validator.check_schema(trace_schema())
    document = to_document(run(noisy_world(), Tools()).trace)
    assert set(trace_schema()["properties"]["stop_reason"]["enum"]) == set(STOP_REASONS)
    for place in (document, document["settings"]["judge"], document["steps"][0], document["spent"]):
        place["surprise"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, trace_schema())
        del place["surprise"]
    jsonschema.validate(document, trace_schema())


def test_events_tell_the_story() -> None:
    world = noisy_world()
    events: list[Event] = []
    run(world, Tools(world.tool("t", "noise", {"input": "mended"})), on_event=events.append)
    kinds = [event.kind for event in events]
    assert kinds == ["diagnosed", "step", "running", "judged", "decided", "diagnosed", "stopped"]
    assert events[3].candidate is not None and world.name(events[3].candidate.image) == "mended"
    assert all(event.message for event in events)


def test_wrong_arguments() -> None:
    critic = noisy_world().critic()
    for image in (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(UsageError):
            restore(image, critic, Tools())
    with pytest.raises(ImageReadError):
        restore(None, critic, Tools())  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        restore(torch.zeros(3, 4, 4), critic, Tools(), scale=3)
