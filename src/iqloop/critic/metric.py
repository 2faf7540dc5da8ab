"""The critic as a metric: the object that users of pyiqa know, with more inputs and a true gradient.

    >>> import torch, iqloop
    >>> metric = iqloop.create_metric("qinsight-mini", device="cpu")
    >>> metric(torch.rand(2, 3, 56, 84)).shape, metric.range, metric.lower_better
    (torch.Size([2, 1]), (1.0, 5.0), False)

Attributes, inputs, modes and reductions follow pyiqa 0.1.16's ``InferenceModel`` (Chen & Mo,
https://github.com/chaofengc/IQA-PyTorch; its interface, none of its code). What differs, and why:

* the output is always ``(N, 1)`` float32; pyiqa's is ``(N,)`` or ``(N, 1)``, and its ``loss_weight`` needs the latter;
* paths, arrays, lists of images and mixed sizes are taken too, and an error is an `iqloop.errors.IqloopError`;
* ``loss_weight`` may be a number or one weight per image;
* ``device`` is where the metric is, also after ``.to``;
* an answer that cannot be read is an error or NaN, as asked, and never a number.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from iqloop.critic.engine import QwenCritic
from iqloop.critic.known import DEFAULT, KNOWN, OPTIONS, PYIQA, create_critic, plugin_critics
from iqloop.critic.protocol import Critic
from iqloop.critic.pyiqa_critic import PyiqaCritic, metric_names
from iqloop.critic.verdicts import Rating, Unparsed
from iqloop.errors import CriticError, UsageError
from iqloop.io import Source, read

Reduction = Literal["mean", "sum", "none"]
"""How the losses of a batch become one."""
OnUnparsed = Literal["raise", "nan"]
"""What an answer that cannot be read becomes: `CriticError`, or NaN."""
Images: TypeAlias = Source | Sequence[Source]
"""One image of any kind that `iqloop.io.read` takes; a batch ``(B, C, H, W)`` (tensor) or ``(B, H, W, C)`` (array); or
a list of images, each of any kind and size. C is 1 (grey), 3, or one more with alpha, which is left out of account."""

EPS = 1e-6
"""How far a tensor's values may lie outside [0, 1] through rounding; as in pyiqa."""


@runtime_checkable
class DifferentiableCritic(Critic, Protocol):
    """A critic whose scores have a gradient."""

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        """Scores ``(B,)`` of images ``(3, H, W)`` in [0, 1], with a gradient back to their pixels."""
        ...


