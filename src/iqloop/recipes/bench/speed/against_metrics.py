"""The part of ``iqloop bench all`` about metric calls: the critics beside pyiqa's architectures on the same images.

Of pyiqa's metrics those are taken that are made without a download, the nets with random weights: a net takes as long
whatever its weights are, and their scores are not looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from iqloop.recipes.bench.speed.figures import Part, row
from iqloop.recipes.bench.speed.rounds import interleave
from iqloop.recipes.loading import hushed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from iqloop.critic.protocol import Critic

RANDOM = "random: speed only"


@dataclass(frozen=True)
class Measured:
    """A metric, its size, and where its weights come from."""

    call: Callable[[Tensor], object]
    """Takes ``(1, 3, H, W)`` in [0, 1]."""
    parameters: int
    weights: str


def measure(critic: Critic, images: Sequence[Tensor], rounds: int, device: str) -> Part:
    """Milliseconds of every metric on square images ``(3, S, S)`` in [0, 1], one image a call, all of one size."""
    import torch

    metrics = {**_own(critic, device), **_peers(device)}
    batches = [image[None].to(device) for image in images]

    def ask(call: Callable[[Tensor], object]) -> None:
        with torch.inference_mode():
            for batch in batches:
                call(batch)

    seconds = interleave({name: partial(ask, one.call) for name, one in metrics.items()}, rounds)
    side = images[0].shape[-1]
    missing = (
        "" if len(metrics) > 2 else " pyiqa is not installed, so nothing stands beside: pip install 'iqloop[pyiqa]'."
    )
    return Part(
        f"Metric calls, {side} px",
        f"Images of {side} x {side}: {len(images)}, one a call, no gradient. Nets of pyiqa have random weights, which "
        f"say nothing of their scores; each sees an image as pyiqa shows it to it (patches, scales, crops).{missing}",
        "ms/image",
        1000,
        tuple(row(name, seconds, {critic.name: critic.name}, len(images), _facts(metrics[name])) for name in seconds),
    )


def _facts(metric: Measured) -> dict[str, str | int | float | None]:
    return {"parameters": metric.parameters, "weights": metric.weights}


def _own(critic: Critic, device: str) -> dict[str, Measured]:
    """The critic that is measured, and the embedded one by natural scene statistics, as metrics."""
    from iqloop.critic.metric import Metric, create_metric

    found = {critic.name: Metric(critic), "nss-mini": create_metric("nss-mini", device=device)}
    return {name: Measured(metric, _parameters(metric), "trained") for name, metric in found.items()}


def _peers(device: str) -> dict[str, Measured]:
    """pyiqa's, by name; none when pyiqa is not installed."""
    try:
        with warnings.catch_warnings(), hushed():
            warnings.simplefilter("ignore")  # of its dependencies
            nets = dict(_nets())
    except ModuleNotFoundError as error:
        if error.name != "pyiqa":
            raise
        return {}
    found = {}
    for name, net in nets.items():
        size = _parameters(net)
        found[f"pyiqa {name}"] = Measured(net.to(device).eval(), size, RANDOM if size else "none")
    return found


def _nets() -> Iterator[tuple[str, nn.Module]]:
    import pyiqa.archs.cnniqa_arch as cnniqa
    import pyiqa.archs.metaiqa_arch as metaiqa
    import pyiqa.archs.musiq_arch as musiq
    import pyiqa.archs.piqe_arch as piqe
    import pyiqa.archs.topiq_arch as topiq
    import pyiqa.archs.wadiqam_arch as wadiqam

    yield "PIQE", piqe.PIQE()
    yield "CNNIQA", cnniqa.CNNIQA(pretrained=None)
    yield "WaDIQaM-NR", wadiqam.WaDIQaM("NR", "wadiqam_nr_koniq", pretrained=False)
    yield "MetaIQA", metaiqa.MetaIQA(pretrained=False)
    yield "MUSIQ", musiq.MUSIQ(pretrained=False)
    yield "TOPIQ-NR", topiq.CFANet(use_ref=False, backbone_pretrain=False, pretrained=False)


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
