"""What the language model has read so far, kept as keys and values: whatever follows costs only itself.

An image is encoded once (`see`), the beginning of a prompt up to its last image is read once (`look`), and every
question, every continuation and every drawn answer goes on from there. The text before the first image is the same for
every image and is read once for all of them. Reading never changes a context: it gives a new one, so any number of
questions can start at the same place. Gradients flow through all of it, back to the pixels.

Equal to stock forwards of whole prompts (tested); positions are Qwen2.5-VL's three-dimensional ones, padding stands in
front of what a step adds.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.pixels import FRAMES, MERGE, pack

IMAGE_PAD, IMAGE_END = "<|image_pad|>", "<|vision_end|>"

PATCHES_AT_ONCE = {"cpu": 1536}
"""Patches per forward of the vision tower by device, elsewhere 32768: bounds memory whatever the number of images. A
CPU is fastest while activations stay in its caches: eight images of 448 px together took 1.4 times as long."""
_REMEMBERED = 16
_begun: weakref.WeakKeyDictionary[Any, dict[Any, Context]] = weakref.WeakKeyDictionary()
"""For each language model: the beginnings before the first image that it has read."""


class Seen(NamedTuple):
    """One encoded view."""

    tokens: Tensor
    """``(T, D)`` visual tokens as the language model takes them."""
    grid: tuple[int, int]
    """Rows and columns of patches; ``T`` is their product over 4."""


@dataclass(frozen=True)
class Context:
    """B beginnings of L tokens that the language model has read."""

    cache: Any
    """Keys and values of every layer: an `iqloop.critic.qwen.language.Cache`, or a transformers ``DynamicCache``."""
    ids: Tensor
    """``(B, L)`` token ids; meaningless where ``mask`` is False."""
    mask: Tensor
    """``(B, L)`` bool, False on padding."""
    position: Tensor
    """``(B, 1)`` position of the next token."""

    def rows(self, index: Tensor) -> Context:
        """Some of the beginnings, repeated or reordered: ``index`` is ``(n,)`` of row numbers."""
        cache = _fork(self.cache)
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
        return Context(cache, self.ids[index], self.mask[index], self.position[index])


def see(checkpoint: Checkpoint, views: Sequence[Tensor]) -> list[Seen]:
    """Encode views ``(3, H, W)`` in [0, 1], sides multiples of a token's; the vision tower runs once per view."""
    most = PATCHES_AT_ONCE.get(checkpoint.device.type, 32768)
    seen: list[Seen] = []
    batch: list[Tensor] = []
    count = 0
    for view in views:
        patches = view.shape[-2] * view.shape[-1] * MERGE**2 // checkpoint.views.unit**2
        if batch and count + patches > most:
            seen.extend(_encode(checkpoint, batch))
            batch, count = [], 0
        batch.append(view)
        count += patches
    return seen + (_encode(checkpoint, batch) if batch else [])