class Metric(torch.nn.Module):
    """A critic behind the interface of pyiqa's metrics. Made by `create_metric`."""

    critic: Critic
    """Who rates."""

    def __init__(
        self,
        critic: Critic,
        as_loss: bool = False,
        device: str | torch.device | None = None,
        *,
        loss_weight: float | Tensor | None = None,
        loss_reduction: Reduction = "mean",
        check_input_range: bool = True,
        seed: int = 0,
        on_unparsed: OnUnparsed = "raise",
    ) -> None:
        """Hold a critic.

        Args:
            critic: who rates.
            as_loss: give a gradient and reduce the scores. The direction is not turned, as in pyiqa: a metric of which
                more is better must be maximised; `iqloop.CriticLoss` is a thing to minimise.
            device: where to move the critic; None leaves it where it is.
            loss_weight: for ``as_loss``: a number multiplies the loss; one weight per image, ``(N,)`` or ``(N, 1)``,
                multiplies each score, and a mean is then divided by the weights' sum.
            loss_reduction: for ``as_loss``: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives ``(N, 1)``.
            check_input_range: refuse tensors outside [0, 1] by more than `EPS`; never done with ``as_loss``, because
                what a network puts out may leave the range.
            seed: stored for those who look for it; the critic has its own.
            on_unparsed: what an answer that cannot be read becomes.

        Raises `UsageError` for an argument that is none of these, and for ``as_loss`` with a critic without a gradient.
        """
        super().__init__()
        _check_word("loss_reduction", loss_reduction, get_args(Reduction))
        _check_word("on_unparsed", on_unparsed, get_args(OnUnparsed))
        if as_loss:
            require_gradient(critic)
        module = torch_module(critic)
        # Past torch's registration: a critic that is a module is registered once, as net.
        object.__setattr__(self, "critic", critic)
        self.net: torch.nn.Module | Critic = module if module is not None else critic
        """The critic's torch module, or the critic itself when it has none."""
        self.metric_name = critic.name
        self.metric_mode = "NR"
        """No reference is needed; one that is given is not looked at, as in pyiqa."""
        self.lower_better = critic.lower_better
        self.range = critic.score_range
        """Lowest and highest score; an end that is not known is infinite."""
        self.score_range = ", ".join("~" if math.isinf(end) else f"{end:g}" for end in self.range)
        """`range` as pyiqa writes it."""
        self.as_loss = as_loss
        self.loss_weight = loss_weight
        self.loss_reduction = loss_reduction
        self.check_input_range = check_input_range and not as_loss
        self.seed = seed
        self.eps = EPS
        self.on_unparsed = on_unparsed
        self.dummy_param = torch.nn.Parameter(torch.empty(0, device=_place(critic, module)), requires_grad=False)
        """Empty: marks the device, as in pyiqa."""
        self.eval()
        if device is not None:
            self.to(device)

    @property
    def device(self) -> torch.device:
        """Where images go before they are rated."""
        return self.dummy_param.device

    def train(self, mode: bool = True) -> Metric:
        """Stays in evaluation mode, so that a trainer that switches its modules does not change the scores."""
        super().train(False)
        return self

    def forward(self, target: Images, ref: object = None) -> Tensor:
        """Scores ``(N, 1)`` float32 of N images, on `device`; a scalar with ``as_loss`` unless its reduction is "none".

        Args:
            target: see `Images`. Tensors may be on any device, of uint8, uint16 or float in [0, 1]; they are not
                modified, and with ``as_loss`` the gradient flows back into those of float.
            ref: not looked at; for callers that pass one to every metric.

        Raises:
            UsageError: no image, or a tensor of another shape or range.
            ImageReadError: an image cannot be read; names it.
            CriticError: answers cannot be read; says how many and which.
        """
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
            torch.set_grad_enabled(self.as_loss),
        ):
            images = self._images(target)
            if not self.as_loss:
                return self._scores(images, target)
            assert isinstance(self.critic, DifferentiableCritic)  # __init__ has seen to it
            return reduce(self.critic.expected_scores(images).float()[:, None], self.loss_reduction, self.loss_weight)

    def rate(self, images: Images) -> list[Rating | Unparsed]:
        """The verdict on each image: deviation, raw answer and provenance too; an unreadable answer is `Unparsed`."""
        with torch.no_grad():
            return self.critic.score(self._images(images))

    def load_weights(self, weights_path: object, weight_keys: str = "params") -> None:
        """Raises `CriticError`: loose weights would run under the checkpoint's name and version."""
        raise CriticError(
            f"{self.metric_name}: weights are loaded as a checkpoint, got {weights_path}: save them as a checkpoint "
            "folder or an adapter and give that as the metric's name"
        )

    def extra_repr(self) -> str:
        """What a printed metric says of itself."""
        direction = "lower" if self.lower_better else "higher"
        return f"{self.metric_name!r}, range={self.range}, {direction} is better, as_loss={self.as_loss}"

    def _images(self, given: Images) -> list[Tensor]:
        images = as_images(given, self.check_input_range)
        if not images:
            raise UsageError("expected at least one image, got none")
        return [image.to(self.device, copy=True) for image in images]  # no critic can change the caller's

    def _scores(self, images: list[Tensor], given: Images) -> Tensor:
        ratings = self.critic.score(images)
        lost = [(i, rating) for i, rating in enumerate(ratings) if isinstance(rating, Unparsed)]
        if lost and self.on_unparsed == "raise":
            raise CriticError(
                f"{self.metric_name}: {len(lost)} of {len(ratings)} answers could not be read "
                f"({', '.join(_label(given, i) for i, _ in lost)}; first: {lost[0][1].reason}): look at rate(), or "
                "give on_unparsed='nan'"
            )
        means = [math.nan if isinstance(rating, Unparsed) else rating.mean for rating in ratings]
        return torch.tensor(means, dtype=torch.float32, device=self.device)[:, None]


