"""A critic's weights, ready to ask: model, processor, view policy and prompts, from a folder or a hub id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from iqloop.critic.prompts import Q_INSIGHT, Prompt, TaskName
from iqloop.critic.views import ViewPolicy
from iqloop.errors import CriticError, PrerequisiteError


@dataclass(frozen=True)
class CheckpointSource:
    """Where a checkpoint comes from and how it is asked."""

    name: str
    """What users call it."""
    location: str
    """A folder, or a hub id such as ``ByteDance/Q-Insight``."""
    subfolder: str = ""
    """Folder inside the location."""
    tasks: tuple[TaskName, ...] | None = None
    """What it was trained to answer; None reads ``config.iqloop["tasks"]`` and falls back to score and degradation."""
    prompts: Mapping[TaskName, Prompt] = field(default_factory=lambda: Q_INSIGHT)
    max_new_tokens: int = 1024
    licence: str = "unknown"

    @property
    def is_local(self) -> bool:
        """True for a folder of this machine."""
        return Path(self.location).is_dir()


@dataclass
class Checkpoint:
    """A loaded checkpoint."""

    source: CheckpointSource
    model: Any
    processor: Any
    views: ViewPolicy
    tasks: tuple[TaskName, ...]
    version: str
    """Digest of the weights (local) or of the resolved revision (hub)."""
    answer_begin: str = ""
    """What a reasoned answer is made to begin with (``config.iqloop["answer_begin"]``); published ones need nothing."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return torch.device(self.model.device)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer


def load(source: CheckpointSource, device: str | torch.device | None = None, dtype: str | None = None) -> Checkpoint:
    """Load a checkpoint for inference.

    Args:
        source: where it is.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU when there is one.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``; None is float32 on a CPU and bfloat16 on a GPU.

    Raises:
        PrerequisiteError: the weights are not on this machine and cannot be fetched; says how to get them.
        CriticError: the folder is not a checkpoint of the kind that is understood.
    """
    folder = locate(source)
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = getattr(torch, dtype) if dtype else (torch.float32 if place.type == "cpu" else torch.bfloat16)
    try:
        processor = AutoProcessor.from_pretrained(folder, padding_side="left")
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=kind)
    except (OSError, ValueError, KeyError) as error:
        raise CriticError(f"{source.location}: not a usable checkpoint ({_first_line(error)})") from error
    if getattr(model.config, "model_type", "") != "qwen2_5_vl":
        raise CriticError(f"{source.location}: expected a Qwen2.5-VL checkpoint, got {model.config.model_type!r}")
    model.requires_grad_(False).eval().to(place)
    if place.type == "cpu":
        from iqloop.critic.fast import speed_up

        speed_up(model.model.visual)
    own: Mapping[str, Any] = getattr(model.config, "iqloop", None) or {}
    tasks = source.tasks or tuple(own.get("tasks", ("score", "degradation")))
    views = ViewPolicy.from_dict(own["views"]) if "views" in own else _processor_views(processor)
    return Checkpoint(source, model, processor, views, tasks, _digest(Path(folder)), str(own.get("answer_begin", "")))


def _processor_views(processor: Any) -> ViewPolicy:
    size = processor.image_processor.size
    return ViewPolicy("processor", pixels=int(size["longest_edge"]), min_pixels=int(size["shortest_edge"]))


def locate(source: CheckpointSource) -> str:
    """The checkpoint's folder on this machine: a local one, or the hub's cache. Nothing is fetched unasked.

    Raises `PrerequisiteError` with the command that fetches it, or `CriticError` for a folder that is no checkpoint.
    """
    if source.is_local:
        folder = Path(source.location) / source.subfolder
        if not (folder / "config.json").is_file():
            raise CriticError(f"{folder}: expected a checkpoint folder with config.json, model.safetensors, tokenizer")
        return str(folder)
    if source.location.count("/") != 1 or source.location.startswith((".", "/", "~")):
        raise PrerequisiteError(
            f"the weights of {source.name} are missing: run  pip install --force-reinstall iqloop  (or train them: "
            "iqloop train mini)"
        )
    from huggingface_hub import snapshot_download

    wanted = [f"{source.subfolder}/*"] if source.subfolder else None
    try:
        root = snapshot_download(source.location, allow_patterns=wanted, local_files_only=True)
    except Exception as error:
        include = f" --include '{source.subfolder}/*'" if source.subfolder else ""
        raise PrerequisiteError(
            f"the weights of {source.name} are not on this machine: run  hf download {source.location}{include}  first"
        ) from error
    folder = Path(root) / source.subfolder
    if not (folder / "config.json").is_file():
        raise CriticError(f"{source.location}: the copy in the hub's cache has no {source.subfolder or 'checkpoint'}")
    return str(folder)


def _digest(folder: Path) -> str:
    """First 16 hex digits over the weights' bytes; for sharded weights over names and sizes, which is enough to tell."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")) + [folder / "config.json"]:
        digest.update(file.name.encode())
        if file.stat().st_size <= 64 << 20:
            digest.update(file.read_bytes())
        else:
            digest.update(str(file.stat().st_size).encode())
    return digest.hexdigest()[:16]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
