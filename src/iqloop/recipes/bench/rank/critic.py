"""A critic that is right as often as it is told to be: what ranking makes of noisy comparisons, without a model.

The images stand one apart on a line, and what the critic sees of any two is their distance with normal noise
(Thurstone's case V). Noise belongs to the pair and the order in which it is shown, so asking again tells nothing new.
Its deviation is the one that lets ``accuracy`` of all pairs come out right once both orders are taken together; scores
have noise of their own, and order as many pairs rightly.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from torch import Tensor

from iqloop.agents import pixel_hash
from iqloop.critic.protocol import Capability
from iqloop.critic.verdicts import Choice, Degradation, Preference, Rating, Unparsed
from iqloop.errors import CriticError

LOGIT = 1.702
"""The logistic curve of so much steepness is the normal distribution to 0.01."""
SPOKEN = "<think> </think><answer> Image {} </answer>"


class SimulatedCritic:
    """Knows the true order of some images, and errs."""

    version = "1"
    score_range = (-math.inf, math.inf)
    lower_better = False
    capabilities: frozenset[Capability] = frozenset({"score", "compare"})

    def __init__(self, images: Sequence[Tensor], accuracy: float, seed: int) -> None:
        """Take the images ``(3, H, W)``, the best first; ``accuracy`` in (0.5, 1) of all pairs is ordered rightly."""
        self.name = f"simulated, {accuracy:g} right"
        self.deviation = deviation_for(len(images), accuracy)
        """Of the noise of a comparison in both orders, in places; that of a score is smaller by the root of 2."""
        self._places = {pixel_hash(image): place for place, image in enumerate(images)}
        self._seed = seed

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate by place, less or more some noise."""
        spread = self.deviation / math.sqrt(2)
        names = [pixel_hash(image) for image in images]
        return [Rating(spread * self._noise(name) - self._places[name], spread) for name in names]

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Compare in both orders; a reference tells it nothing."""
        return [self._compare(pixel_hash(x), pixel_hash(y)) for x, y in zip(a, b, strict=True)]

    def _compare(self, a: str, b: str) -> Preference:
        there, back = self._first_better(a, b), self._first_better(b, a)
        said = ["A" if chance > 0.5 else "B" for chance in (there, back)]
        choice: Choice = "similar" if said[0] == said[1] else "A" if said[0] == "A" else "B"
        raw = (SPOKEN.format(said[0]), SPOKEN.format(said[1]))
        return Preference(choice, (there + 1 - back) / 2, raw=raw, position_bias=(there + back - 1) / 2)

    def _first_better(self, first: str, second: str) -> float:
        gap = self._places[second] - self._places[first]
        seen = gap / (math.sqrt(2) * self.deviation) + self._noise(first, second)
        return 1 / (1 + math.exp(-LOGIT * seen))

    def _noise(self, *about: str) -> float:
        """Standard normal, the same for the same images in the same order."""
        digest = hashlib.sha256(repr((self._seed, *about)).encode()).digest()
        one, other = (int.from_bytes(part, "big") / 2**64 for part in (digest[:8], digest[8:16]))
        return math.sqrt(-2 * math.log(1 - one)) * math.cos(2 * math.pi * other)

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Raises `CriticError`."""
        raise CriticError(f"{self.name} scores and compares only")

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Raises `CriticError`."""
        raise CriticError(f"{self.name} scores and compares only")


def deviation_for(count: int, accuracy: float) -> float:
    """Noise, in places, with which ``accuracy`` of all pairs of ``count`` images one apart comes out right."""
    from scipy.optimize import brentq

    pairs = count * (count - 1) / 2

    def right(deviation: float) -> float:
        normal = (0.5 * (1 + math.erf(gap / deviation / math.sqrt(2))) for gap in range(1, count))
        return sum((count - gap) * share for gap, share in enumerate(normal, 1)) / pairs

    return float(brentq(lambda deviation: right(deviation) - accuracy, 1e-3, 1e4 * count))
