"""What a trained adapter leaves behind: its files, and the pipeline with it merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from iqloop.restorers.diffusers_tool import INDEX, weights
from iqloop.restorers.diffusion.lora import merge_into, save_adapter

NETWORK = "unet"
"""The part of a pipeline that is trained."""
Precision = Literal["float32", "float16"]


def write_adapter(network: nn.Module, folder: Path) -> None:
    """Write a folder with the adapter (`iqloop.restorers.diffusion.lora.save_adapter`), whole or not at all."""
    partial = _emptied(folder)
    save_adapter(network, partial)
    _replace(partial, folder)


def write_pipeline(source: Path, network: nn.Module, folder: Path, precision: Precision = "float32") -> None:
    """Copy the pipeline's folder ``source`` with the adapter of its network merged, whole or not at all.

    Half precision would round a part of a small change away; it is taken where asked for, and where the folder's own
    files are of the variant ``fp16``.
    """
    partial = _emptied(folder)
    index = json.loads((source / INDEX).read_text(encoding="utf-8"))
    partial.mkdir(parents=True)
    shutil.copyfile(source / INDEX, partial / INDEX)
    for part, named in index.items():
        if isinstance(named, list) and part != NETWORK and (source / part).is_dir():
            shutil.copytree(source / part, partial / part)
    variant, _ = weights(source / NETWORK)
    made: Any = type(network)
    fresh = made.from_pretrained(source / NETWORK, variant=variant, use_safetensors=True, local_files_only=True)
    merge_into(fresh, network)
    if precision == "float16" or variant == "fp16":
        fresh = fresh.to(torch.float16)
    fresh.save_pretrained(partial / NETWORK, variant=variant, safe_serialization=True)
    _nameless(partial / NETWORK / "config.json")
    _replace(partial, folder)


def _nameless(config: Path) -> None:
    """Leave out where the network came from: a path of this machine."""
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2) + "\n")


def _emptied(folder: Path) -> Path:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    return partial


def _replace(partial: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
