"""What a critic without words answers when it is asked for more than a score."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import Degradation, Preference, Unparsed
from iqloop.errors import CriticError


class OnlyScores:
    """The rest of `iqloop.critic.protocol.Critic` for one that scores and nothing else."""

    @property
    def name(self) -> str:
        """The critic's own."""
        raise NotImplementedError

    @property
    def capabilities(self) -> frozenset[Capability]:
        """It scores."""
        return frozenset(["score"])

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Raises `CriticError`."""
        raise self._only_scores("perceive")

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Raises `CriticError`."""
        raise self._only_scores("compare")

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Raises `CriticError`."""
        raise self._only_scores("describe")

    def _only_scores(self, asked: str) -> CriticError:
        return CriticError(f"{self.name} cannot {asked}, it only scores: choose another critic")
