"""Model inputs for a batch of questions, left padded; the pixels keep their gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.pixels import MERGE, pack
from iqloop.critic.prompts import Prompt

_IMAGE_PAD = "<|image_pad|>"


@dataclass
class Inputs:
    """What the model takes; B questions of L tokens."""

    input_ids: Tensor
    """``(B, L)``, left padded."""
    attention_mask: Tensor
    """``(B, L)``, 0 on padding."""
    mm_token_type_ids: Tensor
    """``(B, L)``, 1 on image tokens; without it the model silently takes one-dimensional positions."""
    pixel_values: Tensor
    """``(patches, 1176)``, for patches of 14 x 14."""
    image_grid_thw: Tensor
    """``(images, 3)``: frames, rows, columns in patches."""

    def as_dict(self) -> dict[str, Tensor]:
        """Keyword arguments for the model."""
        return dict(vars(self))


def question(checkpoint: Checkpoint, prompt: Prompt, text_first: bool = False) -> str:
    """The chat-templated text up to the assistant's turn, one image token per image."""
    return str(
        checkpoint.processor.apply_chat_template(
            prompt.messages(text_first), add_generation_prompt=True, tokenize=False
        )
    )


def tokens_per_image(view: Tensor, unit: int) -> int:
    """Visual tokens of a view ``(3, H, W)``, each ``unit`` pixels wide and high."""
    return (view.shape[-2] // unit) * (view.shape[-1] // unit)


def encode(checkpoint: Checkpoint, text: str, images: Sequence[Tensor]) -> list[int]:
    """Token ids of a templated text whose image tokens are repeated to fit the images."""
    parts = text.split(_IMAGE_PAD)
    assert len(parts) == len(images) + 1, "one image token per image"
    filled = parts[0]
    for view, part in zip(images, parts[1:], strict=True):
        filled += _IMAGE_PAD * tokens_per_image(view, checkpoint.views.unit) + part
    return list(checkpoint.tokenizer(filled, add_special_tokens=False)["input_ids"])


def collate(checkpoint: Checkpoint, rows: Sequence[Sequence[int]], images: Sequence[Sequence[Tensor]]) -> Inputs:
    """Left-padded inputs of token rows and each row's views ``(3, H, W)`` in [0, 1]."""
    device, config = checkpoint.device, checkpoint.model.config
    length = max(len(row) for row in rows)
    pad: Any = checkpoint.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    flat = [view.to(device) for views in images for view in views]
    patches, grid = pack(flat, patch=checkpoint.views.unit // MERGE)
    kinds = (ids == config.image_token_id).to(torch.int32)
    return Inputs(ids, mask, kinds, patches.to(checkpoint.model.dtype), grid)
