"""Critics and tools for a command: loaded silently, with clear errors."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from iqloop.errors import CriticError, UsageError
from iqloop.recipes.options import CriticChoice

if TYPE_CHECKING:
    from iqloop.critic.protocol import Capability, Critic
    from iqloop.critic.verdicts import DecodingMode
    from iqloop.restorers.registry import Registry
    from iqloop.restorers.tool import Tool, ToolInfo


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Libraries that print while they load are not heard; errors are raised as ever."""
    nowhere = io.StringIO()
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(disabled)


def check_device(device: str | None) -> str | None:
    """The device as given; raises `UsageError` when torch does not know it or the machine has none."""
    if device is None:
        return None
    import torch

    try:
        kind = torch.device(device)
        # An allocation, because a device may be known to torch and not be there.
        torch.empty(1, device=kind)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {device}: not available on this machine; try  --device cpu") from error
    return device


def load_critic(choice: CriticChoice, needs: Sequence[Capability] = ("score",)) -> Critic:
    """The critic of a command. Raises `UsageError`, `PrerequisiteError` or `CriticError`, each in one sentence."""
    from iqloop.critic import known

    check_device(choice.device)
    with hushed():
        critic: Critic = known.create_critic(
            choice.name,
            device=choice.device,
            dtype=choice.dtype,
            decoding=cast("DecodingMode", choice.decoding),
            batch_size=choice.batch_size,
            seed=choice.seed,
            samples=choice.samples,
            **critic_options(choice.more),
        )
    for capability in needs:
        if capability not in critic.capabilities:
            able = ", ".join(sorted(critic.capabilities))
            raise CriticError(f"the critic {critic.name} cannot {capability}, it can {able}: choose another --critic")
    return critic


def critic_options(given: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as options of `iqloop.create_critic`; a value that is JSON is read as such, else it is a text.

    Raises `UsageError` for a text without a key, and for options that do not exist or have a flag of their own.
    """
    import inspect
    import json

    from iqloop.critic.known import create_critic

    flags = {"device", "dtype", "seed", "batch_size", "decoding", "samples"}
    known = [name for name in inspect.signature(create_critic).parameters if name not in flags | {"name"}]
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key not in known:
            raise UsageError(f"--critic-option takes KEY=VALUE with one of {', '.join(known)}, got {text!r}")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def load_registry(
    files: Sequence[str] = (),
    device: str | None = None,
    notice: Callable[[str], object] | None = None,
    tile: int | str | None = "auto",
) -> Registry:
    """Every tool there is, and those of model files; nothing but the files is loaded.

    Args:
        files: as ``--tool`` takes them.
        device: where those with weights run, as ``--device`` takes it.
        tile: side of the tiles of those with weights, as ``--tile`` takes it.
        notice: told the licences of a tool whose weights do not come with the package, when it is first used.
    """
    from iqloop.restorers import default_registry

    where = tool_device(device)
    registry = default_registry(device=where, tile=tile)
    for text in files:
        with hushed():
            registry.add_file(text, device=where, tile=tile)
    return registry if notice is None else _announcing(registry, notice)


def _announcing(registry: Registry, notice: Callable[[str], object]) -> Registry:
    """The same tools, of which those with weights from elsewhere are announced as they are loaded."""
    from iqloop.restorers.registry import Registry, ToolEntry, builtin_entries

    packaged = {entry.info.name for entry in builtin_entries()}

    def load(info: ToolInfo) -> Tool:
        if info.weights_licence is not None and info.name not in packaged:
            notice(f"{info.name}: licence of the code {info.code_licence}, of the weights {info.weights_licence}")
        with hushed():
            return registry.get(info.name)

    return Registry(ToolEntry(info, partial(load, info)) for info in registry)


def tool_device(device: str | None) -> str:
    """Where tools with weights run."""
    import torch

    return check_device(device) or ("cuda" if torch.cuda.is_available() else "cpu")


def is_model_file(name: str) -> bool:
    """Whether a tool was named by its file, or by the folder of a pipeline."""
    path = Path(name)
    if "=" in name or path.suffix.lower() in (".safetensors", ".pth", ".ckpt"):
        return True
    # A folder here may happen to have the name of a tool; a tool's name has no slash.
    return path.is_dir() and ("/" in name or "\\" in name or (path / "model_index.json").is_file())