def create_metric(
    name: str | Path | Critic = DEFAULT, as_loss: bool = False, device: str | torch.device | None = None, **options: Any
) -> Metric:
    """A metric by name, or of a critic that is there already.

    Args:
        name: what `iqloop.create_critic` takes (one of `list_metrics`, or a folder), or a `Critic`.
        as_loss: give a gradient and reduce; see `Metric`.
        device: torch device; None takes a GPU when there is one, and leaves a critic that is given where it is.
        options: ``loss_weight``, ``loss_reduction``, ``check_input_range``, ``on_unparsed`` and ``seed`` as for
            `Metric`; for a name also every option of `iqloop.create_critic`.

    Raises:
        UsageError: an unknown name or option, or ``as_loss`` with a critic that has no gradient.
        PrerequisiteError: weights or a package are not on this machine; says how to get them.
    """
    own = {option: options.pop(option) for option in _METRIC_OPTIONS if option in options}
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        close = difflib.get_close_matches(unknown[0], [*_METRIC_OPTIONS, *OPTIONS], n=1)
        hint = f": did you mean {close[0]}?" if close else ": leave it out"
        raise UsageError(f"a metric takes no option {', '.join(unknown)}{hint}")
    if not isinstance(name, str | Path):
        if not isinstance(name, Critic):
            raise UsageError(f"expected a metric's name or a Critic, got {type(name).__name__}")
        if options:
            raise UsageError(
                f"{', '.join(sorted(options))} cannot be given for a critic that is there: make it with them"
            )
        return Metric(name, as_loss, device, **own)
    if "seed" in own:
        options["seed"] = own["seed"]
    critic = create_critic(name, device=None if device is None else str(device), **options)
    return Metric(critic, as_loss, **own)


_METRIC_OPTIONS = ("loss_weight", "loss_reduction", "check_input_range", "seed", "on_unparsed")


def list_metrics(pyiqa: bool = False) -> list[str]:
    """Every name that `create_metric` knows: iqloop's, then plug-ins', then, if asked, pyiqa's as ``pyiqa:NAME``.

    Raises `PrerequisiteError` when pyiqa's are asked for and it is not installed.
    """
    names = [*KNOWN, *plugin_critics()]
    return names + [PYIQA + name for name in metric_names()] if pyiqa else names


def as_images(given: Images, check_range: bool = True) -> list[Tensor]:
    """Images ``(3, H, W)`` float32 in [0, 1] of what a metric takes; tensors keep their device and their gradient.

    Raises `UsageError` for a tensor that is no image, or with ``check_range`` one outside [0, 1]; `ImageReadError` for
    what `iqloop.io.read` cannot read.
    """
    if isinstance(given, list | tuple):
        return [image for one in given for image in _single(one, check_range)]
    if isinstance(given, Tensor) and given.ndim == 4:
        return list(_pixels(given, check_range))
    if isinstance(given, np.ndarray) and given.ndim == 4:
        return [read(one).pixels for one in given]
    return _single(given, check_range)  # type: ignore[arg-type]  # read says what it does not take


def _single(given: Source, check_range: bool) -> list[Tensor]:
    if isinstance(given, np.ndarray) and given.ndim == 4 and len(given) == 1:
        given = given[0]
    if not isinstance(given, Tensor):
        return [read(given).pixels]
    batch = given[None] if given.ndim == 3 else given[None, None] if given.ndim == 2 else given
    if batch.ndim != 4 or batch.shape[0] != 1:
        raise UsageError(f"expected one image (C, H, W) in each place of a list, got a tensor {tuple(given.shape)}")
    return list(_pixels(batch, check_range))


def _pixels(batch: Tensor, check_range: bool) -> Tensor:
    """``(B, C, H, W)`` as ``(B, 3, H, W)`` float32: bytes are scaled, grey is repeated, alpha is left out."""
    if not 1 <= batch.shape[1] <= 4 or 0 in batch.shape[1:]:
        raise UsageError(f"expected images (B, C, H, W) with C of 1 to 4, got {tuple(batch.shape)}: permute them")
    whole = {torch.uint8: 255, torch.uint16: 65535, torch.bool: 1}.get(batch.dtype)
    if whole is None and not batch.is_floating_point():
        raise UsageError(f"expected values of uint8, uint16 or float in [0, 1], got {batch.dtype}: convert them")
    pixels = batch.float() if whole is None else batch.float() / whole
    if check_range and batch.numel():
        low, high = (float(end.detach()) for end in pixels.aminmax())
        if not (low > -EPS and high < 1 + EPS):  # so written, NaN fails too
            raise UsageError(f"expected values in [0, 1], got [{low:g}, {high:g}]: scale or clamp them")
    colours = pixels[:, : 1 if batch.shape[1] < 3 else 3]
    return colours.expand(-1, 3, -1, -1)


