"""Diagnosis, plan, choice of tools, settings, ranking."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iqloop import agents
from iqloop.agents.budget import Budget
from iqloop.agents.diagnosis import Suspect, diagnose, null_probability, severity_of, total_severity
from iqloop.agents.judge import JudgeSettings, scaled_gain
from iqloop.agents.order import default_stages, load_stages, order_prior
from iqloop.agents.plan import make_plan, ordered_plan
from iqloop.agents.ranking import rank_by_score, rank_ratings
from iqloop.agents.settings import PROFILES, RestoreSettings, profile
from iqloop.agents.toolbox import choose_tools
from iqloop.critic.verdicts import Degradation, Rating, Unparsed
from iqloop.errors import UsageError
from iqloop.restorers.tool import Treatment
from tests.agents.agents_fakes import CLEAN, FakeCritic, Tools, degradation, tool

BLUR: tuple[Treatment, ...] = ("blur",)
DARKEN: tuple[Treatment, ...] = ("darken",)


def test_diagnosis_ranks_by_expected_severity_not_by_label() -> None:
    perceived = degradation(noise=0.4, blur=1.0, darken=2.0)
    assert [s.treatment for s in diagnose(perceived, 0.5)] == ["darken", "blur"]
    assert [s.treatment for s in diagnose(perceived, 0.1)] == ["darken", "blur", "noise"]
    assert total_severity(perceived) == pytest.approx(3.4)
    assert diagnose(CLEAN, 0.5) == ()
    assert null_probability(CLEAN) == 1


def test_labels_without_probabilities_are_taken_at_their_word() -> None:
    assert severity_of(Degradation("blur", "obvious"), "blur") == 3
    assert severity_of(Degradation("blur", "obvious", {"blur": 0.5, "null": 0.5}), "blur") == 1.5
    assert null_probability(Degradation("null", "null")) == 1


def test_a_critic_that_cannot_perceive_leaves_everything_suspected() -> None:
    assert len(diagnose(None, 0.5)) == 4


def test_plan_order_and_overrides() -> None:
    suspects = diagnose(degradation(noise=0.6, blur=1.2, compression=0.7, darken=2.0), 0.5)
    names = [s.treatment for s in make_plan(suspects)]
    assert names == ["noise", "compression", "blur", "darken"]
    assert [s.treatment for s in make_plan(suspects, stages=(("darken",), ("noise",)))] == ["darken", "noise"]
    assert [s.treatment for s in make_plan(suspects, only=BLUR)] == ["blur"]
    assert "darken" not in [s.treatment for s in make_plan(suspects, exclude=DARKEN)]
    assert make_plan([Suspect("low-resolution", 3.0)]) == ()


def test_the_prior_is_data_with_its_origin() -> None:
    assert default_stages()[0] == ("noise",) and default_stages()[-1] == ("low-resolution",)
    place = {t: i for i, stage in enumerate(default_stages()) for t in stage}
    rows = order_prior()["origin"][0]["fail_rates"]
    for row in rows:
        if row["rate"] < row["reversed"]:
            assert place[row["first"]] < place[row["then"]]


def test_a_users_plan_names_treatments_and_tools() -> None:
    tools = Tools(tool("mild", "noise", lambda x: x), tool("sharp", "blur", lambda x: x))
    perceived = degradation(noise=2.0)
    found = ordered_plan(perceived, ("sharp", "noise"), tools)
    assert [(one.treatment, one.tool, one.severity) for one in found] == [("blur", "sharp", 0.0), ("noise", None, 2.0)]
    assert [one.label for one in ordered_plan(perceived, ("sharp", "noise"), tools, exclude=("sharp",))] == ["noise"]
    assert [one.label for one in ordered_plan(perceived, ("sharp", "noise"), tools, only=("blur",))] == ["sharp"]
    with pytest.raises(UsageError, match=r"plan: expected some of noise.* or a tool .mild, sharp., got magic"):
        ordered_plan(perceived, ("magic",), tools)


def test_an_order_can_be_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"stages": [["darken"], ["noise", "blur"]]}')
    assert load_stages(path) == (("darken",), ("noise", "blur"))
    for wrong in ("{}", "[", '{"stages": "noise"}', '{"stages": [["noise"], ["noise"]]}', '{"stages": ["noise"]}'):
        path.write_text(wrong)
        with pytest.raises(UsageError, match=r"order\.json"):
            load_stages(path)
    with pytest.raises(UsageError):
        load_stages(tmp_path / "none.json")


def test_profiles_go_from_careful_to_bold() -> None:
    gentle, balanced, strong = (profile(name).judge for name in ("gentle", "balanced", "strong"))
    assert profile("balanced") == RestoreSettings() and set(PROFILES) == {"gentle", "balanced", "strong"}
    assert gentle.min_severity > balanced.min_severity > strong.min_severity
    assert gentle.min_gain > balanced.min_gain > strong.min_gain
    assert gentle.min_structure > balanced.min_structure > strong.min_structure
    with pytest.raises(UsageError, match="profile must be one of gentle, balanced, strong"):
        profile("wild")


def test_tools_are_chosen_by_strength() -> None:
    weak, middle, strong = (tool(n, "noise", lambda x: x, strength=s) for n, s in (("w", 0.1), ("m", 0.5), ("s", 0.9)))
    tools = Tools(weak, middle, strong)
    assert [e.info.name for e in choose_tools(tools, "noise", 4.5, 2)] == ["s", "m"]
    assert [e.info.name for e in choose_tools(tools, "noise", 0.5, 3)] == ["w", "m", "s"]
    assert choose_tools(tools, "noise", 2, 3, scale=2) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: RestoreSettings(search="beam"),
        lambda: RestoreSettings(search="beam:0"),
        lambda: RestoreSettings(search="greedy:2"),
        lambda: RestoreSettings(search="best"),
        lambda: RestoreSettings(tools_per_step=0),
        lambda: RestoreSettings(plan="noise"),  # type: ignore[arg-type]
        lambda: RestoreSettings(plan=("",)),
        lambda: RestoreSettings(order=(("rain",),)),  # type: ignore[arg-type]
        lambda: RestoreSettings(order=(("noise",), ("noise",))),
        lambda: RestoreSettings(order=()),
        lambda: RestoreSettings(only=("noise", "noise")),
        lambda: RestoreSettings(repeats=0),
        lambda: RestoreSettings(cache_bytes=-1),
        lambda: JudgeSettings(min_gain=-1),
        lambda: JudgeSettings(clean_probability=1.5),
        lambda: JudgeSettings(min_severity=float("nan")),
        lambda: Budget(max_steps=-1),
        lambda: Budget(time_limit=float("nan")),
    ],
)
def test_wrong_settings_are_refused(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


def test_an_infinite_limit_is_none() -> None:
    assert Budget(time_limit=float("inf")).time_limit is None


def test_lists_are_accepted_for_names() -> None:
    assert RestoreSettings(plan=["noise"]).plan == ("noise",)  # type: ignore[arg-type]


def test_gain_is_scaled_to_the_range() -> None:
    assert scaled_gain(0.05, (1, 5)) == pytest.approx(0.05)
    assert scaled_gain(0.05, (0, 100)) == pytest.approx(1.25)
    assert scaled_gain(0.05, (0, float("inf"))) == 0.05


def test_ranking() -> None:
    ratings: list[Rating | Unparsed] = [
        Rating(2, 0),
        Unparsed("?", "no number"),
        Rating(4, 0),
        Rating(2, 0),
        Rating(float("nan"), 0),
        Rating(1, 0),
    ]
    ranked = rank_ratings(ratings)
    assert [r.index for r in ranked] == [2, 0, 3, 5, 1, 4]
    assert [r.rank for r in ranked] == [1, 2, 2, 4, None, None]
    assert ranked[4].error == "no number" and ranked[4].strength is None
    assert [r.index for r in rank_ratings(ratings, lower_better=True)][:4] == [5, 0, 3, 2]


def test_rank_by_score_asks_once() -> None:
    critic = FakeCritic(lambda image: float(image.mean()))
    images = [torch.full((3, 4, 4), v) for v in (0.1, 0.9, 0.5)]
    assert [r.index for r in rank_by_score(images, critic)] == [1, 2, 0]
    assert rank_by_score([], critic) == []


def test_public_names_exist_and_importing_them_is_light() -> None:
    for name in agents.__all__:
        assert getattr(agents, name) is not None
    assert sorted(agents.__all__, key=str.lower) == sorted(set(agents._HOME), key=str.lower)
    with pytest.raises(AttributeError):
        _ = agents.nothing
    code = "import sys, iqloop.agents; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
