"""Qwen2.5-VL's vision tower, faster on a CPU and equal to the stock forward.

Three things cost more than they must in the stock code on a CPU. The patch embedding is a Conv3d whose kernel equals
its stride, which is one matrix product; it is shown every still image as two equal frames, of which one is enough when
the kernel's two slices are added. Window attention calls the attention kernel once per window; windows of equal length
fit one batched call. `speed_up` swaps both on one model; nothing global is patched. Vision on other
devices is left alone: there, flash or varlen kernels do better.
"""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision


def speed_up(visual: nn.Module) -> nn.Module:
    """Swap the patch embedding and the attention of a Qwen2.5-VL vision tower in place; returns it.

    What the swapped code would pass over keeps its own: a patch embedding that is not a plain convolution (adapted or
    quantised), attention other than sdpa, and layers whose forward accelerate has taken to move their weights.
    """
    embed: Any = visual.patch_embed
    if type(embed.proj) is nn.Conv3d and embed.proj.weight.is_floating_point() and not _is_hooked(embed):
        embed.forward = types.MethodType(_patch_embed, embed)
        embed.takes_one_frame = True
    for block in visual.blocks:  # type: ignore[union-attr]
        if block.attn.config._attn_implementation == "sdpa" and not _is_hooked(block.attn):
            block.attn.forward = types.MethodType(_window_attention, block.attn)
    return visual


def _is_hooked(module: nn.Module) -> bool:
    return any(hasattr(part, "_hf_hook") for part in module.modules())


def _patch_embed(self: Any, hidden_states: Tensor) -> Tensor:
    weight = self.proj.weight  # (D, 3, frames, 14, 14)
    if hidden_states.shape[-1] * weight.shape[2] == weight[0].numel():
        weight = weight.sum(2)
    return F.linear(hidden_states.to(weight.dtype), weight.flatten(1), self.proj.bias)


SHORT = 256
"""Up to so many tokens two plain products are faster in training on a CPU than the fused kernel with its backward pass
(five times at 64 tokens, 1.3 times at 256; one thread, bfloat16)."""


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    if torch.is_grad_enabled() and q.requires_grad and q.device.type == "cpu" and q.shape[-2] <= SHORT:
        return (q * scale @ k.transpose(-1, -2)).softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def _window_attention(
    self: Any,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: Any,
) -> Tensor:
    assert position_embeddings is not None
    length = hidden_states.shape[0]
    qkv = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1)
    q, k, v = qkv.permute(1, 0, 2, 3).unbind(0)
    q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
    start = 0
    pieces: list[Tensor] = []
    while lengths:
        # A run of equal windows is contiguous: fold it into the batch dimension.
        size = lengths[0]
        run = next((i for i, other in enumerate(lengths) if other != size), len(lengths))
        stop = start + run * size
        if size:
            shape = (run, size, self.num_heads, -1)
            a, b, c = (t[start:stop].to(v.dtype).reshape(shape).transpose(1, 2) for t in (q, k, v))
            attended = _attend(a, b, c, self.scaling)
            pieces.append(attended.transpose(1, 2).reshape(run * size, self.num_heads, -1))
        start, lengths = stop, lengths[run:]
    out = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return torch.as_tensor(self.proj(out.reshape(length, -1)))
