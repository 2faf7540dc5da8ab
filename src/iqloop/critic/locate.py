"""Where a checkpoint's files are on this machine, and whether they are what they should be.

Nothing is fetched, and no tensor is read: configurations, and the headers and lengths of safetensors. Pickled weights
are refused, because reading a pickle can run code.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import CriticError, IqloopError, PrerequisiteError, UsageError

if TYPE_CHECKING:
    from iqloop.critic.checkpoint import CheckpointSource

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)+")
VISION_LANGUAGE = "qwen2_5_vl"
"""``model_type`` of the checkpoints that answer questions."""
EMBEDDED = {"qinsight-mini": "iqloop train mini", "nss-mini": "iqloop train nss"}
"""The critics that come in the package, and what trains them."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def locate(source: CheckpointSource) -> str:
    """The checkpoint's folder on this machine: a local one, or the hub's cache. Nothing is fetched unasked.

    Looks at the files too, without reading weights: a folder that this returns has all shards, whole, and its adapter.

    Raises:
        UsageError: a revision of a folder.
        PrerequisiteError: it is not on this machine; says the command that fetches it.
        CriticError: a folder that is no checkpoint, is damaged, or has its weights as pickles.
    """
    if source.is_local:
        if source.revision is not None:
            raise UsageError(f"{source.location} is a folder: a revision ({source.revision}) belongs to a hub id")
        folder = Path(source.location) / source.subfolder
    else:
        folder = _cached(source)
    check_kind(folder, source.model_type)
    check_weights(folder)
    locate_adapter(source)
    return str(folder)


def locate_adapter(source: CheckpointSource) -> str | None:
    """The adapter's folder on this machine, or None for a source without; raises as `locate` does."""
    if source.adapter is None:
        return None
    folder = Path(source.adapter)
    if not folder.is_dir():
        repository, inside = _hub_id(source.adapter)
        root = _snapshot(repository, None) if repository else None
        if root is None or not (root / inside / "adapter_config.json").is_file():
            how = (
                f"run  hf download {repository}  first" if repository else "expected a folder with adapter_config.json"
            )
            raise PrerequisiteError(f"the adapter {source.adapter} is not on this machine: {how}")
        folder = root / inside
    config = read_json(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise CriticError(f"{folder}: expected a LoRA adapter, got peft_type {config.get('peft_type')!r}")
    if config.get("megatron_config"):
        raise CriticError(f"{folder}: adapters for Megatron are not supported")  # they name a module to import
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise CriticError(_no_weights(folder, "adapter_model.safetensors"))
    _check_header(file)
    return str(folder)


def check_kind(folder: Path, wanted: str = VISION_LANGUAGE) -> None:
    """Refuse a folder whose configuration is of another kind, by default than Qwen2.5-VL's; raises `CriticError`."""
    if not (folder / "config.json").is_file():
        below = sorted(file.parent.name for file in folder.glob("*/config.json"))
        hint = f"; it has checkpoints in its folders {' and '.join(below)}: name one" if below else ""
        raise CriticError(
            f"{folder}: expected a checkpoint folder with config.json, model.safetensors, tokenizer{hint}"
        )
    kind = read_json(folder / "config.json").get("model_type")
    if kind != wanted:
        what = "a Qwen2.5-VL checkpoint" if wanted == VISION_LANGUAGE else "weights"
        raise CriticError(f"{folder}: expected {what} (model_type {wanted}), got {kind!r}")


def check_weights(folder: Path) -> int:
    """Refuse weights that are pickled, incomplete or cut short; returns how many numbers they hold.

    Reads each file's header and length, not its tensors. Raises `CriticError`.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return _check_header(folder / "model.safetensors")
    if not index.is_file():
        raise CriticError(_no_weights(folder, "model.safetensors"))
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CriticError(f"{index}: expected the shard of each tensor under weight_map")
    total = 0
    for name in sorted(set(shards.values())):
        if not isinstance(name, str) or Path(name).name != name:
            raise CriticError(f"{index}: expected the names of files beside it, got {name!r}")
        if not (folder / name).is_file():
            raise CriticError(f"{folder / name}: a shard of the weights is missing: fetch or copy the checkpoint again")
        total += _check_header(folder / name)
    return total


def _check_header(file: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118  no iterator
    except (SafetensorError, OSError) as error:
        raise CriticError(
            f"{file}: damaged or cut short ({one_line(error)}): fetch or copy the checkpoint again"
        ) from error
    return sum(math.prod(shape) for shape in shapes)


def _no_weights(folder: Path, wanted: str) -> str:
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES) if folder.is_dir() else []
    if pickles:
        return (
            f"{folder}: its weights are pickled ({pickles[0]}), and a pickle can run code: expected {wanted}; save it "
            "as safetensors where you trust it"
        )
    return f"{folder}: expected {wanted}, found no weights"


def _cached(source: CheckpointSource) -> Path:
    """The checkpoint's folder in the hub's cache."""
    repository, inside = _hub_id(source.location)
    if not repository:
        if source.name in EMBEDDED:
            raise PrerequisiteError(
                f"the weights of {source.name} are missing: run  pip install --force-reinstall iqloop  (or train them: "
                f"{EMBEDDED[source.name]})"
            )
        base = f"the base of the adapter {source.adapter}" if source.adapter else source.name
        raise PrerequisiteError(
            f"{source.location} ({base}) is not on this machine: give its folder, or a hub id such as "
            "ByteDance/Q-Insight"
        )
    inside = "/".join(part for part in (inside, source.subfolder) if part)
    root = _snapshot(repository, source.revision)
    if root is not None and (
        (root / inside / "config.json").is_file() or (not inside and any(root.glob("*/config.json")))
    ):
        return root / inside
    from iqloop.critic.fetch import how_to_fetch

    raise PrerequisiteError(f"the weights of {source.name} are not on this machine: run  {how_to_fetch(source)}")


def _hub_id(location: str) -> tuple[str, str]:
    """Repository and folder inside it of ``ORG/NAME`` or ``ORG/NAME/FOLDER``; empty strings for what is no hub id."""
    if not _HUB_ID.fullmatch(location) or ".." in location:
        return "", ""
    owner, name, *inside = location.split("/")
    return f"{owner}/{name}", "/".join(inside)


def _snapshot(repository: str, revision: str | None) -> Path | None:
    """A repository's folder in the hub's cache, complete or not; None when there is none."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except Exception as error:  # a class per reason, and other ones in other versions
        # A part of a repository is all we need, and its files are looked at one by one.
        partial = getattr(error, "snapshot_path", None)
        return Path(partial) if partial else None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `CriticError`."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CriticError(f"{file}: expected a JSON file, could not read it ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise CriticError(f"{file}: expected a JSON object, got {type(found).__name__}")
    return found


@contextmanager
def as_critic_error(what: str, trouble: str) -> Iterator[None]:
    """Whatever the libraries raise over a bad checkpoint becomes one sentence; lack of memory stays what it is."""
    try:
        yield
    except IqloopError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise CriticError(f"{what}: {trouble} ({one_line(error)})") from error


def is_out_of_memory(error: Exception) -> bool:
    """True for Python's and torch's ways of saying so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "out of memory" in str(error) or "can't allocate memory" in str(error)


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
