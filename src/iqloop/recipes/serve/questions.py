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
    """Asks about pairs, each at one size, those with a reference and those without apart; a critic that cannot compare
    answers by its two scores."""

    def ask(pairs: Sequence[Pair]) -> list[Preference | Unparsed]:
        from iqloop.agents.resize import at_one_size, at_size, size_of
        from iqloop.critic.thurstone import by_ratings

        if "compare" not in critic.capabilities:
            of_a, of_b = critic.score([a for a, _, _ in pairs]), critic.score([b for _, b, _ in pairs])
            return list(by_ratings(of_a, of_b, critic.lower_better))
        shown = [at_one_size(a, b) for a, b, _ in pairs]
        left, right = [a for a, _ in shown], [b for _, b in shown]
        found: dict[int, Preference | Unparsed] = {}
        for given in (True, False):
            places = [place for place, (_, _, reference) in enumerate(pairs) if (reference is not None) == given]
            if not places:
                continue
            lefts, rights = ([side[place] for place in places] for side in (left, right))
            references = [reference for _, _, reference in pairs if reference is not None] if given else None
            if references is not None:
                references = [at_size(one, size_of(beside)) for one, beside in zip(references, lefts, strict=True)]
            said = critic.compare(lefts, rights, references)
            found |= dict(zip(places, said, strict=True))
        return [found[place] for place in range(len(pairs))]

    return ask


def parsed(verdict: T | Unparsed) -> T:
    """The verdict. Raises `Refusal` for an answer that could not be read."""
    from iqloop.critic.verdicts import Unparsed

    if isinstance(verdict, Unparsed):
        raise Refusal(502, f"the critic's answer could not be read: {verdict.reason}")
    return verdict
