"""The critic as a loss: what a restorer minimises to be rated better.

The gradient of a critic leads to images that people like only for a while; after that it leads to patterns that please
the critic alone (reward hacking). Three guards are here: a ``cap``, beyond which nothing is to be gained; random views,
so that a pattern must please at any place; and the clamp to [0, 1], so that no score comes from values that no file can
hold. A fidelity term beside this loss is the fourth, and yours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from iqloop.critic.metric import Metric, Reduction, as_images, create_metric, reduce
from iqloop.critic.protocol import Critic
from iqloop.critic.views import GRID
from iqloop.errors import UsageError


@dataclass(frozen=True)
class ViewJitter:
    """How a random view differs from its image."""

    side: int = 224
    """Least height and width of a view, in pixels; a side of the image that is smaller is taken whole."""
    flip: bool = True
    """Half of the views are mirrored, left to right."""
    brightness: float = 0.0
    """A view is multiplied by a factor from [1 - brightness, 1 + brightness]."""
    noise: float = 0.0
    """Standard deviation of white noise on a view, in units of [0, 1]. Critics of noise see it: keep it under 0.01."""

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UsageError(f"side must be at least 1 pixel, got {self.side}")
        if not 0 <= self.brightness < 1 or not 0 <= self.noise < 1:
            raise UsageError(f"brightness and noise must be in [0, 1), got {self.brightness} and {self.noise}")


def random_view(image: Tensor, jitter: ViewJitter, generator: torch.Generator) -> Tensor:
    """A random view of an image ``(3, H, W)``, differentiable: crop, flip, brightness, noise, in this order.

    A crop starts and ends at multiples of `iqloop.critic.views.GRID`, or at the image's end, so that JPEG's blocks keep
    their phase; one that ends elsewhere is not flipped. ``generator`` is a CPU generator; the result is not clamped.
    """
    (top, bottom), (left, right) = (_span(length, jitter.side, generator) for length in image.shape[-2:])
    view = image[:, top:bottom, left:right]
    if jitter.flip and _draw(2, generator) and (right - left) % GRID == 0:
        view = view.flip(-1)
    if jitter.brightness:
        factor = 1 + jitter.brightness * (2 * float(torch.rand((), generator=generator)) - 1)
        view = view * factor
    if jitter.noise:
        view = view + jitter.noise * torch.randn(view.shape, generator=generator).to(view)
    return view


def _span(length: int, least: int, generator: torch.Generator) -> tuple[int, int]:
    """Start and stop of a random piece of at least ``least`` of ``length`` pixels, in steps of `GRID`."""
    whole = length // GRID
    shortest = min(-(-least // GRID), whole)
    size = shortest + _draw(whole - shortest + 1, generator)
    start = _draw(whole - size + 1, generator)
    # The pixels beyond the last whole step go with it: every pixel is seen by some view.
    return GRID * start, length if start + size == whole else GRID * (start + size)


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def critic_loss(
    scores: Tensor, score_range: tuple[float, float], lower_better: bool = False, cap: float | None = None
) -> Tensor:
    """Scores of any shape as losses of that shape: 0 at the best end of ``score_range``, 1 at the worst.

    Scores outside the range (pyiqa's ranges are rough) give losses outside [0, 1]. At a score better than ``cap``, on
    the critic's own scale, the loss is the cap's and the gradient zero.
    """
    low, high = score_range
    worst, best = (high, low) if lower_better else (low, high)
    losses = (best - scores) / (best - worst)
    return losses if cap is None else losses.clamp_min((best - cap) / (best - worst))


class CriticLoss(torch.nn.Module):
    """A critic as a thing to minimise: direction and range are taken care of.

    >>> import torch, iqloop
    >>> loss = iqloop.CriticLoss("qinsight-mini", cap=4.5)
    >>> restored = torch.rand(1, 3, 56, 56, requires_grad=True)
    >>> loss(restored).backward()
    >>> bool(restored.grad.isfinite().all())
    True
    """

    step: Tensor

    def __init__(
        self,
        critic: str | Path | Critic | Metric = "qinsight-mini",
        *,
        cap: float | None = None,
        reduction: Reduction = "mean",
        views: int = 0,
        jitter: ViewJitter | None = None,
        score_range: tuple[float, float] | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        """Hold a critic.

        Args:
            critic: a name, folder, `Critic` or `Metric`; its scores must have a gradient.
            cap: the score, on the critic's own scale, beyond which nothing is gained; None for none.
            reduction: over the images: ``"mean"``, ``"sum"``, or ``"none"`` for one loss each.
            views: random views per image and step, whose losses are averaged, each capped; 0 takes the image as it is.
            jitter: how views differ; None is ``ViewJitter()``.
            score_range: (lowest, highest) to use instead of the critic's range; needed where that is not finite.
            seed: of the views. The count of steps goes into the state dict, so a resumed training sees the same views.
            device: where to move the critic; None leaves it, or for a name takes a GPU when there is one.

        Raises `UsageError` for a critic without a gradient or without a range, and for an argument out of range.
        """
        super().__init__()
        if reduction not in get_args(Reduction):
            raise UsageError(f"reduction must be mean, sum or none, got {reduction!r}")
        if views < 0:
            raise UsageError(f"views must not be negative, got {views}")
        held = critic.critic if isinstance(critic, Metric) else critic
        self.metric = create_metric(held, as_loss=True, device=device, loss_reduction="none")
        """The critic as a metric with a gradient."""
        low, high = score_range or self.metric.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UsageError(f"{self.metric.metric_name} rates on ({low:g}, {high:g}): give a finite score_range")
        if cap is not None and not low <= cap <= high:
            raise UsageError(f"cap must be within the critic's range of {low:g} to {high:g}, got {cap:g}")
        self.score_range = (float(low), float(high))
        self.cap = cap
        self.reduction = reduction
        self.views = views
        self.jitter = jitter or ViewJitter()
        self.seed = seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Losses of images ``(B, 3, H, W)``, or of a list of ``(3, H, W)`` of any sizes; float32, (B,) for ``"none"``.

        Values are meant to lie in [0, 1] and are clamped to it, with no gradient beyond: it is for the fidelity term to
        bring back what left. Raises `UsageError` for no image and for tensors of another shape.
        """
        whole = as_images(images if isinstance(images, Tensor) else list(images), check_range=False)
        if not whole:
            raise UsageError("expected at least one image, got none")
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))
        shown = [view for image in whole for view in self._views(image, generator)]
        self.step += 1
        scores = self.metric([view.clamp(0, 1) for view in shown]).view(len(whole), -1)  # (B, V)
        losses = critic_loss(scores, self.score_range, self.metric.lower_better, self.cap)
        return reduce(losses.mean(1), self.reduction)

    def _views(self, image: Tensor, generator: torch.Generator) -> list[Tensor]:
        if self.views == 0:
            return [image]
        return [random_view(image, self.jitter, generator) for _ in range(self.views)]

    def extra_repr(self) -> str:
        """What a printed loss says of itself."""
        return f"cap={self.cap}, reduction={self.reduction!r}, views={self.views}, seed={self.seed}"
