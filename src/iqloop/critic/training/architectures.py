"""The published checkpoints' architecture as numbers, so that a run can be planned before their weights are here.

Source: ``config.json`` of `BASE`, which Q-Insight and VisualQuality-R1 were trained from.
"""

from __future__ import annotations

from typing import Any

BASE = "Qwen/Qwen2.5-VL-7B-Instruct"

TEXT: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
}
VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}


def qwen2_5_vl_7b() -> Any:
    """The model without weights, on the meta device: 8,292,166,656 parameters."""
    import torch
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

    config = Qwen2_5_VLConfig(text_config=TEXT, vision_config=VISION, tie_word_embeddings=False)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config).eval()
