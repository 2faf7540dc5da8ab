"""What answers are worth: features, regressions, and a judge that goes by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from iqloop.agents import RestoreSettings, pixel_hash, profile, restore
from iqloop.agents.evidence import (
    AS_PRESENT,
    SURE,
    Evidence,
    Look,
    Regression,
    as_document,
    before,
    from_afar,
    from_document,
    load_evidence,
    measure,
    package_evidence,
)
from iqloop.agents.evidence_measure import (
    Agreement,
    Known,
    Seen,
    agreement,
    fit,
    fit_presence,
    fit_regression,
    fit_traces,
    gather,
    glance,
    observe,
)
from iqloop.agents.fidelity import Fidelity
from iqloop.agents.judge import JudgeSettings
from iqloop.agents.trace import to_document, trace_schema
from iqloop.critic.verdicts import Rating, Unparsed
from iqloop.errors import UsageError
from iqloop.restorers.tool import Tool, Treatment
from tests.agents.agents_fakes import CLEAN, Tools, World, degradation, photograph, psnr_critic, tool

NOISY = degradation(noise=3.0)


def constant(probability: float) -> Regression:
    """A regression that does not look."""
    return Regression((), (), (), (), float(np.log(probability / (1 - probability))))


def evidence(promise: float, verdict: float, treatment: Treatment = "noise") -> Evidence:
    """Evidence for the fake critic that says the same of everything."""
    even, first, better = ({treatment: constant(one)} for one in (0.5, promise, verdict))
    return Evidence("fake", "1", even, even, first, better, {"source": "a test"})


def test_pixels_are_measured() -> None:
    image = photograph(size=128)
    noisy = (image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    clean, grainy, dark = measure(image), measure(noisy), measure(image / 4)
    assert grainy["noise"] > clean["noise"] + 0.5 and grainy["detail"] > clean["detail"]
    assert dark["mean"] == pytest.approx(clean["mean"] / 4, rel=1e-3)
    assert (
        dark["luma.0.99"] < clean["luma.0.99"]
        and 0 <= clean["luma.0.01"] <= clean["luma.0.5"] <= clean["luma.0.99"] <= 1
    )
    assert clean["smallest.0.5"] < clean["luma.0.5"] < clean["largest.0.5"]
    assert (
        sum(clean[f"bin.{i}"] ** 2 for i in range(16)) == pytest.approx(1)
        and measure(torch.zeros(3, 9, 9))["black"] == 1
    )
    coarse = image[:, ::8, ::8].repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert measure(coarse)["blocks"] > clean["blocks"] + 2
    assert all(np.isfinite(list(measure(torch.zeros(3, 5, 5)).values())))
    assert all(np.isfinite(list(measure(torch.zeros(3, 1, 1)).values())))


def test_from_afar_light_is_left_and_grain_is_not() -> None:
    flat = torch.full((3, 448, 224), 0.3)
    noisy = (flat + 0.2 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    small = from_afar(noisy)
    assert small.shape == (3, 224, 112)
    assert float(small.mean()) == pytest.approx(float(noisy.mean()), abs=1e-3)
    assert float(small.std()) < 0.6 * float(noisy.std())
    assert from_afar(flat[:, :100]) is not None and from_afar(flat[:, :100]).shape == (3, 100, 224)
    assert from_afar(torch.zeros(3, 200, 4000)).shape == (3, 112, 448)


def test_features_of_a_pair_hold_what_is_present_and_what_changed() -> None:
    image = photograph(size=64)
    dark = degradation(darken=2.0)
    old = Look(Rating(2.0, 0.1), NOISY, dark, measure(image))
    new = Look(Rating(3.5, 0.1), CLEAN, CLEAN, measure(image / 2))
    assert before(old)["afar.darken"] == 2.0 and before(old)["noise"] == pytest.approx(3.0)
    noise = Regression(("noise",), (0.0,), (1.0,), (10.0,), -1.0)
    mean = Regression(("mean",), (0.0,), (1.0,), (1.0,), 0.0)
    made = Evidence("fake", "1", {"darken": mean}, {"noise": noise}, {}, {}, {})
    assert made.looking(old) == before(old) | {"traces.darken": pytest.approx(old.pixels["mean"])}
    assert made.present(old) == {"noise": SURE} and made.present(new) == {"noise": -1.0}
    found = made.deciding(old, new, Fidelity(0.9, 0.8, 0.01), 99.0, None)
    assert found["noise"] == SURE and found["change.noise"] == -1 - SURE
    assert found["change.score"] == 1.5 and found["change.null"] == pytest.approx(0.6)
    assert found["psnr"] == 60 and found["preference"] == 0.5 and found["structure"] == 0.9
    assert made.deciding(old, new, Fidelity(0.9, 0.8, 0.01), 30.0, 0.8)["preference"] == 0.8
    assert made.promising(old) == {"noise": SURE, "score": 2.0, "null": pytest.approx(0.4)}


def test_a_regression_finds_what_decides_and_is_not_led_far_out() -> None:
    rng = np.random.default_rng(0)
    rows = [{"a": float(rng.normal()), "b": float(rng.normal()), "same": 1.0} for _ in range(400)]
    truth = torch.tensor([row["a"] + 0.3 * rng.normal() > 0 for row in rows])
    found = fit_regression(rows, truth, torch.ones(400))
    weight = dict(zip(found.names, found.weights, strict=True))
    assert weight["a"] > 1 and abs(weight["b"]) < 0.3 and weight["same"] == pytest.approx(0, abs=1e-6)
    assert found.probability({"a": 2, "b": 0, "same": 1}) > 0.9
    assert found.probability({"a": 1e9, "b": 0, "same": 1}) == found.probability({"a": 1e3, "b": 0, "same": 1}) < 1
    with pytest.raises(KeyError):
        found.probability({"a": 1.0})
    # A pair with no weight says nothing.
    weights = torch.tensor([1.0] * 200 + [0.0] * 200)
    half = fit_regression(rows, torch.where(weights > 0, truth, ~truth), weights)
    assert dict(zip(half.names, half.weights, strict=True))["a"] > 1


def test_evidence_survives_its_file(tmp_path: Path) -> None:
    rows = [{"a": float(i), "b": 0.0} for i in range(10)]
    regression = fit_regression(rows, torch.arange(10) > 4, torch.ones(10))
    made = Evidence(
        "fake",
        "1",
        {"darken": regression},
        {"noise": regression},
        {"noise": regression},
        {"blur": regression},
        {"source": "a test"},
    )
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(as_document(made)))
    assert load_evidence(path) == made and load_evidence(path).name == made.name
    assert replace(made, version="2").name != made.name
    assert made.fits("fake", "1") and not made.fits("fake", "2")
    for wrong in ("[]", "{}", "{", json.dumps(as_document(made) | {"form": "other"})):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="train judge"):
            load_evidence(path)
    broken = as_document(made)
    broken["promise"]["noise"]["features"]["a"][1] = 0
    with pytest.raises(ValueError, match="deviations"):
        from_document(broken)


def test_the_judge_goes_by_the_evidence_of_this_critic_only() -> None:
    world = World({"input": (2.0, NOISY), "mended": (1.9, degradation(noise=3.1))})
    image, tools = world.images["input"], Tools(world.tool("t", "noise", {"input": "mended"}))
    # By the rules the output is refused: the score falls.
    assert not restore(image, world.critic(), tools).improved
    result = restore(image, world.critic(), tools, evidence=evidence(0.9, 0.9))
    assert result.steps == ("t",)
    (attempt,) = result.trace.steps[0].tries
    assert attempt.judgement is not None and attempt.judgement.evidence == pytest.approx(0.9)
    assert "better than c0 with probability 0.90 by all evidence" in attempt.reason
    document = to_document(result.trace)
    jsonschema.Draft202012Validator(trace_schema()).validate(document)
    assert document["critic"]["evidence"] == evidence(0.9, 0.9).name
    refused = restore(image, world.critic(), tools, evidence=evidence(0.9, 0.4))
    assert not refused.improved and refused.stop_reason == "no-improvement"
    assert restore(image, world.critic(), tools, evidence=evidence(0.1, 0.9)).stop_reason == "clean"
    with pytest.raises(UsageError, match="expected evidence for fake 1, got some for fake 2: measure it"):
        restore(image, world.critic(), tools, evidence=replace(evidence(0.9, 0.9), version="2"))
    rules = RestoreSettings(judge=JudgeSettings(use_evidence=False))
    assert not restore(image, world.critic(), tools, evidence=evidence(0.9, 0.9), settings=rules).improved


def test_light_is_brought_where_it_is_plainly_missing_and_nothing_else_is_tried() -> None:
    dark = degradation(darken=3.0)
    world = World({"input": (2.0, dark), "light": (1.9, dark)})
    image, tools = world.images["input"], Tools(world.tool("t", "darken", {"input": "light"}))
    likely = evidence(0.9, 0.9, "darken")
    doubted = restore(image, world.critic(), tools, evidence=likely)
    assert doubted.stop_reason == "no-improvement" and tools.calls == 0, "its output would be refused: none is made"
    for search in ("beam:2", "exhaustive"):
        again = restore(image, world.critic(), tools, evidence=likely, settings=RestoreSettings(search=search))
        assert again.stop_reason == "no-improvement" and tools.calls == 0
    unlikely = evidence(0.4, 0.4, "darken")
    assert restore(image, world.critic(), tools, evidence=unlikely).stop_reason == "clean"
    left_out = RestoreSettings(exclude=("darken",))
    assert restore(image, world.critic(), tools, evidence=likely, settings=left_out).stop_reason == "clean"
    ordered = restore(image, world.critic(), tools, evidence=likely, settings=RestoreSettings(plan=("darken",)))
    assert not ordered.improved and "0.900 by all evidence, not above 0.985" in ordered.trace.steps[0].tries[0].reason
    assert restore(image, world.critic(), tools, evidence=evidence(0.99, 0.99, "darken")).steps == ("t",)
    plain = evidence(0.97, 0.97, "darken")
    strong = restore(image, world.critic(), tools, evidence=plain, settings=profile("strong"))
    assert strong.steps == ("t",)


def test_the_verdict_about_light_is_what_is_present() -> None:
    nothing = {"darken": 2.0, "change.mean": 1.0, "noise": 0.0}
    known = [Known("darken", 1, gain, nothing, nothing) for gain in (3.0, -3.0, 1.0)]
    blank = Evidence("fake", "1", {}, {}, {}, {}, {})
    assert fit(known, replace(blank, presence={"darken": constant(0.5)})).verdict == {"darken": AS_PRESENT}
    assert AS_PRESENT.logit({"darken": 2.5}) == pytest.approx(2.5)
    assert AS_PRESENT.logit({"darken": -SURE}) == pytest.approx(-SURE) and AS_PRESENT.logit({"darken": SURE}) == SURE
    # Without knowing what is present it is learned like any other.
    assert fit(known, blank).verdict["darken"] != AS_PRESENT


def test_evidence_does_not_open_the_fidelity_gate_nor_touch_what_promises_nothing() -> None:
    world = World({"input": (2.0, NOISY)})
    image = world.images["input"]
    critic = world.critic()
    other = 0.2 + 0.6 * photograph("coffee", size=64)
    world.names[pixel_hash(other)] = "input"
    result = restore(image, critic, Tools(tool("swap", "noise", lambda _: other)), evidence=evidence(0.9, 0.99))
    assert not result.improved and "content not kept" in result.trace.steps[0].tries[0].reason
    clean = World({"input": (4.5, CLEAN), "mended": (5.0, CLEAN)})
    tools = Tools(clean.tool("t", "noise", {"input": "mended"}))
    alone = restore(clean.images["input"], clean.critic(), tools, evidence=evidence(0.1, 0.99))
    assert alone.stop_reason == "clean" and tools.calls == 0
    # What the critic calls clean may be damaged all the same, if so much is known of its answers.
    assert restore(clean.images["input"], clean.critic(), tools, evidence=evidence(0.9, 0.99)).steps == ("t",)


def test_what_clearly_beats_the_output_stays() -> None:
    """The second step is better than its start by the evidence, but the input was far better still."""
    both = degradation(noise=2.0, blur=2.0)
    world = World({"input": (4.0, both), "first": (3.9, both), "second": (1.2, both)})
    tools = Tools(world.tool("a", "noise", {"input": "first"}), world.tool("b", "blur", {"first": "second"}))
    likely: dict[Treatment, Regression] = {"noise": constant(0.9), "blur": constant(0.9)}
    sure = Evidence("fake", "1", likely, likely, likely, likely, {})
    result = restore(world.images["input"], world.critic(), tools, evidence=sure, settings=RestoreSettings(redo=False))
    assert result.steps == ("a",)
    assert "the input is clearly preferred" in result.trace.steps[1].tries[0].reason


def test_an_unreadable_answer_is_no_evidence() -> None:
    world = World({"input": (2.0, NOISY), "odd": (3.0, Unparsed("blah", "no JSON"))})
    tools = Tools(world.tool("t", "noise", {"input": "odd"}))
    result = restore(world.images["input"], world.critic(), tools, evidence=evidence(0.9, 0.99))
    assert not result.improved and "no evidence" in result.trace.steps[0].tries[0].reason


def test_pairs_are_gathered_and_a_judge_learned_from_them_is_right() -> None:
    clean = np.ascontiguousarray(skimage.data.astronaut()[:96, 100:196])
    target = torch.from_numpy(clean).permute(2, 0, 1).float() / 255

    def half(image: Tensor) -> Tensor:
        return 0.5 * image + 0.5 * target

    def away(image: Tensor) -> Tensor:
        return (image + 0.2 * (image - target) + 0.01 * (image > 0.5)).clamp(0, 1)

    state = {"turn": 0}

    def either(image: Tensor) -> Tensor:
        state["turn"] += 1
        return half(image) if state["turn"] % 2 else away(image)

    tools: dict[Treatment, Tool] = {"noise": tool("d", "noise", either), "blur": tool("b", "blur", half)}
    critic = psnr_critic(target, lambda image: NOISY)
    heard: list[object] = []
    nothing = Evidence("fake", "1", {}, {}, {}, {}, {"source": "a test"})
    known = gather([clean] * 24, tools, critic, nothing, seed=3, on_photograph=heard.append)
    assert len(heard) == 24 and len(known) == 24 * 3
    assert {one.folds for one in known} == {0, 1, 2, 3}
    assert all(isinstance(one, Known) for one in known)
    found = fit(known, nothing)
    # The tool for blur always helps (or leaves a clean picture as it is), so there is nothing to learn of it.
    assert "noise" in found.verdict and found.fits("fake", "1")
    share, _, count = agreement(known, found)["noise"]
    assert count >= 10 and share > 0.9
    assert gather([clean] * 2, {}, critic, nothing) == []


def test_agreement_is_with_what_the_loop_would_decide() -> None:
    """Light at odds that are even enough for any other tool is not enough for the loop."""
    same = Regression(("odds",), (0.0,), (1.0,), (1.0,), 0.0)
    evidence = Evidence("fake", "1", {}, {}, {}, {"noise": same, "darken": same}, {})
    rows: list[tuple[Treatment, float, float]] = [
        ("noise", 2.0, 1.5),  # likely, and better
        ("noise", -2.0, 1.5),
        ("noise", 2.0, 0.4),  # too close to count
        ("darken", 2.0, 3.0),  # likely, but not as sure as brightening must be
        ("darken", 2.0, -3.0),
        ("darken", 4.0, -9.0),
        ("blur", 2.0, 3.0),  # nothing is known of it
    ]
    known = [Known(treatment, 1, gain, {}, {"odds": odds}) for treatment, odds, gain in rows]
    settings = JudgeSettings(min_relight_evidence=0.95)
    found = agreement(known, evidence, settings)
    assert list(found) == ["noise", "all", "darken"]
    assert found["noise"] == Agreement(0.5, 0.5, 2) and found["darken"].pairs == 3 and found["all"].pairs == 5
    assert found["darken"].right == found["darken"].even == pytest.approx(1 / 3)
    assert found["all"].right == pytest.approx(0.4)
    wary = agreement(known, evidence, JudgeSettings(min_relight_evidence=0.99))["darken"]
    assert wary.right == pytest.approx(2 / 3) and wary.even == pytest.approx(1 / 3)


def test_what_is_present_is_learned_though_the_critic_names_but_one() -> None:
    """A critic that calls everything noisy: darkness can still be told by the tones."""
    image = np.ascontiguousarray(skimage.data.astronaut()[:160, 100:260])
    critic = psnr_critic(torch.zeros(3, 160, 160), lambda _: NOISY)
    measured = glance([image] * 64, seed=4)
    traces = fit_traces(measured, critic, {})
    assert set(traces.traces) == {"noise", "blur", "compression", "darken"} and not traces.presence
    seen = observe([image] * 64, critic, traces, seed=5)
    assert len(seen) == 64 == len(measured) and all(isinstance(one, Seen) for one in seen)
    assert {len(one.present) for one in seen} == {0, 1, 2, 3}
    found = fit_presence(seen[:48], traces)
    assert set(found.presence) == {"noise", "blur", "compression", "darken"} and not found.verdict
    assert found.traces == traces.traces
    right = [
        (found.presence["darken"].probability(one.features) > 0.5) == ("darken" in one.present) for one in seen[48:]
    ]
    assert np.mean(right) > 0.8
    undamaged = [one for one in seen if not one.present]
    assert not fit_presence(undamaged, traces).presence and not fit_traces(undamaged, critic, {}).traces


def test_the_package_has_evidence_for_its_critic() -> None:
    found = package_evidence()
    assert found is not None and set(found.verdict) == {"noise", "blur", "compression", "darken"} == set(found.promise)
    assert found.critic == "qinsight-mini" and found.origin["pairs"] > 500
