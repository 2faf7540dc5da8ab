"""What the batches ask: what the commands ask about one image or one pair, about several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from iqloop.recipes.serve.refusal import Refusal

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Preference, Unparsed

    Pair = tuple[Tensor, Tensor, Tensor | None]

T = TypeVar("T")


def decode_one(data: bytes) -> Tensor:
    """The pixels ``(3, H, W)`` of a file, of an animation its first frame's. Raises `ImageReadError`."""
    from iqloop.io import read

    return read(data).pixels


def decode_pair(a: bytes, b: bytes, reference: bytes | None) -> Pair:
    """The same of two, and perhaps of what they are restorations of."""
    return decode_one(a), decode_one(b), None if reference is None else decode_one(reference)


def compare_pairs(critic: Critic) -> Callable[[Sequence[Pair]], list[Preference | Unparsed]]:
    """Asks about pairs, those with a reference and those without apart; a critic that cannot compare answers by its
    two scores."""

    def ask(pairs: Sequence[Pair]) -> list[Preference | Unparsed]:
        from iqloop.critic.thurstone import by_ratings

        left, right = [a for a, _, _ in pairs], [b for _, b, _ in pairs]
        if "compare" not in critic.capabilities:
            return list(by_ratings(critic.score(left), critic.score(right), critic.lower_better))
        found: dict[int, Preference | Unparsed] = {}
        for given in (True, False):
            places = [place for place, (_, _, reference) in enumerate(pairs) if (reference is not None) == given]
            if not places:
                continue
            references = [reference for _, _, reference in pairs if reference is not None] if given else None
            said = critic.compare([left[place] for place in places], [right[place] for place in places], references)
            found |= dict(zip(places, said, strict=True))
        return [found[place] for place in range(len(pairs))]

    return ask


def parsed(verdict: T | Unparsed) -> T:
    """The verdict. Raises `Refusal` for an answer that could not be read."""
    from iqloop.critic.verdicts import Unparsed

    if isinstance(verdict, Unparsed):
        raise Refusal(502, f"the critic's answer could not be read: {verdict.reason}")
    return verdict
