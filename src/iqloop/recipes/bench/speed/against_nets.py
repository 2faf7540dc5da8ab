"""The part of ``iqloop bench all`` about restorers: each beside OpenCV's function for the same damage, and DnCNN.

DnCNN is the public net for noise (Zhang et al. 2017) as spandrel has it, for colour and any level: 20 layers of 64
channels, without batch normalisation. Its weights are random, which makes no difference to its speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from iqloop.recipes.bench.speed.figures import Part, row
from iqloop.recipes.bench.speed.rounds import interleave

if TYPE_CHECKING:
    from torch import Tensor, nn

    from iqloop.distort.image import Bytes
    from iqloop.restorers.degradation import Degradation

DAMAGE: tuple[Degradation, ...] = (
    ("gaussian-noise", 25),
    ("jpeg", 10),
    ("gaussian-blur", 2),
    ("gamma", 2.2),
    ("bicubic", 2),
    ("bicubic", 4),
)
DNCNN = "DnCNN (spandrel)"


@dataclass(frozen=True)
class Peer:
    """A function of OpenCV."""

    name: str
    call: Callable[[Bytes], object]
    """Takes ``(H, W, 3)`` uint8."""


def measure(photograph: Bytes, rounds: int, device: str) -> list[Part]:
    """A part for each damage: seconds per output megapixel of the package's tools for it and of what stands beside.

    Args:
        photograph: square, ``(S, S, 3)`` uint8 RGB, undamaged.
        rounds: how many.
        device: where nets run; OpenCV runs on the CPU.
    """
    return [_measure(photograph, damage, rounds, device) for damage in DAMAGE]


def _measure(photograph: Bytes, damage: Degradation, rounds: int, device: str) -> Part:
    import torch

    from iqloop.restorers.degradation import degrade, fits, label, treatment_of
    from iqloop.restorers.registry import builtin_entries
    from iqloop.restorers.spandrel_tool import SpandrelTool

    case = degrade(photograph, damage, 0)
    image = torch.from_numpy(case.given.copy()).permute(2, 0, 1)[None].float() / 255
    tools = {entry.info.name: entry.load() for entry in builtin_entries(device) if fits(entry.info, damage)}
    nets: dict[str, nn.Module] = {
        name: tool.descriptor.model for name, tool in tools.items() if isinstance(tool, SpandrelTool)
    }
    tasks: dict[str, Callable[[], object]] = {name: partial(tool.restore, image) for name, tool in tools.items()}
    peers = _opencv(damage)
    bases = {peers[0].name: peers[0].name}
    beside = "OpenCV runs on the CPU."
    if treatment_of(damage) == "noise":
        nets[DNCNN] = dncnn().to(device)
        tasks[DNCNN] = partial(_forward, nets[DNCNN], image.to(device))
        bases[DNCNN] = DNCNN
        beside += f" {DNCNN} is the public architecture for noise with random weights: speed only."
    tasks |= {peer.name: partial(peer.call, case.given) for peer in peers}
    seconds = interleave(tasks, rounds)
    height, width = case.truth.shape[:2]
    sizes = {name: sum(one.numel() for one in net.parameters()) for name, net in nets.items()}
    return Part(
        f"Tools for {treatment_of(damage)}: {label(damage)}",
        f"A photograph with {label(damage)}, whole; the output has {width} x {height} pixels. {beside}",
        "s/megapixel",
        1,
        tuple(row(name, seconds, bases, height * width / 1e6, {"parameters": sizes.get(name)}) for name in seconds),
    )


def dncnn() -> nn.Module:
    """The public architecture with random weights, ``(1, 3, H, W)`` to the same."""
    from spandrel.architectures.DnCNN import DnCNN

    net: nn.Module = DnCNN(in_nc=3, out_nc=3, nc=64, nb=20, act_mode="R").eval()
    return net


def _forward(net: nn.Module, image: Tensor) -> Any:
    import torch

    with torch.inference_mode():
        return net(image)


def _opencv(damage: Degradation) -> list[Peer]:
    """What OpenCV has for a damage; the first is what the others are held against."""
    import cv2

    name, number = damage
    if name == "gaussian-noise":
        return [
            Peer(
                "OpenCV fastNlMeansDenoisingColored", lambda image: cv2.fastNlMeansDenoisingColored(image, None, 10, 10)
            ),
            Peer("OpenCV bilateralFilter, 9 px", lambda image: cv2.bilateralFilter(image, 9, 75, 75)),
            Peer("OpenCV medianBlur, 5 px", lambda image: cv2.medianBlur(image, 5)),
        ]
    if name == "jpeg":
        return [Peer("OpenCV bilateralFilter, 5 px", lambda image: cv2.bilateralFilter(image, 5, 30, 30))]
    if name == "gaussian-blur":
        return [Peer("OpenCV detailEnhance", lambda image: cv2.detailEnhance(image))]
    if name == "gamma":
        table = np.rint(255 * (np.arange(256) / 255) ** (1 / number)).astype(np.uint8)
        return [Peer("OpenCV LUT (gamma)", lambda image: cv2.LUT(image, table))]
    scale = int(number)
    return [
        Peer(
            f"OpenCV resize, cubic, x{scale}",
            lambda image: cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC),
        )
    ]
