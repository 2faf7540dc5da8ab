"""What both towers of Qwen2.5-VL are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqloop.critic.linear import linear


class Unset:
    """Parameters are read from files: to draw them first takes time, and without storage seconds of torch's imports."""

    def reset_parameters(self) -> None:
        """Leave them."""


class Embedding(Unset, nn.Embedding):
    """Tokens to vectors."""


class Conv3d(Unset, nn.Conv3d):
    """Holds the kernel of the patch embedding."""


class Linear(Unset, nn.Linear):
    """A linear layer by the fastest product there is (`iqloop.critic.linear`)."""

    def forward(self, x: Tensor) -> Tensor:
        """``(..., K)`` to ``(..., N)``."""
        return linear(x, self.weight, self.bias)


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32 (Zhang and Sennrich 2019, equation 4)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to the same."""
        return self.weight * F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype)


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, equation 6)."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = Linear(width, inner, bias)
        self.up_proj = Linear(width, inner, bias)
        self.down_proj = Linear(inner, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to the same."""
        return torch.as_tensor(self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))
