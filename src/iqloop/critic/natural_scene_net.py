"""From an image's statistics to a score: a few small nets, each a judge of its own, and their mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from iqloop.critic.locate import as_critic_error, check_kind
from iqloop.critic.natural_scene import COUNT
from iqloop.io import write_bytes_atomic

MODEL_TYPE = "iqloop-nss"
"""``model_type`` in the folder's ``config.json``."""
JUDGES, WIDTH, NECK = 3, 48, 16
"""Nets, and the sizes of their two hidden layers."""
LOWEST, HIGHEST = 1.0, 5.0
"""The scale of the scores."""
REACH = 4.0
"""Figures farther from the training data's mean than so many standard deviations count as just so far."""


class NaturalSceneNet(torch.nn.Module):
    """`JUDGES` perceptrons side by side over standardised figures. Made with random weights; see `load`."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (COUNT, WIDTH, NECK, 1)
        self.mean = torch.nn.Parameter(torch.zeros(COUNT), requires_grad=False)
        self.deviation = torch.nn.Parameter(torch.ones(COUNT), requires_grad=False)
        self.weights = torch.nn.ParameterList(
            torch.randn(JUDGES, ins, outs) * (2 / ins) ** 0.5 for ins, outs in pairwise(sizes)
        )
        self.biases = torch.nn.ParameterList(torch.zeros(JUDGES, 1, outs) for outs in sizes[1:])

    def standardise(self, figures: Tensor) -> Tensor:
        """Figures ``(B, COUNT)`` in standard deviations from the training data's mean, at most `REACH`."""
        return ((figures - self.mean) / self.deviation).clamp(-REACH, REACH)

    def forward(self, standard: Tensor, dropout: float = 0.0) -> Tensor:
        """Each judge's scores ``(JUDGES, B)`` within [1, 5] of standardised figures ``(B, COUNT)``."""
        hidden = standard.expand(JUDGES, -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i:
                hidden = functional.gelu(hidden)
            if i < 2:
                hidden = functional.dropout(hidden, dropout, training=dropout > 0)
            hidden = torch.baddbmm(bias, hidden, weight)
        return LOWEST + (HIGHEST - LOWEST) * torch.sigmoid(hidden[..., 0])


def save(net: NaturalSceneNet, folder: Path, origin: Mapping[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors``; the same net gives the same bytes. Files there are replaced."""
    from safetensors.torch import save as pack

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, "figures": COUNT, "score_range": [LOWEST, HIGHEST], "origin": dict(origin)}
    tensors = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    write_bytes_atomic(folder / "model.safetensors", pack(tensors), overwrite=True)
    write_bytes_atomic(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode(), overwrite=True)


def load(folder: Path) -> tuple[NaturalSceneNet, str]:
    """A net that `save` wrote, frozen, and its version: the digest of its weights.

    Raises `CriticError` for another kind of folder, for weights that are damaged and for those of other figures.
    """
    from safetensors.torch import load as unpack

    check_kind(folder, MODEL_TYPE)
    net = NaturalSceneNet()
    with as_critic_error(str(folder / "model.safetensors"), "not usable: train it again, or reinstall iqloop"):
        data = (folder / "model.safetensors").read_bytes()
        net.load_state_dict(unpack(data))
    return net.requires_grad_(False).eval(), hashlib.sha256(data).hexdigest()[:16]
