"""The registry: one list, no surprises; plug-ins that cannot break it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import Tensor

import iqloop.restorers
from iqloop.errors import ToolError, UsageError
from iqloop.restorers import CLASSICAL, Registry, Tool, ToolEntry, ToolInfo, default_registry
from iqloop.restorers import registry as registry_module
from iqloop.restorers.embedded import embedded
from iqloop.restorers.registry import builtin_entries, parse_file

NOISE = ("median-switch", "tv", "dct", "dct-strong")


class Fake:
    """A tool that does nothing."""

    def __init__(self, name: str = "fake") -> None:
        self.info = ToolInfo(name, ("noise",), "does nothing")

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        return image


def entry(name: str) -> ToolEntry:
    return ToolEntry(ToolInfo(name, ("noise",), "does nothing"), lambda: Fake(name))


def test_holds_the_nets_of_the_package_and_the_classical_tools() -> None:
    registry = default_registry(plugins=False)
    assert registry.names() == tuple(info.name for info in (*embedded(), *CLASSICAL))
    assert all(isinstance(registry.get(name), Tool) for name in registry.names())
    assert all(registry.get(info.name).info == info for info in registry)


def test_registries_are_independent() -> None:
    first, second = default_registry(plugins=False), default_registry(plugins=False)
    first.add(entry("mine"))
    assert "mine" in first and "mine" not in second


def test_loads_late_and_once() -> None:
    loaded: list[str] = []

    def load() -> Tool:
        loaded.append("x")
        return Fake("lazy")

    registry = Registry([ToolEntry(ToolInfo("lazy", ("noise",), ""), load)])
    assert [info.name for info in registry] == ["lazy"] and registry.info("lazy").name == "lazy" and not loaded
    assert registry.get("lazy") is registry.get("lazy")
    assert loaded == ["x"]


def test_failed_add_changes_nothing() -> None:
    registry = Registry([entry("a")])
    with pytest.raises(UsageError, match="'a' is registered already"):
        registry.add(entry("b"), entry("a"))
    with pytest.raises(UsageError, match="registered already"):
        registry.add(entry("c"), entry("c"))
    with pytest.raises(UsageError, match="one word"):
        registry.add(entry("d"), entry("x=y"))
    assert registry.names() == ("a",) and len(registry) == 1


def test_entries_are_frozen() -> None:
    with pytest.raises(AttributeError):
        entry("a").info = None  # type: ignore[misc, assignment]


def test_unknown_name_lists_close_ones() -> None:
    registry = default_registry(plugins=False)
    with pytest.raises(UsageError, match="no tool named 'deblok-dct': did you mean deblock-dct"):
        registry.get("deblok-dct")
    with pytest.raises(UsageError, match="there are denoise"):
        registry.info("zzzz")


def test_tools_for_orders_by_strength() -> None:
    registry = default_registry(plugins=False)
    assert [i.info.name for i in registry.tools_for("noise")] == ["denoise", *NOISE]
    enlarge = [i.info.name for i in registry.tools_for("low-resolution", scale=2)]
    assert enlarge == ["upscale-x2", "bicubic-x2", "backproject-x2"]
    assert registry.tools_for("noise", scale=4) == []
    with pytest.raises(UsageError, match="unknown degradation 'rain'"):
        registry.tools_for("rain")  # type: ignore[arg-type]


@pytest.mark.parametrize("treatment", ["noise", "blur", "compression", "darken"])
def test_every_treatment_has_choices(treatment: str) -> None:
    assert len(default_registry(plugins=False).tools_for(treatment)) >= 2  # type: ignore[arg-type]


def test_parse_file() -> None:
    assert parse_file("net=a/b.pth") == ("net", None, Path("a/b.pth"))
    assert parse_file("a/b=c.pth") == ("b=c", None, Path("a/b=c.pth"))
    assert parse_file("a/b.safetensors") == ("b", None, Path("a/b.safetensors"))
    assert parse_file("net:blur=x.pth") == ("net", ("blur",), Path("x.pth"))
    for wrong in ("net=", "=x.pth", "net:fog=x.pth", ""):
        with pytest.raises(UsageError):
            parse_file(wrong)


def test_add_file_failure_changes_nothing(tmp_path: Path) -> None:
    registry = Registry([entry("a")])
    with pytest.raises(ToolError, match="no such file"):
        registry.add_file(f"net={tmp_path / 'none.pth'}")
    with pytest.raises(UsageError, match="registered already"):
        registry.add_file(f"a={tmp_path / 'none.pth'}")
    assert registry.names() == ("a",)


def plug(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    points = [EntryPoint(name, value, "iqloop.restorers") for name, value in values.items()]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points)


def failing_plugin() -> Tool:
    raise OSError("no weights here")


PLUGGED = entry("plugged")
NOT_A_TOOL = 3


def test_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, fake=f"{__name__}:Fake", plugged=f"{__name__}:PLUGGED")
    registry = default_registry()
    assert registry.names()[-2:] == ("fake", "plugged")
    assert registry.get("fake").restore(torch.ones(1, 3, 2, 2)).sum() == 12
    assert registry.get("plugged").info.name == "plugged"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f"{__name__}:failing_plugin", "no weights here"),
        (f"{__name__}:NOT_A_TOOL", "expected a ToolEntry"),
        (f"{__name__}:dict", "no attribute"),
        ("iqloop_no_such_module:x", "No module named"),
    ],
)
def test_a_broken_plugin_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    plug(monkeypatch, broken=value, fake=f"{__name__}:Fake")
    with pytest.warns(RuntimeWarning, match=f"plug-in 'broken' .* is left out: .*{reason}"):
        registry = default_registry()
    assert registry.names()[-1] == "fake" and len(registry) == len(builtin_entries()) + 1


def test_a_plugin_cannot_replace_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "plugin_entries", lambda: [entry("dct"), entry("other")])
    with pytest.warns(RuntimeWarning, match="plug-in tool 'dct' is left out"):
        registry = default_registry()
    assert registry.info("dct").summary != "does nothing" and "other" in registry


def test_exports_are_what_they_say() -> None:
    for name in iqloop.restorers.__all__:
        assert getattr(iqloop.restorers, name) is not None
    assert sorted(iqloop.restorers.__all__) == dir(iqloop.restorers)
    assert set(iqloop.restorers._HOME) == set(iqloop.restorers.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = iqloop.restorers.nothing


def test_import_is_light() -> None:
    code = (
        "import sys, iqloop.restorers as r; assert 'torch' not in sys.modules;"
        "r.default_registry(plugins=False);"
        "heavy = {'spandrel', 'torchvision', 'kornia', 'skimage', 'cv2'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
