"""A net while it learns: weights, their moving average and the optimiser; one step; all of it to a file and back."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from iqloop.errors import UsageError
from iqloop.restorers.training.stream import Batch

Loss = Literal["charbonnier", "l1"]
CHARBONNIER = 1e-3
"""Where the Charbonnier loss turns from square to absolute, in [0, 1]: a quarter of a grey level."""
LOWEST = 0.01
"""Factor on the peak rate at the end."""


class Learner:
    """Holds the weights; `step` changes them."""

    def __init__(self, model: nn.Module, decay: float, device: torch.device, channels_last: bool) -> None:
        self.device = device
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        # nn.Module.to has no overload for a layout that is a variable.
        self.model: nn.Module = model.to(device=device, memory_format=self.layout)  # type: ignore[call-overload]
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        """The moving average of the weights: what is measured and exported."""
        self.trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.optimiser = optimiser_of(list(self.trained.values()), decay)

    def step(
        self, batch: Batch, rate: float, loss: Loss, bf16: bool, clip: float, average_decay: float
    ) -> tuple[Tensor, Tensor]:
        """One step of AdamW; returns the loss and the gradient's norm before it was clipped, both without a gradient.

        Neither is read here: on a GPU that would wait for the step to end.
        """
        value = distance(*self.answer(batch, bf16), loss)
        return value.detach(), self.advance(value, rate, clip, average_decay)

    def answer(self, batch: Batch, bf16: bool) -> tuple[Tensor, Tensor]:
        """The net's answers to a batch, with a gradient, and what they should be: float32 ``(B, 3, H, W)``."""
        given, target = (part.to(self.device, non_blocking=True).float() / 255 for part in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            answer: Tensor = self.model(given.contiguous(memory_format=self.layout))
        return answer.float(), target

    def advance(self, value: Tensor, rate: float, clip: float, average_decay: float) -> Tensor:
        """Change the weights down the gradient of a loss of any kind; returns the gradient's norm as `step` does."""
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.trained.values(), clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        with torch.no_grad():
            averages = [self.average.get_parameter(name) for name in self.trained]
            torch._foreach_lerp_(averages, list(self.trained.values()), 1 - average_decay)
        return norm

    def save(self, path: Path, step: int, kept: dict[str, Any] | None = None) -> None:
        """Write all that is needed to go on, whole or not at all; ``kept`` is a keeper's state, if there is one."""
        state: dict[str, Any] = {
            "net": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": step,
        }
        if kept is not None:
            state["kept"] = kept
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `save` wrote (`read_checkpoint`)."""
        self.model.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Learner.save` wrote; nothing in the file is executed. Raises `UsageError` for a file that is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return {name: state[name] for name in ("net", "average", "optimiser", "step")} | {"kept": state.get("kept")}
    except Exception as error:  # a damaged archive raises whatever its bytes provoke
        raise UsageError(f"{path}: damaged or of another kind; remove it to begin again") from error


def distance(answer: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """Mean absolute error, or Charbonnier's smooth one (Charbonnier et al., 1994), of equal tensors."""
    error = answer - target
    if loss == "l1":
        return error.abs().mean()
    return (error.square() + CHARBONNIER**2).sqrt().mean()


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Factor on the peak rate: linear warm-up, then cosine to `LOWEST`."""
    start = max(1, round(steps * warmup))
    if step < start:
        return (step + 1) / start
    t = (step - start) / max(1, steps - start)
    return LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * t))


def optimiser_of(trained: list[nn.Parameter], decay: float) -> torch.optim.Optimizer:
    """AdamW; the weights of convolutions decay, gains and biases do not."""
    # NAFNet's gains are (1, C, 1, 1): only what has several outputs is a weight.
    weights = [value for value in trained if value.ndim == 4 and value.shape[0] > 1]
    others = [value for value in trained if value.ndim != 4 or value.shape[0] == 1]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99))
