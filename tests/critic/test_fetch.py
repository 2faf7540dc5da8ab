"""Fetching, with a hub that is scripted: what is shown, what is taken, what is refused. No network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils._paths import filter_repo_objects

from iqloop.critic import fetch as fetching
from iqloop.critic.checkpoint import CheckpointSource
from iqloop.critic.fetch import choose_parts, fetch, offer, part_name, parts_of
from iqloop.critic.locate import locate
from iqloop.errors import CriticError, PrerequisiteError, UsageError
from iqloop.sizes import readable

COMMIT = "c0ffee" + "0" * 34
JUNK = (
    "pytorch_model.bin",
    "training_args.bin",
    "modeling_own.py",
    "README.md",
    "optimizer.pt",
    "sub/nested.safetensors",
)
"""Files of a repository that are never taken."""


@dataclass
class ScriptedHub:
    """A repository of files on this machine in the place of the hub, and of its cache."""

    files: Path
    cache: Path
    commit: str = COMMIT
    licence: str | None = "apache-2.0"
    sizes: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    fetched: list[tuple[str, str]] = field(default_factory=list)
    """Revision and name of each file that was fetched."""

    def model_info(self, repository: str, *, revision: str, files_metadata: bool) -> Any:
        assert files_metadata
        self.asked.append((repository, revision))
        siblings = [
            SimpleNamespace(rfilename=name, size=(self.files / name).stat().st_size if self.sizes else None)
            for name in self.names()
        ]
        card = None if self.licence is None else SimpleNamespace(license=self.licence)
        return SimpleNamespace(sha=self.commit, siblings=siblings, card_data=card)

    def names(self) -> list[str]:
        return sorted(str(file.relative_to(self.files)) for file in self.files.rglob("*") if file.is_file())

    def snapshot_download(
        self,
        repository: str,
        *,
        revision: str,
        allow_patterns: Sequence[str],
        ignore_patterns: Sequence[str],
        tqdm_class: type | None = None,
    ) -> str:
        root = self.cache / f"models--{repository.replace('/', '--')}" / "snapshots" / self.commit
        for name in filter_repo_objects(
            self.names(), allow_patterns=list(allow_patterns), ignore_patterns=list(ignore_patterns)
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.files / name, root / name)
            self.fetched.append((revision, name))
        return str(root)


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedHub:
    """``score_degradation`` and ``comparison``, each with files that must not be taken, and others at the root."""
    files = tmp_path / "files"
    for part in ("score_degradation", "comparison"):
        shutil.copytree(tiny_folder, files / part)
        for name in JUNK:
            (files / part / name).parent.mkdir(exist_ok=True)
            (files / part / name).write_bytes(b"not this")
    (files / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (files / "other.safetensors").write_bytes(b"not this either")
    scripted = ScriptedHub(files, tmp_path / "cache")
    script(monkeypatch, scripted)
    return scripted


def script(monkeypatch: pytest.MonkeyPatch, hub: ScriptedHub) -> None:
    """Put a scripted hub in the place of the real one; looking into its cache stays real."""
    real = huggingface_hub.snapshot_download

    def snapshot_download(repository: str, **options: Any) -> str:
        return str(real(repository, **options) if "local_files_only" in options else download(repository, **options))

    download = hub.snapshot_download
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)


def both() -> list[CheckpointSource]:
    score = CheckpointSource("q", "ByteDance/Q-Insight", "score_degradation", licence="Apache-2.0")
    return [score, replace(score, subfolder="comparison")]


def test_the_parts_of_a_critic() -> None:
    assert [part_name(source) for source in parts_of("qinsight")] == ["score_degradation", "comparison"]
    assert [part_name(source) for source in parts_of("visualquality-r1")] == ["all"]
    assert [source.subfolder for source in choose_parts("qinsight", "comparison")] == ["comparison"]
    assert choose_parts("qinsight") == parts_of("qinsight")
    with pytest.raises(UsageError, match="expected one of score_degradation, comparison, all"):
        choose_parts("qinsight", "everything")
    with pytest.raises(UsageError, match="unknown critic 'nobody'"):
        parts_of("nobody")


def test_an_offer_says_what_it_would_take_and_takes_nothing(hub: ScriptedHub, tiny_folder: Path) -> None:
    what = offer(both())
    names = {file.name for file in what.files}
    assert names == {f"{part.subfolder}/{file.name}" for part in both() for file in tiny_folder.iterdir()}
    assert what.total == what.to_fetch == 2 * sum(file.stat().st_size for file in tiny_folder.iterdir())
    assert (what.commit, what.revision, what.repository) == (COMMIT, "main", "ByteDance/Q-Insight")
    assert not what.licence_differs
    assert hub.asked == [("ByteDance/Q-Insight", "main")] and hub.fetched == [] and not hub.cache.exists()


def test_a_fetch_is_pinned_checked_and_found_afterwards(hub: ScriptedHub) -> None:
    folders = fetch(offer(both()))
    assert [folder.name for folder in folders] == ["score_degradation", "comparison"]
    assert {revision for revision, _ in hub.fetched} == {COMMIT}
    assert not any(name.endswith((".bin", ".pt", ".py", ".md")) or "nested" in name for _, name in hub.fetched)
    assert [locate(part) for part in both()] == [str(folder) for folder in folders]
    again = offer(both())
    assert again.to_fetch == 0 and again.total > 0
    hub.commit = "b" * 40  # the branch moves on: the old commit is what is here, until it is fetched again
    assert locate(both()[0]) == str(folders[0]) and offer(both()).to_fetch > 0
    assert fetch(offer(both()))[0] != folders[0]
    assert "b" * 40 in locate(both()[0])
    assert locate(replace(both()[0], revision=COMMIT)) == str(folders[0])


def test_a_branch_or_tag_is_noted_under_its_own_name(hub: ScriptedHub) -> None:
    fetch(offer(both()[:1], "v1.0"))
    assert locate(replace(both()[0], revision="v1.0")).endswith(f"{COMMIT}/score_degradation")
    with pytest.raises(PrerequisiteError, match="iqloop models pull qinsight"):
        locate(both()[0])
    fetching._remember(hub.cache / "models--a--b" / "snapshots" / COMMIT, replace(offer(both()), revision="../../x"))
    assert not list(hub.cache.parent.rglob("x"))


def test_a_checkpoint_at_the_root_takes_the_roots_files_only(hub: ScriptedHub, tiny_folder: Path) -> None:
    for file in tiny_folder.iterdir():
        shutil.copy(file, hub.files)
    (hub.files / "other.safetensors").unlink()
    (folder,) = fetch(offer([CheckpointSource("v", "TianheWu/VisualQuality-R1-7B")]))
    assert {name for _, name in hub.fetched} == {file.name for file in tiny_folder.iterdir()}
    assert locate(CheckpointSource("v", "TianheWu/VisualQuality-R1-7B")) == str(folder)


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", None])
def test_another_licence_on_the_card_is_seen(hub: ScriptedHub, licence: str | None) -> None:
    hub.licence = licence
    assert offer(both()).licence_differs


def test_sizes_that_the_hub_does_not_say_are_unknown(hub: ScriptedHub) -> None:
    hub.sizes = False
    assert all(file.size is None for file in offer(both()).files)


def test_pickles_alone_are_refused(hub: ScriptedHub) -> None:
    (hub.files / "comparison" / "model.safetensors").unlink()
    with pytest.raises(CriticError, match="expected safetensors under comparison/"):
        offer(both())
    assert offer(both()[:1]).files


def test_too_little_room_is_refused_before_anything_is_fetched(hub: ScriptedHub) -> None:
    with pytest.raises(PrerequisiteError, match="has 3 bytes free: make room, or set HF_HOME"):
        fetch(replace(offer(both()), free=3))
    assert hub.fetched == []


def test_what_came_is_checked(hub: ScriptedHub) -> None:
    config = hub.files / "comparison" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"model_type": "llava"}))
    with pytest.raises(CriticError, match="got 'llava'"):
        fetch(offer(both()))
    settings["text_config"]["intermediate_size"] *= 2
    config.write_text(json.dumps(settings))
    with pytest.raises(CriticError, match=r"the weights hold [0-9]+ numbers, the configuration needs [0-9]+"):
        fetch(offer(both()))
    with pytest.raises(PrerequisiteError):
        locate(both()[0])  # not noted as the branch's


def test_offline_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, which the test run keeps off the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        PrerequisiteError, match=r"could not ask http.*/ByteDance/Q-Insight because HF_HUB_OFFLINE is set"
    ):
        offer(both())


def test_the_hubs_refusals_are_ours(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for error, kind, reason in (
        (made(RevisionNotFoundError), UsageError, "no revision 'v9': give a branch"),
        (made(GatedRepoError), PrerequisiteError, "does not show ByteDance/Q-Insight to you: .*hf auth login"),
        (made(RepositoryNotFoundError), PrerequisiteError, "hf auth login"),
        (
            ConnectionError("no route to host,\nreally"),
            PrerequisiteError,
            r"got no answer \(no route to host, really\): connect",
        ),
    ):

        def fail(*_: Any, error: Exception = error, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(hub, "model_info", fail)
        with pytest.raises(kind, match=reason) as raised:
            offer(both(), "v9")
        assert len(str(raised.value).splitlines()) == 1


def test_a_connection_that_breaks_is_one_sentence(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    what = offer(both())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def fail(*_: Any, **__: Any) -> str:
        raise OSError("connection reset")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(PrerequisiteError, match="connection reset"):
        fetch(what)


def made(kind: type[Exception]) -> Exception:
    """An error of the hub's client without the answer of a server."""
    error = kind.__new__(kind)
    error.args = ("the server said no",)
    return error


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (11_525_797, "11.5 MB"), (16_584_333_312, "16.6 GB")]
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert readable(count) == text
