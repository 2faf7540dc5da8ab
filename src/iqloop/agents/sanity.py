"""Is it an image at all? Deterministic checks that need no critic."""

from __future__ import annotations

import torch
from torch import Tensor

OVERSHOOT = 1e-3
"""How far outside [0, 1] a value may lie: rounding, not a fault; such values are clipped by the caller."""
FLAT = 1 / 255
"""Standard deviation below which an image shows nothing: one step of 8 bits."""


def find_fault(output: object, start: Tensor, scale: int = 1) -> str | None:
    """What is wrong with a tool's ``output`` for ``start`` ``(3, H, W)``: a sentence, or None when it is sane.

    Refused: anything but a float tensor ``(1, 3, H * scale, W * scale)``, values that are not finite or outside [0, 1],
    and a flat image made of one that is not.
    """
    if not isinstance(output, Tensor):
        return f"the tool returned {type(output).__name__}, expected a tensor"
    expected = (1, 3, start.shape[-2] * scale, start.shape[-1] * scale)
    if tuple(output.shape) != expected:
        return f"wrong shape: expected {expected}, got {tuple(output.shape)}"
    if not output.is_floating_point():
        return f"wrong type: expected floats in [0, 1], got {output.dtype}"
    if not bool(torch.isfinite(output).all()):
        return "values that are not finite"
    low, high = float(output.min()), float(output.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        return f"values outside [0, 1]: {low:.3g} to {high:.3g}"
    if float(output.float().std()) < FLAT <= float(start.float().std()):
        return "a flat image"
    return None
