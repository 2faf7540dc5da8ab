"""A no-reference metric of pyiqa as a critic that scores: ``pyiqa:niqe``.

pyiqa (Chen & Mo, https://github.com/chaofengc/IQA-PyTorch) is under PolyForm Noncommercial 1.0.0, so it is an extra
that users install themselves; nothing of it is imported before one of its metrics is asked for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqloop.critic.only_scores import OnlyScores
from iqloop.critic.verdicts import Provenance, Rating, Unparsed
from iqloop.errors import CriticError, PrerequisiteError, UsageError, missing_extra

LICENCE = "PolyForm-Noncommercial-1.0.0"
"""Of pyiqa's code; some of its weights have others."""

NETWORK = "IqloopCritic"
"""How `iqloop.pyiqa` calls iqloop's own critics among pyiqa's networks."""


class PyiqaCritic(OnlyScores):
    """Scores with a metric of pyiqa.

    One image per forward: some of pyiqa's metrics take no more, or judge an image by its batch.
    """

    def __init__(self, name: str, device: str | torch.device | None = None, seed: int = 0) -> None:
        """Make the metric; pyiqa fetches weights that it lacks.

        Args:
            name: one of `metric_names`.
            device: torch device; None takes a GPU when there is one.
            seed: of the random crops that some metrics take; torch's, numpy's and Python's own state is left as it was.

        Raises:
            UsageError: it is not a no-reference metric of single images.
            PrerequisiteError: pyiqa, a package that the metric needs, or its weights are not there.
        """
        configs = default_configs()
        if name not in metric_names():
            raise UsageError(_why_not(name, configs))
        self._name = name
        self._seed = seed
        self._range = parse_range(configs[name].get("score_range"))
        self._lower_better = bool(configs[name].get("lower_better", False))
        self.model: torch.nn.Module = _made(name, device)
        """pyiqa's own module."""

    @property
    def name(self) -> str:
        """``pyiqa:`` and the metric's name."""
        return f"pyiqa:{self._name}"

    @property
    def score_range(self) -> tuple[float, float]:
        """As pyiqa states it, which is roughly; an end that it leaves open is infinite."""
        return self._range

    @property
    def lower_better(self) -> bool:
        """As pyiqa states it."""
        return self._lower_better

    @property
    def version(self) -> str:
        """pyiqa's version, the metric and the seed."""
        from importlib.metadata import version

        return f"pyiqa-{version('pyiqa')}/{self._name}/{self._seed}"

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image ``(3, H, W)`` in [0, 1]; std is 0, and what is not a number is `Unparsed`."""
        made = Provenance(self.name, decoding=f"pyiqa, seed {self._seed}")
        ratings: list[Rating | Unparsed] = []
        for image in images:
            with torch.no_grad():
                value = float(self._value(image.detach()))
            if math.isfinite(value):
                ratings.append(Rating(value, 0.0, provenance=made))
            else:
                ratings.append(Unparsed(str(value), "expected a finite score of pyiqa", made))
        return ratings

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        """Scores ``(B,)`` with pyiqa's own gradient, where the metric has one."""
        return torch.stack([self._value(image) for image in images])

    def _value(self, image: Tensor) -> Tensor:
        size = f"{image.shape[-1]}x{image.shape[-2]}"
        try:
            with _seeded(self._seed):
                # A copy, because some metrics normalise in place.
                out = self.model(image.float().clone()[None])
        except Exception as error:  # pyiqa's metrics raise what they like, asserts included
            raise CriticError(f"{self.name} failed on an image of {size}: {type(error).__name__}: {error}") from error
        if not isinstance(out, Tensor) or out.numel() != 1:
            raise CriticError(f"{self.name} gave no single score for an image of {size}: it cannot serve as a critic")
        return out.reshape(()).float()


def default_configs() -> Mapping[str, Mapping[str, Any]]:
    """pyiqa's table of metrics. Raises `PrerequisiteError` when pyiqa is not installed."""
    try:
        import pyiqa  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "pyiqa":
            raise
        note = "(its licence, PolyForm Noncommercial 1.0.0, forbids commercial use)"
        raise missing_extra("pyiqa", "pyiqa", note) from error
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    configs: Mapping[str, Mapping[str, Any]] = DEFAULT_CONFIGS
    return configs


def metric_names() -> list[str]:
    """pyiqa's metrics of single images without a reference, by its names, sorted; iqloop's own are not among them."""
    return sorted(name for name, config in default_configs().items() if _is_own(config) and _rates_one(name, config))


def _is_own(config: Mapping[str, Any]) -> bool:
    return bool(config["metric_opts"]["type"] != NETWORK)


def _rates_one(name: str, config: Mapping[str, Any]) -> bool:
    # pyiqa asks for folders where a name holds "fid", and for the inception score.
    return config["metric_mode"] == "NR" and "fid" not in name and name != "inception_score"


def _why_not(name: str, configs: Mapping[str, Mapping[str, Any]]) -> str:
    if name not in configs:
        return f"pyiqa has no metric {name!r}: see  iqloop metrics --pyiqa"
    if not _is_own(configs[name]):
        return f"{name} is iqloop's own: ask for it without pyiqa:"
    if configs[name]["metric_mode"] == "FR":
        return f"pyiqa's {name} needs a reference image, and a critic has none: take one of  iqloop metrics --pyiqa"
    return f"pyiqa's {name} compares folders, and a critic rates images: take one of  iqloop metrics --pyiqa"


def parse_range(text: str | None) -> tuple[float, float]:
    """Lowest and highest score of pyiqa's text; an end that it leaves open, and what is no range, is infinite.

    >>> parse_range("~0, ~100"), parse_range("0, ~"), parse_range(None)
    ((0.0, 100.0), (0.0, inf), (-inf, inf))
    """
    ends = [end.strip().lstrip("~").strip() for end in (text or "").split(",")]
    try:
        low, high = ends
        return (float(low) if low else -math.inf), (float(high) if high else math.inf)
    except ValueError:
        return -math.inf, math.inf


def _made(name: str, device: str | torch.device | None) -> torch.nn.Module:
    import pyiqa

    try:
        # As a loss without reduction: the score of each image, with a gradient if one is asked for; no range check.
        model: torch.nn.Module = pyiqa.create_metric(name, as_loss=True, loss_reduction="none", device=device)
    except ModuleNotFoundError as error:
        raise PrerequisiteError(
            f"pyiqa's {name} needs the module {error.name}, which is not installed: install the package that has it"
        ) from error
    except OSError as error:  # urllib's and the hub's errors are OSErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PrerequisiteError(
            f"the weights of pyiqa's {name} are not on this machine and cannot be fetched ({reason}): with a network, "
            f"run  python -c 'import pyiqa; pyiqa.create_metric(\"{name}\")'"
        ) from error
    # Made on a GPU, pyiqa's marker of its own device is a plain tensor, which would not move with the module.
    place = torch.as_tensor(model.dummy_param).device
    model.dummy_param = torch.nn.Parameter(torch.empty(0, device=place))
    return model.requires_grad_(False).eval()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of the three generators that pyiqa's metrics draw from, seeded; their states put back after."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