def _encode(checkpoint: Checkpoint, views: Sequence[Tensor]) -> list[Seen]:
    visual = checkpoint.model.model.visual
    frames = 1 if getattr(visual.patch_embed, "takes_one_frame", False) else FRAMES
    patch = checkpoint.views.unit // MERGE
    patches, grid = pack([view.to(checkpoint.device) for view in views], frames, patch)
    out = visual(patches.to(visual.dtype), grid_thw=grid).pooler_output
    tokens = torch.cat(list(out)) if isinstance(out, (tuple, list)) else out
    grids = [(int(rows), int(columns)) for _, rows, columns in grid.tolist()]
    parts = tokens.split([rows * columns // MERGE**2 for rows, columns in grids])
    return [Seen(part, grid) for part, grid in zip(parts, grids, strict=True)]


def look(checkpoint: Checkpoint, text: str, images: Sequence[Sequence[Seen]]) -> Context:
    """Read the beginning of a prompt, up to and with its last image, for B rows of as many images each.

    Args:
        checkpoint: whose language model reads.
        text: templated text with one image token per image; ends at the end of an image.
        images: each row's images.
    """
    before, *between = text.split(IMAGE_PAD)
    if any(len(row) != len(between) for row in images):
        raise ValueError(f"expected {len(between)} images in each row")
    begun = _begin(checkpoint, before)
    pad = checkpoint.model.config.image_token_id
    texts = [tokens_of(checkpoint, part) for part in between]
    rows = [[t for s, part in zip(row, texts, strict=True) for t in [pad] * len(s.tokens) + part] for row in images]
    count = torch.zeros(len(rows), dtype=torch.long, device=begun.ids.device)
    context, _ = _read(checkpoint, begun.rows(count), rows, images)
    return context


def extend(checkpoint: Checkpoint, context: Context, rows: Sequence[Sequence[int]]) -> tuple[Context, Tensor]:
    """Read text tokens on, one list per row: the longer context, and the last hidden state ``(B, D)`` of each row."""
    return _read(checkpoint, context, rows, None)


def tokens_of(checkpoint: Checkpoint, text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return list(checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])


def forward(
    checkpoint: Checkpoint, cache: Any, embeddings: Tensor, positions: Tensor, mask: Tensor | None
) -> tuple[Any, Tensor]:
    """One step of the language model on top of a cache that it leaves as it is: new cache, hidden states ``(B, n, D)``.

    Args:
        checkpoint: whose language model.
        cache: what was read before; L tokens.
        embeddings: ``(B, n, D)``.
        positions: ``(3, B, n)``.
        mask: ``(B, L + n)`` bool for causal reading, ``(B, 1, n, L + n)`` bool for any other; None hides nothing.
    """
    if mask is not None and mask.ndim == 4:
        shown = torch.zeros(mask.shape, dtype=embeddings.dtype, device=mask.device)
        mask = shown.masked_fill(~mask, torch.finfo(embeddings.dtype).min)
    cache = _fork(cache)
    out = checkpoint.model.model.language_model(
        inputs_embeds=embeddings,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
    )
    return cache, out.last_hidden_state


def embed(checkpoint: Checkpoint, ids: Tensor) -> Tensor:
    """Embeddings ``(B, n, D)`` of token ids ``(B, n)``."""
    return torch.as_tensor(checkpoint.model.get_input_embeddings()(ids))


def logits_of(checkpoint: Checkpoint, hidden: Tensor) -> Tensor:
    """Logits over the vocabulary, in float32 (float64 stays)."""
    # A model that is spread over devices gives its output on the last one.
    logits = checkpoint.model.lm_head(hidden).to(checkpoint.device)
    return torch.as_tensor(logits if logits.dtype == torch.float64 else logits.float())


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of tokens as ``(B, n)`` ids and bool mask, padding in front."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[False] * (length - len(row)) + [True] * len(row) for row in rows], device=device)
    return ids, mask


def _read(
    checkpoint: Checkpoint, context: Context, rows: Sequence[Sequence[int]], images: Sequence[Sequence[Seen]] | None
) -> tuple[Context, Tensor]:
    ids, real = pad_left(rows, checkpoint.tokenizer.pad_token_id, context.ids.device)
    embeddings = embed(checkpoint, ids)
    if images is None:
        steps = (real.cumsum(1) - 1).clamp_min(0)
        positions = (context.position + steps).expand(3, -1, -1)
        after = context.position + real.sum(1, keepdim=True)
    else:
        is_image = ids == checkpoint.model.config.image_token_id
        flat = [seen for row in images for seen in row]
        visual = torch.cat([seen.tokens for seen in flat]).to(embeddings)
        embeddings = embeddings.masked_scatter(is_image[..., None], visual)
        grid = torch.tensor([(1, *seen.grid) for seen in flat], device=ids.device)
        positions, delta = checkpoint.model.model.get_rope_index(
            ids, mm_token_type_ids=is_image.int(), image_grid_thw=grid, attention_mask=real.long()
        )
        positions = positions + context.position
        # An image takes as many positions as its longer side has tokens, hence the difference.
        after = context.position + real.sum(1, keepdim=True) + delta.to(ids.device)
    mask = torch.cat([context.mask, real], dim=1)
    cache, hidden = forward(checkpoint, context.cache, embeddings, positions, mask)
    return Context(cache, torch.cat([context.ids, ids], dim=1), mask, after), hidden[:, -1]


def _begin(checkpoint: Checkpoint, text: str) -> Context:
    """The text before the first image, read once and remembered until the weights change."""
    model = checkpoint.model.model.language_model
    parameters = list(model.parameters())
    trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
    known = _begun.setdefault(model, {})
    key = (text, sum(parameter._version for parameter in parameters), str(checkpoint.device), checkpoint.model.dtype)
    if not trained and key in known:
        return known[key]
    device = checkpoint.device
    ids = torch.tensor([tokens_of(checkpoint, text)], device=device)
    positions = torch.arange(ids.shape[1], device=device).expand(3, 1, -1)
    cache = _empty(checkpoint.model)
    with torch.set_grad_enabled(trained):
        cache, _ = forward(checkpoint, cache, embed(checkpoint, ids), positions, None)
    mask = torch.ones_like(ids, dtype=torch.bool)
    context = Context(cache, ids, mask, torch.tensor([[ids.shape[1]]], device=device))
    if not trained:
        if len(known) >= _REMEMBERED:
            known.clear()
        known[key] = context
    return context


def _empty(model: Any) -> Any:
    if hasattr(model, "empty_cache"):
        return model.empty_cache()
    from transformers import DynamicCache

    return DynamicCache(config=model.config.get_text_config())


def _fork(cache: Any) -> Any:
    """A cache that can grow by itself: its tensors are shared, not copied (growing makes new ones)."""
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork
