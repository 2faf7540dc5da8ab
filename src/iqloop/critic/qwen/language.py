"""The language model of Qwen2.5-VL, which goes on from what it has read before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqloop.critic.fast import rotate
from iqloop.critic.qwen.layers import MLP, Embedding, Linear, RMSNorm


@dataclass
class Layer:
    """What one layer has read: keys and values ``(B, heads, L, D)``; None before the first token."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append; the tensors that were there stay as they are."""
        if self.keys is None or self.values is None:
            # Side by side from the first: whatever is appended later takes over how these lie.
            keys, values = keys.contiguous(), values.contiguous()
        else:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


@dataclass
class Cache:
    """What all layers have read; looks like the part of transformers' ``DynamicCache`` that is used here."""

    layers: list[Layer]


class Attention(nn.Module):
    """Attention of groups of queries on fewer keys (Ainslie et al. 2023), on top of what was read before."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width, self.heads, self.groups = (
            sizes["hidden_size"],
            sizes["num_attention_heads"],
            sizes["num_key_value_heads"],
        )
        self.size = width // self.heads
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, self.groups * self.size)
        self.v_proj = Linear(width, self.groups * self.size)
        self.o_proj = Linear(width, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, layer: Layer) -> Tensor:
        """``(B, n, D)`` to the same; ``mask`` is added to the logits ``(B, heads, n, L + n)``."""
        batch, count, _ = x.shape
        q, k, v = (
            project(x).view(batch, count, -1, self.size).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *turn), rotate(k, *turn)
        k, v = layer.update(k, v)
        shared = self.heads // self.groups
        if count == 1:
            # A single token's queries of one group are as good as so many tokens': nothing that was read is copied.
            q = q.view(batch, self.groups, shared, self.size)
        elif shared > 1:
            k, v = (t.repeat_interleave(shared, dim=1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.size**-0.5)
        out = out.view(batch, self.heads, count, self.size) if count == 1 else out
        return torch.as_tensor(self.o_proj(out.transpose(1, 2).flatten(2)))


class DecoderLayer(nn.Module):
    """Attention and MLP, each after a norm and beside a shortcut."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = sizes["hidden_size"], sizes["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width, eps), RMSNorm(width, eps)
        self.self_attn = Attention(sizes)
        self.mlp = MLP(width, sizes["intermediate_size"], bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, layer: Layer) -> Tensor:
        """As `Attention`."""
        x = x + self.self_attn(self.input_layernorm(x), turn, mask, layer)
        return torch.as_tensor(x + self.mlp(self.post_attention_layernorm(x)))


class LanguageModel(nn.Module):
    """The decoder, without the projection to words."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = Embedding(sizes["vocab_size"], sizes["hidden_size"])
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes["num_hidden_layers"]))
        self.norm = RMSNorm(sizes["hidden_size"], sizes["rms_norm_eps"])
        self.angles = sizes["hidden_size"] // sizes["num_attention_heads"] // 2
        self.theta = float(sizes["rope_parameters"]["rope_theta"])
        self.sections = tuple(sizes["rope_parameters"]["mrope_section"])

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None,
        past_key_values: Cache,
        use_cache: bool = True,
    ) -> SimpleNamespace:
        """Read n tokens on: ``last_hidden_state`` ``(B, n, D)``; the cache grows in place.

        Args:
            inputs_embeds: ``(B, n, D)``.
            position_ids: ``(3, B, n)``: time, row and column.
            attention_mask: ``(B, L + n)`` bool for causal reading, ``(B, 1, n, L + n)`` to be added, or None.
            past_key_values: what was read before.
            use_cache: as transformers' models take it; there is no reading without one.
        """
        mask = self._mask(inputs_embeds, attention_mask, past_key_values)
        turn = self._turn(position_ids, inputs_embeds.dtype)
        x = inputs_embeds
        for block, layer in zip(self.layers, past_key_values.layers, strict=True):
            x = block(x, turn, mask, layer)
        return SimpleNamespace(last_hidden_state=self.norm(x))

    def _mask(self, x: Tensor, given: Tensor | None, cache: Cache) -> Tensor | None:
        if given is not None and given.ndim == 4:
            return given
        count = x.shape[1]
        before = 0 if cache.layers[0].keys is None else cache.layers[0].keys.shape[2]
        if count == 1 and (given is None or bool(given.all())):
            return None
        seen = torch.ones(count, before + count, dtype=torch.bool, device=x.device).tril(before)
        shown = seen[None, None] if given is None else seen & given[:, None, None]
        # Padding sees nothing at all: what it makes of that must be a number, and nobody looks at it.
        return torch.zeros(shown.shape, dtype=x.dtype, device=x.device).masked_fill(~shown, torch.finfo(x.dtype).min)

    @torch.no_grad()
    def _turn(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``(B, 1, n, D)``: time, row and column each turn their section of the angles."""
        rates = self.theta ** -(torch.arange(self.angles, device=positions.device, dtype=torch.float32) / self.angles)
        angles = positions[..., None].float() * rates  # (3, B, n, D / 2)
        parts = angles.split(self.sections, dim=-1)
        mixed = torch.cat([part[i % 3] for i, part in enumerate(parts)], dim=-1)[:, None]
        mixed = torch.cat([mixed, mixed], dim=-1)
        return mixed.cos().to(dtype), mixed.sin().to(dtype)
