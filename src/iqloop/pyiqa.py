"""iqloop's critics among pyiqa's metrics: importing this module registers them.

    import pyiqa
    import iqloop.pyiqa

    metric = pyiqa.create_metric("qinsight-mini", as_loss=True)

``pyiqa.list_models()`` knows them too, and ``python -m iqloop.pyiqa qinsight-mini -t photo.jpg`` is pyiqa's command
line with them. Scores are ``(N, 1)``; options go through: ``pyiqa.create_metric("qinsight-mini", decoding="reason")``.
Every metric of pyiqa stays as it is. pyiqa is under PolyForm Noncommercial 1.0.0, which forbids commercial use; it is
not installed with iqloop: ``pip install 'iqloop[pyiqa]'``.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from torch import Tensor

from iqloop.critic.known import KNOWN, create_critic, plugin_critics
from iqloop.critic.metric import Metric, require_gradient
from iqloop.critic.pyiqa_critic import NETWORK, default_configs
from iqloop.errors import IqloopError


class CriticNetwork(torch.nn.Module):
    """A critic as one of pyiqa's networks: ``(B, 1 or 3, H, W)`` in [0, 1] to ``(B, 1)``.

    pyiqa says where it goes only after it is made, by ``to``; the critic is loaded then, so that its precision is the
    one for that device.
    """

    def __init__(self, critic: str, **options: Any) -> None:
        """Remember the critic's name and the options of `iqloop.create_critic`."""
        super().__init__()
        self._name, self._options = critic, options
        self.metric: Metric | None = None
        """The critic, once it is loaded; its torch module is a submodule."""

    def to(self, *args: Any, **kwargs: Any) -> CriticNetwork:
        """Move the critic; the first time, load it there."""
        device = kwargs.get("device", args[0] if args else None)
        if self.metric is None and isinstance(device, str | torch.device):
            self._load(device)
        super().to(*args, **kwargs)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Scores; with a gradient where pyiqa has enabled it, which it does for a loss."""
        metric = self.metric or self._load(None)
        if torch.is_grad_enabled() and not metric.as_loss:
            require_gradient(metric.critic)
            metric.as_loss = True
        elif not torch.is_grad_enabled():
            metric.as_loss = False
        scores: Tensor = metric(x)
        return scores

    def _load(self, device: str | torch.device | None) -> Metric:
        critic = create_critic(self._name, **{"device": None if device is None else str(device), **self._options})
        # pyiqa has looked at the range, unless it was told not to.
        self.metric = Metric(critic, loss_reduction="none", check_input_range=False)
        return self.metric


class _PluginEntry(dict[str, Any]):
    """What pyiqa knows of a plug-in's critic: its range and direction are asked for when a metric is made of it."""

    def get(self, key: str, default: Any = None) -> Any:
        if key in ("lower_better", "score_range") and key not in self:
            metric = Metric(create_critic(self["metric_opts"]["critic"]))
            self.update(lower_better=metric.lower_better, score_range=metric.score_range)
        return super().get(key, default)


def register() -> list[str]:
    """Add iqloop's critics, plug-ins' too, to pyiqa's tables; returns their names. Twice is as good as once.

    A name that pyiqa has already stays pyiqa's, and one with "fid" in it, which pyiqa would take for a metric of
    folders, is left out; each with a `RuntimeWarning`. Raises `PrerequisiteError` when pyiqa is not installed.
    """
    configs: Any = default_configs()
    from pyiqa.utils.registry import ARCH_REGISTRY

    ARCH_REGISTRY.register(CriticNetwork, name=NETWORK, override=True)
    entries: dict[str, dict[str, Any]] = {name: _PluginEntry() for name in plugin_critics()}
    for name, known in KNOWN.items():
        low, high = known.score_range
        entries[name] = {"lower_better": known.lower_better, "score_range": f"{low:g}, {high:g}"}
    for name, entry in entries.items():
        taken = name in configs and configs[name]["metric_opts"]["type"] != NETWORK
        if taken or "fid" in name:
            reason = "pyiqa has a metric of that name" if taken else "pyiqa takes names with fid for metrics of folders"
            warnings.warn(f"the critic {name!r} is not added to pyiqa: {reason}", RuntimeWarning, stacklevel=2)
            continue
        entry.update(metric_opts={"type": NETWORK, "critic": name}, metric_mode="NR")
        configs[name] = entry
    return [name for name, config in configs.items() if config["metric_opts"]["type"] == NETWORK]


def main(arguments: list[str] | None = None) -> int:
    """pyiqa's command line, with iqloop's critics; returns the exit code."""
    from pyiqa.pyiqa_cmd import main as pyiqa_main

    before = sys.argv
    sys.argv = ["python -m iqloop.pyiqa", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        pyiqa_main()
    except IqloopError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    finally:
        sys.argv = before
    return 0


register()

if __name__ == "__main__":
    sys.exit(main())
