"""Matrix products of float32 models on a CPU, by the faster of the two libraries that torch carries.

torch gives float32 products to MKL, which leaves AVX-512 alone on AMD's processors. oneDNN uses it wherever there is
one: the same float32 arithmetic, 2.3 times as fast on a Zen 5 core (docs/log.md).
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 16
"""Rows below which MKL is done before oneDNN has begun."""


@cache
def has_wide_products() -> bool:
    """Whether oneDNN is built in and the processor has AVX-512; reads nothing but the processor and torch."""
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return known and torch.backends.cpu.get_cpu_capability() == "AVX512"


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, up to rounding.

    Args:
        x: ``(..., K)``.
        weight: ``(N, K)``.
        bias: ``(N,)``.

    Returns:
        ``(..., N)``.
    """
    if not takes(x, weight):
        return F.linear(x, weight, bias)
    return torch.as_tensor(_Product.apply(x, weight, bias))


class _Product(torch.autograd.Function):
    """oneDNN's product, whose own has no gradient; every derivative is a product again."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # What torch's own compiler calls for a float32 linear layer; nothing is fused into it. Of rows that do not lie
        # side by side oneDNN takes its reference code, ten thousand times as slow.
        out = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias, "none", [], "")
        return torch.as_tensor(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            linear(grad, weight.T) if of_x else None,
            linear(rows.T, x.flatten(0, -2).T) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` hands these two to oneDNN."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= FEW * max(1, x.shape[-1])
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and has_wide_products()
    )


def widen(model: nn.Module) -> nn.Module:
    """Swap the forward of the model's plain linear layers for `linear`, in place; returns it.

    Layers that are adapted, quantised or whose weights accelerate moves about keep their own.
    """
    for layer in model.modules():
        if type(layer) is nn.Linear and not hasattr(layer, "_hf_hook"):
            layer.forward = types.MethodType(_forward, layer)  # type: ignore[method-assign]
    return model


def _forward(self: Any, input: Tensor) -> Tensor:
    return linear(input, self.weight, self.bias)
