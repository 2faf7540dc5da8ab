"""A checkpoint folder as a model, without transformers: which folders this can read, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from iqloop.critic.locate import read_json
from iqloop.critic.qwen.model import Qwen
from iqloop.errors import CriticError

_TEXT = {"hidden_act": "silu", "use_sliding_window": False}
_VISION = {"hidden_act": "silu", "in_channels": 3, "spatial_merge_size": 2, "temporal_patch_size": 2}


def understands(folder: Path) -> bool:
    """Whether `read` can read this checkpoint: one file of weights, in the layout and with the parts known here."""
    config = read_json(folder / "config.json")
    text, vision = config.get("text_config"), config.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict) or "quantization_config" in config:
        return False
    rope, axial = text.get("rope_parameters") or {}, vision.get("rope_parameters") or {}
    return (
        all(text.get(key) == value for key, value in _TEXT.items())
        and all(vision.get(key) == value for key, value in _VISION.items())
        and rope.get("rope_type") == "default"
        and "mrope_section" in rope
        and axial.get("rope_type") == "axial"
        and set(text.get("layer_types") or ()) <= {"full_attention"}
        and text.get("head_dim") in (None, text["hidden_size"] // text["num_attention_heads"])
        and (folder / "model.safetensors").is_file()
    )


def read(folder: Path, dtype: torch.dtype) -> Qwen:
    """The model of a folder that `understands`, on the CPU; raises `CriticError` where the weights do not fit."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        model = Qwen(read_json(folder / "config.json"), _settings(folder))
    tensors = {_name(key): tensor.to(dtype) for key, tensor in load_file(folder / "model.safetensors").items()}
    if model.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors.get("model.language_model.embed_tokens.weight", torch.empty(0))
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    missing = sorted(set(wanted) - set(tensors))
    if missing:
        raise CriticError(f"{folder}: the weights lack {len(missing)} of the model's tensors, the first {missing[0]}")
    for key, shape in sorted(wanted.items()):
        if tuple(tensors[key].shape) != shape:
            raise CriticError(
                f"{folder}: weights and configuration disagree on the shape of {key}: "
                f"{tuple(tensors[key].shape)} and {shape}"
            )
    model.load_state_dict({key: tensors[key] for key in wanted}, assign=True)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
    return model.eval()


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "generation_config.json"
    return read_json(file) if file.is_file() else {}


def _name(key: str) -> str:
    """A tensor's name as the modules are nested here and in transformers 5, from how files have it."""
    if key.startswith(("model.visual.", "model.language_model.", "lm_head.")):
        return key
    if key.startswith("visual."):
        return "model." + key
    return "model.language_model." + key.removeprefix("model.")
