"""A served model says what the same model says here: verdicts, probabilities, fields of a request."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iqloop import create_metric
from iqloop.critic.known import create_critic
from iqloop.critic.mini import VIEWS
from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1
from iqloop.critic.remote.address import parse_address
from iqloop.critic.remote.connection import _key
from iqloop.critic.remote.pictures import picture
from iqloop.critic.remote.remote_critic import RemoteCritic
from iqloop.critic.remote.structure import answer_regex
from iqloop.critic.verdicts import CLASSES, Degradation, Preference, Rating, Unparsed
from iqloop.errors import CriticError, PrerequisiteError, UsageError

from .remote_fakes import (
    INTEGERS,
    POINTS,
    TENTHS,
    Replays,
    ScriptedServer,
    Serve,
    image_urls,
    pixels_of,
    rates,
    says,
)

pytest.importorskip("openai", reason="the extra serve is not installed")

DARK = '<think> Too dark. </think><answer> {"distortion_class": "darken", "severity": "serious"} </answer>'


def remote(server: ScriptedServer, **options: Any) -> RemoteCritic:
    critic = create_critic(f"{server.url}#{server.models[0]}", **options)
    assert isinstance(critic, RemoteCritic)
    return critic


def formula() -> tuple[float, float]:
    """Mean and deviation of the rating that `rates` scripts, by the definition of `iqloop.critic.expected`."""
    mass = sum(INTEGERS[str(d)] for d in range(1, 6))
    values, weights = [5.0], [INTEGERS["5"] / mass]
    for d in range(1, 5):
        p, point = INTEGERS[str(d)] / mass, POINTS[str(d)]
        values.append(d)
        weights.append(p * (1 - point))
        for t, weight in enumerate(TENTHS[str(d)]):
            values.append(d + (t + 0.45) / 10)
            weights.append(p * point * weight / sum(TENTHS[str(d)]))
    mean = float(np.dot(values, weights))
    return mean, float(np.sqrt(np.dot(np.square(values), weights) - mean**2))


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("http://127.0.0.1:8000", "did you mean http://127.0.0.1:8000/v1"),
        ("http://host:8000/#m", "did you mean http://host:8000/v1#m"),
        ("https://me:hush@host/v1#m", "IQLOOP_API_KEY"),
        ("http://me:hush@host:99999/v1", "IQLOOP_API_KEY"),
        ("http://host:99999/v1", "Port out of range"),
        ("http:///v1", "no host"),
        ("http://host/v1?key=hush", "a query"),
        ("http://host/v1/chat/completions", "write http://host/v1#MODEL"),
    ],
)
def test_an_address_that_is_none_is_told_what_is_expected(name: str, expected: str) -> None:
    with pytest.raises(UsageError) as told:
        create_critic(name)
    assert expected in str(told.value) and "hush" not in str(told.value)


def test_a_slash_makes_no_difference_and_a_model_may_be_a_path() -> None:
    address = parse_address("https://host:1/proxy/v1/#/models/mine")
    assert (address.url, address.model) == ("https://host:1/proxy/v1", "/models/mine")


def test_openais_key_goes_nowhere_where_it_could_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    sent = {url: _key(parse_address(url)) for url in ("http://127.0.0.1/v1", "https://host/v1", "http://host/v1")}
    assert sent == {"http://127.0.0.1/v1": "theirs", "https://host/v1": "theirs", "http://host/v1": "none"}
    monkeypatch.setenv("IQLOOP_API_KEY", "ours")
    assert _key(parse_address("http://host/v1")) == "ours"


# -- models and options ------------------------------------------------------------------------------------------------


def test_the_only_model_needs_no_name(serve: Serve, images: list[Tensor]) -> None:
    server = serve(rates())
    critic = create_critic(server.url)
    assert critic.name == f"{server.url}#scripted"
    assert isinstance(critic.score(images[:1])[0], Rating)
    several = serve(rates(), models=("one", "two"))
    with pytest.raises(UsageError, match="one, two"):
        create_critic(several.url)
    with pytest.raises(UsageError, match=r"no model 'three': it has one, two"):
        create_critic(several.url + "#three")


def test_the_name_says_how_a_model_is_asked(serve: Serve) -> None:
    server = serve(rates(), models=("TianheWu/VisualQuality-R1-7B", "ByteDance/Q-Insight", "qinsight-mini"))
    made = {model: create_critic(f"{server.url}#{model}") for model in server.models}
    assert [sorted(critic.capabilities) for critic in made.values()] == [
        ["describe", "score"], ["compare", "perceive", "score"], ["compare", "describe", "perceive", "score"]
    ]  # fmt: skip
    served = made["qinsight-mini"].served  # type: ignore[attr-defined]
    assert (served.answer_begin, served.views.kind) == ("<think>", "native")
    as_other = create_critic(f"{server.url}#ByteDance/Q-Insight", base="visualquality-r1")
    assert "/visualquality-r1/score/1/expected" in as_other.version
    direct = create_critic(f"{server.url}#TianheWu/VisualQuality-R1-7B", thinking=False)
    assert "score-direct" in direct.version
    with pytest.raises(UsageError, match="thinking"):
        create_critic(f"{server.url}#ByteDance/Q-Insight", thinking=False)


def test_options_that_do_not_fit_are_refused(serve: Serve) -> None:
    server = serve(rates(), owner="somebody")
    for options, word in (
        ({"dtype": "float16"}, "dtype"),
        ({"structured": True}, "structured is for vLLM"),
        ({"samples": 2}, "samples"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"decoding": "loud"}, "decoding"),
    ):
        with pytest.raises(UsageError, match=word):
            create_critic(server.url, **options)
    with pytest.raises(UsageError, match=r"not on a server.*timeout"):
        create_critic("qinsight-mini", timeout=3)
    with pytest.raises(CriticError, match=r"begin with '<think>'.*takes no beginning"):
        create_critic(server.url, base="qinsight-mini")


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(PrerequisiteError, match=re.escape("pip install 'iqloop[serve]'")):
        create_critic("http://127.0.0.1:9/v1#m")


# -- ratings -----------------------------------------------------------------------------------------------------------


def test_expected_is_the_formula(serve: Serve, images: list[Tensor]) -> None:
    server = serve(rates())
    critic = remote(server)
    mean, std = formula()
    for rating in critic.score(images):
        assert isinstance(rating, Rating)
        assert rating.mean == pytest.approx(mean, abs=1e-6)
        assert rating.std == pytest.approx(std, abs=1e-6)
        assert rating.digit_mass == pytest.approx(0.96, abs=1e-9)
        assert rating.provenance.decoding == "expected" and rating.raw == ""
    # One question, and two for each further digit whose likeliest next token is no point; one for the others.
    assert len(server.asked) == 3 * 4
    assert create_metric(critic)(images).flatten().tolist() == pytest.approx([mean] * 3, abs=1e-6)
    assert len(server.asked) == 3 * 4  # it was asked before


def test_reason_and_expected_is_taken_at_the_answer(serve: Serve, images: list[Tensor]) -> None:
    critic = remote(serve(rates()), decoding="reason+expected")
    [rating] = critic.score(images[:1])
    assert isinstance(rating, Rating)
    assert rating.mean == pytest.approx(formula()[0], abs=1e-6)
    assert rating.raw.startswith("<think> So so. </think><answer> {")
    reason = remote(serve(rates()), decoding="reason").score(images[:1])[0]
    assert isinstance(reason, Rating)
    assert (reason.raw, reason.digit_mass, reason.std) == (rating.raw, None, 0.0)


def test_a_server_that_takes_no_beginning_is_read_at_its_written_answer(serve: Serve, images: list[Tensor]) -> None:
    server = serve(rates(), owner="somebody")
    critic = remote(server)
    [rating] = critic.score(images[:1])
    assert isinstance(rating, Rating)
    mass = sum(INTEGERS[str(d)] for d in range(1, 6))
    tenths = sum(w * (t + 0.45) / 10 for t, w in enumerate(TENTHS["3"])) / sum(TENTHS["3"])
    fractions = {1: 0.495, 2: 0.495, 3: POINTS["3"] * tenths, 4: 0.495, 5: 0.0}
    expected = sum(INTEGERS[str(d)] / mass * (d + fractions[d]) for d in fractions)
    assert rating.mean == pytest.approx(expected, abs=1e-6)
    assert rating.digit_mass == pytest.approx(0.96, abs=1e-9)
    assert rating.provenance.decoding == "expected at the written answer" and "at the written" in critic.version
    allowed = {"model", "messages", "max_tokens", "temperature", "logprobs", "top_logprobs"}
    assert [set(body) <= allowed for body in server.asked] == [True]


def test_a_server_without_probabilities_is_told_of_reason(serve: Serve, images: list[Tensor]) -> None:
    for owner in ("vllm", "somebody"):
        server = serve(rates(), owner=owner)
        server.tells_probabilities = False
        with pytest.raises(CriticError, match=r"no top_logprobs.*--decode reason"):
            remote(server).score(images[:1])
        assert isinstance(remote(server, decoding="reason").score(images[:1])[0], Rating)


def test_no_digit_is_no_rating(serve: Serve, images: list[Tensor]) -> None:
    [said] = remote(serve(says("Nothing of the kind"))).score(images[:1])
    assert isinstance(said, Unparsed) and "digit" in said.reason


def test_a_checkpoint_that_is_served_scores_and_perceives_as_here(serve: Serve, images: list[Tensor]) -> None:
    local = create_critic("qinsight-mini", device="cpu")
    server = serve(Replays(local.checkpoint), models=("qinsight-mini",))  # type: ignore[attr-defined]
    served = remote(server)
    for rated, expected in zip(served.score(images), local.score(images), strict=True):
        assert isinstance(rated, Rating) and isinstance(expected, Rating)
        # Digits of less than a thousandth are not followed, and of each place only the 20 likeliest tokens are told.
        assert rated.mean == pytest.approx(expected.mean, abs=1e-4)
        assert rated.std == pytest.approx(expected.std, abs=1e-4)
        assert rated.digit_mass == pytest.approx(expected.digit_mass, abs=1e-5)
    dark = [(image * 0.4 * 255).round() / 255 for image in images[:1]]
    [there], [here] = served.perceive(dark), local.perceive(dark)
    assert isinstance(there, Degradation) and isinstance(here, Degradation)
    assert (there.raw, there.severity) == (here.raw, here.severity)
    for kind, chance in here.probabilities.items():
        assert there.probabilities[kind] == pytest.approx(chance, abs=1e-3)
    for word, chance in here.severity_probabilities["darken"].items():
        assert there.severity_probabilities["darken"][word] == pytest.approx(chance, abs=1e-3)


# -- words -------------------------------------------------------------------------------------------------------------


def test_labels_have_the_share_of_the_views_that_say_them(serve: Serve, images: list[Tensor]) -> None:
    server = serve(says(DARK), owner="somebody", models=("q-insight",))
    [said] = remote(server).perceive(images[:1])
    assert isinstance(said, Degradation)
    assert (said.distortion_class, said.severity, said.reasoning) == ("darken", "serious", "Too dark.")
    assert said.probabilities == pytest.approx({kind: float(kind == "darken") for kind in CLASSES})
    assert said.expected_severity("darken") == pytest.approx(4) and said.expected_severity("blur") == 0
    assert set(server.asked[0]) == {"model", "messages", "max_tokens", "temperature"}


def test_what_does_not_parse_is_asked_again_and_stays_unparsed(serve: Serve, images: list[Tensor]) -> None:
    for owner, held in (("vllm", True), ("somebody", False)):
        server = serve(says("I like it"), owner=owner)
        [said] = remote(server, decoding="reason").score(images[:1])
        assert isinstance(said, Unparsed) and (said.raw, said.unparsed) == ("I like it", 3)
        assert [body["temperature"] for body in server.asked] == [0, 1, 1]
        assert ["structured_outputs" in body for body in server.asked] == [False, held, held]
        seeds = [body.get("seed") for body in server.asked]
        assert seeds[0] is None and seeds[1] != seeds[2]


def test_structured_answers_have_the_form_that_is_parsed(serve: Serve, images: list[Tensor]) -> None:
    server = serve(rates())
    remote(server, decoding="reason", structured=True).score(images[:1])
    form = server.asked[0]["structured_outputs"]["regex"]
    answer = '<think> So so. </think><answer> {"rating": 3.52} </answer>'
    assert re.fullmatch(form, answer) and not re.fullmatch(form, answer.replace("3.52", "6.52"))
    assert re.fullmatch(str(answer_regex(Q_INSIGHT["degradation"])), DARK)
    begun = str(answer_regex(Q_INSIGHT["degradation"], "<think>"))
    assert re.fullmatch(begun, DARK.removeprefix("<think>"))
    choice = "<think> Sharper. </think><answer> Image B </answer>"
    assert re.fullmatch(str(answer_regex(Q_INSIGHT["compare"])), choice)
    assert re.fullmatch(str(answer_regex(VISUALQUALITY_R1["score"])), "<think> So. </think><answer> 3.52 </answer>")
    assert answer_regex(Q_INSIGHT["describe"]) is None


def test_samples_are_drawn_with_seeds_of_their_own(serve: Serve, images: list[Tensor]) -> None:
    server = serve(rates())
    [rating] = remote(server, decoding="reason", samples=3, temperature=0.7, seed=5).score(images[:1])
    assert isinstance(rating, Rating) and len(rating.answers) == 3
    assert {body["temperature"] for body in server.asked} == {0.7}
    assert len({body["seed"] for body in server.asked}) == 3
    assert {(body["top_p"], body["top_k"]) for body in server.asked} == {(1.0, -1)}


@pytest.mark.parametrize("owner", ["vllm", "somebody"])
def test_pairs_are_judged_in_both_orders(serve: Serve, images: list[Tensor], owner: str) -> None:
    better = picture(images[0]).url

    def prefers(sure: str, so_far: str) -> dict[str, float]:
        if so_far.endswith("<answer>"):
            return {" Image": 0.9, " Similar": 0.1}
        if so_far.endswith("<answer> Image"):
            return {f" {sure}": 0.8, " B" if sure == "A" else " A": 0.2}
        return dict(says(f"<think> Look. </think><answer> Image {sure} </answer>")({}, so_far))

    def fair(body: dict[str, Any], so_far: str) -> dict[str, float]:
        return prefers("A" if image_urls(body)[0] == better else "B", so_far)

    server = serve(fair, owner=owner, models=("q-insight",))
    preferences = remote(server).compare([images[0], images[1]], [images[1], images[0]])
    assert [p.choice for p in preferences if isinstance(p, Preference)] == ["A", "B"]
    likely = 0.9 * 0.8 + 0.05 if owner == "vllm" else 1.0
    assert preferences[0].probability == pytest.approx(likely)  # type: ignore[union-attr]
    assert preferences[1].probability == pytest.approx(1 - likely)  # type: ignore[union-attr]
    assert preferences[0].position_bias == pytest.approx(0, abs=1e-9)  # type: ignore[union-attr]

    stubborn = serve(lambda _, so_far: prefers("A", so_far), owner=owner, models=("q-insight",))
    [biased] = remote(stubborn).compare(images[:1], images[1:2], reference=images[2:])
    assert isinstance(biased, Preference)
    assert biased.choice == "similar" and biased.probability == pytest.approx(0.5)
    assert biased.position_bias == pytest.approx(likely - 0.5)


def test_a_description_is_what_is_said_of_the_whole_image(serve: Serve, photograph: Any, as_tensor: Any) -> None:
    server = serve(says(" It is fine. "), models=("qinsight-mini",))
    large = as_tensor(photograph("astronaut", 480, 0, 0))
    assert remote(server).describe([large, large[:, :112]]) == ["It is fine.", "It is fine."]
    sizes = [pixels_of(url).shape[-2:] for body in server.asked for url in image_urls(body)]
    assert sorted(tuple(size) for size in sizes) == [(112, 476), (308, 308)]


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_picture_is_sent_as_it_is(images: list[Tensor]) -> None:
    sent = pixels_of(picture(images[0]).url)
    assert torch.equal(sent, images[0])
    assert picture(images[0]).digest != picture(images[1]).digest


def test_views_are_sent_image_first_and_pooled(serve: Serve, photograph: Any, as_tensor: Any) -> None:
    server = serve(rates(), models=("qinsight-mini",))
    large = as_tensor(photograph("astronaut", 480, 0, 0))
    remote(server).score([large])
    sizes = sorted({tuple(pixels_of(image_urls(body)[0]).shape[-2:]) for body in server.asked})
    assert sizes == [(308, 308), (336, 336)]
    kinds = [part["type"] for part in server.asked[0]["messages"][1]["content"]]
    assert kinds == ["image_url", "text"]
    text_first = remote(server, text_first=True)
    text_first.score([large[:, :112, :112]])
    assert [part["type"] for part in server.asked[-1]["messages"][1]["content"]] == ["text", "image_url"]
    assert "text first" in text_first.version


def test_a_second_model_compares_given_a_reference(serve: Serve, images: list[Tensor]) -> None:
    first = serve(says("<think> x </think><answer> Similar </answer>"), owner="somebody", models=("q-insight",))
    second = serve(says("<think> x </think><answer> Image A </answer>"), owner="somebody", models=("theirs",))
    critic = remote(first, comparison=f"{second.url}#theirs", decoding="reason")
    assert "compare" in critic.capabilities
    [said] = critic.compare(images[:1], images[1:2], reference=images[2:])
    assert isinstance(said, Preference) and said.choice == "similar", "the first of both orders"
    assert len(second.asked) == 2 and not first.asked
    assert [len(image_urls(body)) for body in second.asked] == [3, 3]
    critic.compare(images[:1], images[1:2])
    assert len(second.asked) == 2 and len(first.asked) == 2, "without a reference the first is asked"
    with pytest.raises(UsageError, match="address too"):
        remote(first, comparison="qinsight")
    with pytest.raises(UsageError, match="not on a server and takes no option comparison"):
        create_critic("qinsight-mini", comparison=f"{second.url}#theirs")


def test_reflections_are_asked_what_is_wrong(serve: Serve, photograph: Any, as_tensor: Any) -> None:
    server = serve(says(DARK), owner="somebody", models=("q-insight",))
    small = (as_tensor(photograph("astronaut", 84, 0, 0)) * 255).round() / 255
    critic = remote(server)
    critic.served = replace(critic.served, views=replace(VIEWS, reflections=4))
    [said] = critic.perceive([small])
    assert isinstance(said, Degradation) and said.distortion_class == "darken"
    sent = [pixels_of(image_urls(body)[0]) for body in server.asked]
    wanted = [small, small.flip(-1), small.flip(-2), small.flip(-1, -2)]
    assert len(sent) == 4 and all(any(torch.equal(one, other) for other in sent) for one in wanted)


def test_the_key_is_sent_and_never_shown(serve: Serve, images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQLOOP_API_KEY", "very-secret")
    server = serve(rates())
    critic = remote(server)
    [rating] = critic.score(images[:1])
    assert set(server.keys) == {"Bearer very-secret"}
    assert "secret" not in critic.version + critic.name + repr(rating)
