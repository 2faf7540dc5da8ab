"""Qwen2.5-VL's vision tower, faster on a CPU and equal to the stock forward.

Four things cost more than they must in the stock code on a CPU. The patch embedding is a Conv3d whose kernel equals
its stride, which is one matrix product; it is shown every still image as two equal frames, of which one is enough when
the kernel's two slices are added. Window attention calls the attention kernel once per window; windows of equal length
fit one batched call. Rotary positions walk over heads that lie apart. `speed_up` swaps all of it on one model; nothing
global is patched. Vision on other devices is left alone: there, flash or varlen kernels do better.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqloop.critic.linear import linear, takes


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
    return embed_patches(hidden_states, self.proj.weight, self.proj.bias)


def embed_patches(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``(N, 3 * frames * side * side)`` to ``(N, D)``, all frames or one that stands for equal ones.

    ``weight`` is the kernel ``(D, 3, frames, side, side)``, whose slices are added for a single frame.
    """
    if patches.shape[-1] * weight.shape[2] == weight[0].numel():
        weight = weight.sum(2)
    return linear(patches.to(weight.dtype), weight.flatten(1), bias)


SHORT = 256
"""Up to so many tokens two plain products are faster in training on a CPU than the fused kernel with its backward pass
(five times at 64 tokens, 1.3 times at 256; one thread, bfloat16)."""


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    trains = torch.is_grad_enabled() and q.requires_grad
    if trains and q.device.type == "cpu" and q.shape[-2] <= SHORT:
        return (q * scale @ k.transpose(-1, -2)).softmax(-1).to(v.dtype) @ v
    if not trains and q.shape[-2] > SHORT and takes(q, k):
        # The fused kernel multiplies by MKL; one head after the other keeps its whole table in the caches.
        heads = zip(*(t.flatten(0, 1).unbind(0) for t in (q * scale, k, v)), strict=True)
        return torch.stack([linear(linear(a, b).softmax(-1), c.T) for a, b, c in heads]).view(q.shape)
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def attend(qkv: Tensor, heads: int, runs: Sequence[int], turn: tuple[Tensor, Tensor]) -> Tensor:
    """Attention inside runs of tokens, equal runs next to each other at once.

    Args:
        qkv: queries, keys and values of each token ``(L, 3 D)``.
        heads: how many.
        runs: lengths of the runs in order; they add up to ``L``.
        turn: cosines and sines of the rotary positions ``(L, D / heads)``.

    Returns:
        ``(L, D)``.
    """
    length = len(qkv)
    # Heads first: each step below then runs over memory that lies side by side.
    q, k, v = qkv.reshape(length, 3, heads, -1).permute(1, 2, 0, 3).contiguous().unbind(0)
    q, k = (rotate(t, *turn) for t in (q, k))
    scale = q.shape[-1] ** -0.5
    start = 0
    pieces: list[Tensor] = []
    while runs:
        # Equal runs lie side by side: fold them into the batch dimension.
        size = runs[0]
        equal = next((i for i, other in enumerate(runs) if other != size), len(runs))
        stop = start + equal * size
        if size:
            shape = (heads, equal, size, -1)
            a, b, c = (t[:, start:stop].reshape(shape) for t in (q, k, v))
            pieces.append(_attend(a, b, c, scale).flatten(1, 2))
        start, runs = stop, runs[equal:]
    out = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
    return out.transpose(0, 1).reshape(length, -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions ``(..., L, D)`` on heads ``(..., L, D)``, in float32, as the stock code has them."""
    half = x.shape[-1] // 2
    turned = torch.cat([x[..., half:], x[..., :half]], dim=-1).float()
    signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
    return torch.addcmul(x.float() * cos.float(), turned, signed.float()).to(x.dtype)


def _window_attention(
    self: Any,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: Any,
) -> Tensor:
    assert position_embeddings is not None
    runs = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
    return torch.as_tensor(self.proj(attend(self.qkv(hidden_states), self.num_heads, runs, position_embeddings)))
