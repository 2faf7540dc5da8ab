"""`qinsight-mini`, built from nothing: a Qwen2.5-VL of under six million parameters with its own tokenizer.

Same classes, files and code path as the 7B checkpoint; only the sizes differ. The vocabulary is byte-level BPE with
Qwen's pre-tokenizer (each digit one token), learned on the prompts and the templated reasoning, so any text still
encodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from iqloop.critic.prompts import TaskName
from iqloop.critic.views import ViewPolicy

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen2-VL's special tokens, in its order."""

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2-VL's turns, without its default system text."""

WIDTH = 256
"""Of the vision tower and of the language model."""
PATCH = 14
"""Side of a patch, in pixels, as in the published checkpoints."""
VIEWS = ViewPolicy(
    kind="native",
    unit=2 * PATCH,
    pixels=128 * (2 * PATCH) ** 2,
    crop=336,
    crops=2,
    whole_weight=0.25,
    pair_pixels=224 * 224,
    pair_crops=4,
    reflections=4,
)
"""Distortions live in the pixels: no resampling within the budget; above it, native crops and the whole. Twice as many
crops and pixels cost 2.3 times the time and saw no better; of pairs larger than those it learned on it sees nothing;
what several crops are for a large image, its reflections are for a small one (docs/log.md)."""
TASKS: tuple[TaskName, ...] = ("score", "degradation", "describe", "compare", "compare-reference")
TIE_BAND = 0.02
"""Of its comparisons (`iqloop.critic.checkpoint.CheckpointSource.tie_band`): it writes "similar" too readily, and its
probabilities know better (docs/log.md)."""
BEGIN = "<think>"
"""A written answer begins so, and `begin_suppress_tokens` keeps the thought from being empty: the mini also learned to
answer without one, for scores and labels that are read out directly."""


def build_tokenizer(corpus: Iterable[str], vocabulary: int = 800) -> Any:
    """A Qwen2 tokenizer whose merges are learned on ``corpus``."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    bpe = Tokenizer(BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    make: Any = Qwen2Tokenizer  # its annotations know less than its code
    return make(
        vocab=model["vocab"],
        merges=merges,
        eos_token="<|im_end|>",  # noqa: S106 (a token of the vocabulary)
        pad_token="<|endoftext|>",  # noqa: S106
        unk_token=None,
        bos_token=None,
        additional_special_tokens=list(SPECIAL),
    )


def build_processor(tokenizer: Any, patch: int = PATCH) -> Any:
    """The processor: Qwen2-VL's, with the mini's pixel budget and side of a patch."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            patch_size=patch, min_pixels=(4 * patch) ** 2, max_pixels=(28 * patch) ** 2
        ),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=patch),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    tokenizer: Any,
    *,
    width: int = WIDTH,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    seed: int = 0,
) -> Any:
    """The model with random weights, of a ``width`` divisible by 64.

    ``vision`` and ``text`` override sizes (tests build smaller ones).
    """
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 3,
            "num_attention_heads": width // 32,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            **(text or {}),
        },
        vision_config={
            "depth": 4,
            "hidden_size": width,
            "num_heads": width // 64,
            "intermediate_size": width * 3 // 2,
            "out_hidden_size": (text or {}).get("hidden_size", width),
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 8 * PATCH,
            "fullatt_block_indexes": [1, 3],
            **(vision or {}),
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    unit = 2 * (vision or {}).get("patch_size", PATCH)
    views = replace(VIEWS, unit=unit, pixels=VIEWS.pixels * unit**2 // VIEWS.unit**2)
    config.iqloop = {"views": views.to_dict(), "tasks": list(TASKS), "answer_begin": BEGIN, "tie_band": TIE_BAND}
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    stop = [token("<|im_end|>"), token("<|endoftext|>")]
    empty = tokenizer(f"{BEGIN} </think>")["input_ids"][len(tokenizer(BEGIN)["input_ids"])]
    model.generation_config = GenerationConfig(
        eos_token_id=stop, pad_token_id=token("<|endoftext|>"), begin_suppress_tokens=[empty]
    )
    return model


def save(model: Any, processor: Any, folder: Path) -> None:
    """Write a checkpoint folder that `AutoModelForImageTextToText` and `AutoProcessor` load."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    # How the tokenizer was read last is written down too; whoever reads it next may be somewhere else.
    table = folder / "tokenizer_config.json"
    known = json.loads(table.read_text())
    kept = {name: value for name, value in known.items() if name not in ("is_local", "local_files_only")}
    table.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors files are written for the owner only
