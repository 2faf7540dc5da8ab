"""``nss-mini``: a critic that scores by natural scene statistics, without a language model.

It exists to disagree: whoever trains with another critic, or picks the best of many by it, asks this one whether the
images became better or only that critic happier. It shares no weights, no features and no architecture with
``qinsight-mini``, but has learned from the same photographs (docs/models/nss-mini.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from iqloop.critic.natural_scene import features
from iqloop.critic.natural_scene_net import HIGHEST, LOWEST, load
from iqloop.critic.only_scores import OnlyScores
from iqloop.critic.verdicts import Provenance, Rating, Unparsed


class NaturalSceneCritic(OnlyScores, torch.nn.Module):
    """Scores one image after the other, whole, at its own size: the same image always gets the same score."""

    def __init__(self, name: str, folder: Path, device: str | torch.device | None = None) -> None:
        """Load weights that `iqloop train nss` wrote.

        Args:
            name: what users call it.
            folder: where they are.
            device: torch device; None takes a GPU when there is one.

        Raises `CriticError` when they are not usable.
        """
        super().__init__()
        self._name = name
        self.net, self._digest = load(folder)
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self._name

    @property
    def score_range(self) -> tuple[float, float]:
        """1 to 5."""
        return LOWEST, HIGHEST

    @property
    def lower_better(self) -> bool:
        """No: 5 is the best."""
        return False

    @property
    def version(self) -> str:
        """Digest of the weights."""
        return self._digest

    @property
    def device(self) -> torch.device:
        """Where images are looked at."""
        return self.net.mean.device

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image ``(3, H, W)`` in [0, 1]; std is the deviation among the nets, which tells little."""
        made = Provenance(self.name, decoding="natural scene statistics")
        with torch.no_grad():
            judged = [self._judged(image) for image in images]
        return [Rating(float(one.mean()), float(one.std(correction=0)), provenance=made) for one in judged]

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        """Scores ``(B,)`` with a gradient back to the pixels."""
        return torch.stack([self._judged(image).mean() for image in images])

    def _judged(self, image: Tensor) -> Tensor:
        """Each net's score ``(JUDGES,)`` of an image ``(3, H, W)``."""
        judged: Tensor = self.net(self.net.standardise(features(image.to(self.device))[None]))
        return judged[:, 0]

    def fingerprint(self, question: str) -> str | None:
        """What answers on a disk are kept by."""
        return f"{self.name} {self.version} {self.device.type}" if question == "score" else None