def reduce(scores: Tensor, reduction: Reduction, weight: float | Tensor | None = None) -> Tensor:
    """Weighted and reduced scores ``(N,)`` or ``(N, 1)``: a scalar, or with "none" the shape that came.

    A number, or a tensor without dimensions, multiplies. One weight per image, ``(N,)`` or ``(N, 1)``, multiplies each,
    and the mean is over the weights, as in pyiqa. Raises `UsageError` for another shape.
    """
    per_image = isinstance(weight, Tensor) and weight.ndim > 0
    if isinstance(weight, Tensor):
        if per_image and weight.shape not in ((len(scores),), (len(scores), 1)):
            raise UsageError(f"expected a weight for each of {len(scores)} images, got a tensor {tuple(weight.shape)}")
        weight = weight.to(scores).reshape(scores.shape if per_image else ())
    weighted = scores if weight is None else scores * weight
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    return weighted.sum() / torch.as_tensor(weight).sum() if per_image else weighted.mean()


def torch_module(critic: Critic) -> torch.nn.Module | None:
    """The module that holds a critic's weights, if it has one: what ``.to`` moves."""
    if isinstance(critic, QwenCritic):
        model: torch.nn.Module = critic.checkpoint.model
        return model
    if isinstance(critic, PyiqaCritic):
        return critic.model
    return critic if isinstance(critic, torch.nn.Module) else None


def require_gradient(critic: Critic) -> None:
    """Raise `UsageError` unless the critic's scores have a gradient.

    One that is not ours, or is quantised (not every kernel has a backward pass), is tried on a small image.
    """
    if isinstance(critic, QwenCritic):
        if critic.decoding != "expected":
            raise UsageError(
                f"as_loss needs decoding='expected', got {critic.decoding!r}: a written answer has no gradient"
            )
        if not getattr(critic.checkpoint.model, "is_quantized", False):
            return
    advice = "take another critic, such as qinsight-mini"
    if not isinstance(critic, DifferentiableCritic):
        raise UsageError(f"as_loss needs a critic with a gradient, and {critic.name} has none: {advice}")
    generator = torch.Generator().manual_seed(0)
    # Large enough for metrics of several scales, and no white noise, on which some are at their end.
    image = torch.rand(3, 14, 14, generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    place = _place(critic, torch_module(critic))
    pixels = (0.1 + 0.8 * image + 0.02 * torch.rand(image.shape, generator=generator)).to(place).requires_grad_(True)
    try:
        with torch.enable_grad():
            score = critic.expected_scores([pixels]).sum()
            gradient = torch.autograd.grad(score, pixels, allow_unused=True)[0] if score.requires_grad else None
    except CriticError as error:
        raise UsageError(f"as_loss needs a critic with a gradient: {error}") from error
    if gradient is None or not bool(gradient.any()):
        raise UsageError(f"as_loss needs a gradient, and that of {critic.name} is zero everywhere: {advice}")


def _place(critic: Critic, module: torch.nn.Module | None) -> torch.device:
    if isinstance(critic, QwenCritic):
        return critic.checkpoint.device
    parameter = next(module.parameters(), None) if module is not None else None
    return torch.device("cpu") if parameter is None else parameter.device


def _check_word(option: str, value: str, words: Sequence[str]) -> None:
    if value not in words:
        raise UsageError(f"{option} must be {', '.join(words[:-1])} or {words[-1]}, got {value!r}")


def _label(given: Images, index: int) -> str:
    """How an image is named in an error: its path, or its place."""
    one = given[index] if isinstance(given, list | tuple) else given
    return str(one) if isinstance(one, str | Path) else f"image {index}"
