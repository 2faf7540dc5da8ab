"""From a name to a critic: known ones, folders, adapters, plug-ins; what does not fit is refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from iqloop.critic import checkpoint, known, plugins
from iqloop.critic.engine import QwenCritic
from iqloop.critic.known import KNOWN, MINI_FOLDER, create_critic, source_of
from iqloop.critic.prompts import VISUALQUALITY_R1, VISUALQUALITY_R1_DIRECT
from iqloop.critic.protocol import Critic
from iqloop.errors import CriticError, UsageError

from .critic_fakes import FakeCritic


def adapter(folder: Path, base: str | None) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"}))
    return folder


# -- known ones --------------------------------------------------------------------------------------------------------


def test_q_insight_is_one_critic_of_two_checkpoints() -> None:
    entry = KNOWN["qinsight"]
    assert entry.source.subfolder == "score_degradation" and entry.source.tasks == ("score", "degradation", "compare")
    assert entry.comparison is not None
    assert entry.comparison.subfolder == "comparison" and entry.comparison.tasks == ("compare-reference",)
    assert "qinsight-compare" not in KNOWN


def test_the_second_checkpoint_is_loaded_when_it_is_first_needed(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = KNOWN["qinsight"]
    assert entry.comparison is not None
    local = replace(
        entry,
        source=replace(entry.source, location=str(tiny_folder), subfolder="", max_new_tokens=8),
        comparison=replace(entry.comparison, location=str(tiny_folder), subfolder="", max_new_tokens=8),
    )
    monkeypatch.setitem(KNOWN, "qinsight", local)
    loaded: list[str] = []
    load = checkpoint.load

    def listening(source: checkpoint.CheckpointSource, *args: Any, **options: Any) -> checkpoint.Checkpoint:
        loaded.append(source.name)
        return load(source, *args, **options)

    monkeypatch.setattr(checkpoint, "load", listening)
    critic = create_critic("qinsight", device="cpu")
    images = [torch.rand(3, 56, 56), torch.rand(3, 56, 56)]
    critic.compare(images[:1], images[1:])
    assert loaded == ["qinsight"]
    assert isinstance(critic, QwenCritic) and critic.comparison is not None
    assert critic.comparison().checkpoint.tasks == ("compare-reference",)
    assert loaded == ["qinsight", "qinsight/comparison"]


def test_thinking_can_be_left_out_where_that_was_published(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = KNOWN["visualquality-r1"]
    assert entry.source.prompts is VISUALQUALITY_R1
    local = replace(entry, source=replace(entry.source, location=str(tiny_folder)))
    monkeypatch.setitem(KNOWN, "visualquality-r1", local)
    critic = create_critic("visualquality-r1", device="cpu", thinking=False)
    assert isinstance(critic, QwenCritic) and critic.checkpoint.source.prompts is VISUALQUALITY_R1_DIRECT
    with pytest.raises(UsageError, match="thinking"):
        create_critic("qinsight-mini", thinking=False)


def test_options_reach_the_critic(tiny_folder: Path) -> None:
    critic = create_critic(
        tiny_folder,
        device="cpu",
        decoding="reason",
        samples=3,
        temperature=0.7,
        seed=5,
        text_first=True,
        max_new_tokens=9,
    )
    assert isinstance(critic, QwenCritic)
    assert (critic.decoding, critic.samples, critic.temperature) == ("reason", 3, 0.7)
    assert (critic.seed, critic.text_first, critic.checkpoint.source.max_new_tokens) == (5, True, 9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("qinsight-mini", {"base": "qinsight"}),
        ("qinsight-mini", {"subfolder": "x"}),
        ("qinsight-mini", {"revision": "main"}),
        ("pyiqa:niqe", {"samples": 3}),
        ("pyiqa:niqe", {"decoding": "reason"}),
        (str(MINI_FOLDER), {"base": "qinsight"}),
    ],
)
def test_an_option_that_does_not_fit_is_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        create_critic(name, **options)


def test_a_revision_goes_to_the_hub() -> None:
    assert source_of("qinsight", revision="abc").revision == "abc"


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_root_with_checkpoints_below_lists_them(tmp_path: Path) -> None:
    for name in ("score_degradation", "comparison"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "assets").mkdir()
    with pytest.raises(UsageError, match="has comparison, score_degradation: give one as subfolder"):
        source_of(str(tmp_path))
    with pytest.raises(UsageError, match="comparison, score_degradation"):
        source_of(str(tmp_path), subfolder="assets")
    source = source_of(str(tmp_path), subfolder="comparison")
    assert (source.location, source.subfolder) == (str(tmp_path), "comparison")
    assert source.name == f"{tmp_path.name}/comparison"


def test_an_adapter_goes_over_the_base_that_it_names(tmp_path: Path) -> None:
    published = source_of(str(adapter(tmp_path / "mine", "TianheWu/VisualQuality-R1-7B")))
    assert published == replace(
        KNOWN["visualquality-r1"].source, name="mine", adapter=str(tmp_path / "mine"), licence="unknown"
    )
    foreign = source_of(str(adapter(tmp_path / "other", "someone/Qwen-finetuned")))
    assert (foreign.location, foreign.adapter) == ("someone/Qwen-finetuned", str(tmp_path / "other"))


def test_the_base_of_an_adapter_can_be_given(tmp_path: Path, tiny_folder: Path) -> None:
    folder = str(adapter(tmp_path / "mine", "/gone/with/the/cluster"))
    with pytest.raises(UsageError, match=r"/gone/with/the/cluster.*give base"):
        source_of(folder)
    assert source_of(folder, base="qinsight-mini").location == str(MINI_FOLDER)
    assert source_of(folder, base=str(tiny_folder)).location == str(tiny_folder)
    assert source_of(folder, base="qinsight", revision="abc").revision == "abc"
    with pytest.raises(UsageError, match="itself an adapter"):
        source_of(folder, base=str(adapter(tmp_path / "second", "qinsight")))
    with pytest.raises(UsageError, match="give base"):
        source_of(str(adapter(tmp_path / "silent", None)))
    (tmp_path / "silent" / "adapter_config.json").write_text("[")
    with pytest.raises(CriticError, match="adapter_config"):
        source_of(str(tmp_path / "silent"))


def test_a_merged_adapter_is_a_checkpoint(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "merged", "qinsight")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    assert source_of(str(folder)).adapter is None


def test_a_copy_elsewhere_is_a_critic(tmp_path: Path, tiny_folder: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "hub" / "score")
    critic = create_critic(tmp_path / "hub", subfolder="score", device="cpu")
    assert critic.name == "hub/score" and isinstance(critic, Critic)


# -- plug-ins ----------------------------------------------------------------------------------------------------------

READY = FakeCritic([3.0])


def factory(*, device: str | None = None, batch_size: int = 8) -> FakeCritic:
    return FakeCritic([2.0], name=f"made on {device}")


def greedy(**options: Any) -> FakeCritic:
    return FakeCritic([2.0], name=str(sorted(options)))


def failing() -> FakeCritic:
    raise ZeroDivisionError("no")


def wrong() -> int:
    return 3


class FakeDistribution:
    """As much of a distribution as is looked at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata = type("Metadata", (), {"json": {"license_expression": "MIT"}})()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Offer entry points ``(name, value, distribution)`` as if installed."""

    def make(*points: tuple[str, str, str]) -> None:
        found = []
        for name, value, distribution in points:
            point = EntryPoint(name, value if ":" in value else f"{__name__}:{value}", plugins.GROUP)
            vars(point).update(dist=FakeDistribution(distribution))
            found.append(point)
        monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == plugins.GROUP else [])

    return make


def test_plugins_are_critics(offer: Any) -> None:
    offer(("ready", "READY", "acme"), ("made", "factory", "acme"), ("greedy", "greedy", "acme"))
    assert create_critic("ready", seed=4) is READY
    assert create_critic("made", device="cpu", seed=4).name == "made on cpu"
    assert create_critic("greedy", dtype="float16", seed=4).name == "['dtype', 'seed']"
    assert known.plugin_critics()["made"].licence == "MIT"
    for name, option in (("ready", {"dtype": "float16"}), ("made", {"samples": 2})):
        with pytest.raises(UsageError, match=f"{next(iter(option))}"):
            create_critic(name, **option)


def test_a_broken_plugin_is_one_error_and_hurts_nobody(offer: Any) -> None:
    offer(
        ("absent", "no.such.module:create", "shaky"), ("ready", "READY", "acme"), ("failing", "failing", "shaky"),
        ("wrong", "wrong", "shaky"), ("value", "__doc__", "shaky"),
    )  # fmt: skip
    assert list(known.plugin_critics()) == ["absent", "failing", "ready", "value", "wrong"]
    assert create_critic("ready") is READY
    for name in ("absent", "failing", "wrong", "value"):
        with pytest.raises(CriticError, match=rf"{name} .*shaky"):
            create_critic(name)


def test_a_plugin_may_not_shadow(offer: Any) -> None:
    offer(("qinsight-mini", "READY", "rude"))
    with pytest.warns(RuntimeWarning, match=r"qinsight-mini.*rude"):
        assert known.plugin_critics() == {}
    assert create_critic("qinsight-mini", device="cpu") is not READY
    offer(("twice", "READY", "zeta"), ("twice", "factory", "alpha"))
    with pytest.warns(RuntimeWarning, match=r"zeta is left out: alpha"):
        assert known.plugin_critics()["twice"].distribution == "alpha"


def test_an_unknown_name_gets_the_nearest(offer: Any) -> None:
    offer(("aesthetics", "READY", "acme"))
    with pytest.raises(UsageError, match="did you mean aesthetics"):
        create_critic("aestetics")
