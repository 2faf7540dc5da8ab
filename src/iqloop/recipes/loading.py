"""Critics and tools for a command: loaded silently, with clear errors."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from iqloop.errors import CriticError, UsageError
from iqloop.recipes.options import CriticChoice

if TYPE_CHECKING:
    from iqloop.critic.protocol import Capability, Critic
    from iqloop.critic.verdicts import DecodingMode
    from iqloop.restorers.registry import Registry


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


def load_registry(files: Sequence[str] = (), device: str | None = None) -> Registry:
    """Every tool there is, and those of model files; nothing but the files is loaded."""
    from iqloop.restorers import default_registry

    registry = default_registry()
    for text in files:
        with hushed():
            registry.add_file(text, device=tool_device(device))
    return registry


def tool_device(device: str | None) -> str:
    """Where tools with weights run."""
    import torch

    return check_device(device) or ("cuda" if torch.cuda.is_available() else "cpu")


def is_model_file(name: str) -> bool:
    """Whether a tool was named by its file."""
    return "=" in name or Path(name).suffix.lower() in (".safetensors", ".pth", ".ckpt")
