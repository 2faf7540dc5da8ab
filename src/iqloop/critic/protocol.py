"""What every critic can be asked: the contract between critics and those who use them.

A critic always scores; the rest is by capability. Images are float tensors ``(3, H, W)``, sRGB in [0, 1], of any and
mixed sizes. One verdict per image, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed

Capability = Literal["score", "perceive", "compare", "describe"]


@runtime_checkable
class Critic(Protocol):
    """Scores images; perceives, compares and describes them if its capabilities say so."""

    @property
    def name(self) -> str:
        """The name it was made with."""
        ...

    @property
    def score_range(self) -> tuple[float, float]:
        """Lowest and highest possible rating."""
        ...

    @property
    def lower_better(self) -> bool:
        """Direction of the ratings."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What may be asked; anything else raises `iqloop.errors.CriticError`."""
        ...

    @property
    def version(self) -> str:
        """Changes when the weights or the prompts change; part of every cache key and trace."""
        ...

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image ``(3, H, W)`` in [0, 1]."""
        ...

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Name each image's degradation and its severity."""
        ...

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Compare ``a[i]`` with ``b[i]``, optionally given the degraded input ``reference[i]``."""
        ...

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Describe each image's quality in words."""
        ...
