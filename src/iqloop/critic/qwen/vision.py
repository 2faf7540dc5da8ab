"""The vision tower of Qwen2.5-VL: windows of patches, whole images in some blocks, four patches to a token."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from iqloop.critic.fast import attend, embed_patches
from iqloop.critic.pixels import MERGE
from iqloop.critic.qwen.layers import MLP, Conv3d, Linear, RMSNorm


class PatchEmbed(nn.Module):
    """Patches to tokens. A still image is two equal frames of which one is shown, so the kernel's slices are added."""

    takes_one_frame = True

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.proj = Conv3d(3, width, (2, side, side), (2, side, side), bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """``(N, 3 * frames * side * side)``, one frame or two, to ``(N, D)``."""
        return embed_patches(patches, self.proj.weight)


class VisionAttention(nn.Module):
    """Attention inside runs of patches: windows, or whole images."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, runs: tuple[int, ...], turn: tuple[Tensor, Tensor]) -> Tensor:
        """``(N, D)`` to the same; ``runs`` are the lengths of the runs in order."""
        return torch.as_tensor(self.proj(attend(self.qkv(x), self.heads, runs, turn)))


class VisionBlock(nn.Module):
    """Attention and MLP, each after a norm and beside a shortcut."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width = sizes["hidden_size"]
        self.norm1, self.norm2 = RMSNorm(width, 1e-6), RMSNorm(width, 1e-6)
        self.attn = VisionAttention(width, sizes["num_heads"])
        self.mlp = MLP(width, sizes["intermediate_size"], bias=True)

    def forward(self, x: Tensor, runs: tuple[int, ...], turn: tuple[Tensor, Tensor]) -> Tensor:
        """As `VisionAttention`."""
        x = x + self.attn(self.norm1(x), runs, turn)
        return torch.as_tensor(x + self.mlp(self.norm2(x)))


class Merger(nn.Module):
    """Four patches to one token of the language model's width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.inner = width * MERGE**2
        self.ln_q = RMSNorm(width, 1e-6)
        self.mlp = nn.Sequential(Linear(self.inner, self.inner), nn.GELU(), Linear(self.inner, out))

    def forward(self, x: Tensor) -> Tensor:
        """``(4 T, D)`` to ``(T, out)``."""
        return torch.as_tensor(self.mlp(self.ln_q(x).view(-1, self.inner)))


class Visual(nn.Module):
    """The vision tower."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(sizes["hidden_size"], sizes["patch_size"])
        self.blocks = nn.ModuleList(VisionBlock(sizes) for _ in range(sizes["depth"]))
        self.merger = Merger(sizes["hidden_size"], sizes["out_hidden_size"])
        self.full = frozenset(sizes["fullatt_block_indexes"])
        self.window = sizes["window_size"] // MERGE // sizes["patch_size"]
        self.angles = sizes["hidden_size"] // sizes["num_heads"] // 4
        self.theta = float(sizes["rope_parameters"]["rope_theta"])

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.patch_embed.proj.weight.dtype

    def forward(self, patches: Tensor, grid_thw: Tensor) -> SimpleNamespace:
        """Patches of all images in a row, and their grids ``(N, 3)``: ``pooler_output``, tokens ``(T, D)``."""
        grids = tuple((int(rows), int(columns)) for _, rows, columns in grid_thw.tolist())
        order, windows, back, places = _layout(grids, self.window)
        device = patches.device
        rates = self.theta ** -(torch.arange(self.angles, device=device, dtype=torch.float32) / self.angles)
        turned = (places.to(device)[..., None].float() * rates).flatten(1)  # (N, 2 * angles): rows, then columns
        turned = torch.cat([turned, turned], dim=1)
        turn = (turned.cos(), turned.sin())
        x = self.patch_embed(patches)
        x = x.view(len(order), MERGE**2, -1)[order.to(device)].flatten(0, 1)
        whole = tuple(rows * columns for rows, columns in grids)
        for i, block in enumerate(self.blocks):
            x = block(x, whole if i in self.full else windows, turn)
        return SimpleNamespace(pooler_output=self.merger(x)[back.to(device)])


@lru_cache(maxsize=32)
def _layout(grids: tuple[tuple[int, int], ...], window: int) -> tuple[Tensor, tuple[int, ...], Tensor, Tensor]:
    """How images' tokens (of four patches) are put into windows of ``window`` squared.

    Returns the order ``(T,)``, the windows' lengths in patches, the way back ``(T,)``, and row and column of every
    patch ``(4 T, 2)`` in that order.
    """
    orders, lengths, places, start = [], [], [], 0
    for rows, columns in grids:
        tall, wide = rows // MERGE, columns // MERGE
        y, x = torch.meshgrid(torch.arange(tall), torch.arange(wide), indexing="ij")
        y, x = y.flatten(), x.flatten()
        number = (y // window) * -(-wide // window) + x // window
        order = number.argsort(stable=True)
        lengths += (torch.bincount(number) * MERGE**2).tolist()
        # The four patches of a token: top left, top right, bottom left, bottom right.
        down, right = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        patch = torch.stack([MERGE * y[order, None] + down, MERGE * x[order, None] + right], dim=-1)
        places.append(patch.flatten(0, 1))
        orders.append(order + start)
        start += tall * wide
    order = torch.cat(orders)
    return order, tuple(lengths), order.argsort(), torch.cat(places)
