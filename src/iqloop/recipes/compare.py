"""``iqloop compare``: which of two images is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Preference


def compare_images(a: Tensor, b: Tensor, critic: Critic, reference: Tensor | None = None) -> Preference:
    """Which of two images ``(3, H, W)`` in [0, 1] is better, in both orders; ``reference`` is their degraded input.

    Images of different size are shown at one size (`iqloop.agents.resize.at_one_size`), as `iqloop rank` does. A critic
    that cannot compare answers by its two scores, of the images as they are.

    Raises `iqloop.errors.CriticError` when the answer could not be read.
    """
    from iqloop.agents.resize import at_one_size, at_size, size_of
    from iqloop.critic.thurstone import by_ratings
    from iqloop.critic.verdicts import Unparsed
    from iqloop.errors import CriticError

    if "compare" in critic.capabilities:
        a, b = at_one_size(a, b)
        found = critic.compare([a], [b], None if reference is None else [at_size(reference, size_of(a))])[0]
    else:
        found = by_ratings(critic.score([a]), critic.score([b]), critic.lower_better)[0]
    if isinstance(found, Unparsed):
        raise CriticError(f"the critic's answer could not be read: {found.reason}")
    return found


def compare_fields(a: str, b: str, found: Preference) -> dict[str, Any]:
    """The line of ``--json``."""
    return {
        "a": a,
        "b": b,
        "preference": found.choice,
        "probability": found.probability,
        "reasoning": found.reasoning,
        "method": found.method,
        "position_bias": found.position_bias,
        "unparsed": found.unparsed,
    }


@click.command("compare")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--reference", type=click.Path(), help="The degraded image of which A and B are restorations.")
@options.ask_critic(batched=False)
@options.talk
def command(a: str, b: str, reference: str | None, choice: options.CriticChoice, console: Console) -> int:
    """Say which of two images is better.

    Both presentation orders are asked; a critic that contradicts itself means "similar". Of images of different size
    the smaller is shown enlarged. A critic that was not trained to compare decides by its two scores.
    """
    from iqloop.recipes.inputs import first_frame, gather
    from iqloop.recipes.loading import load_critic

    named = [a, b] if reference is None else [a, b, reference]
    images = []
    for name in named:
        (source, *more) = gather([name])
        if more or source.root is not None:
            raise click.BadParameter(f"{name} is a folder, expected an image file")
        try:
            images.append(first_frame(source.read(), source, console))
        except Exception as error:
            console.fail(source.shown, error)
    if console.failed:
        return failures.SOME_FAILED
    critic = load_critic(choice)
    try:
        found = compare_images(images[0], images[1], critic, *images[2:])
    except Exception as error:
        console.fail(a, error)
        return failures.SOME_FAILED
    console.fields(compare_fields(a, b, found))
    verdict = "A and B are similar" if found.choice == "similar" else f"{found.choice} is better"
    console.line(f"{verdict}: A={a} B={b} (probability that A is better {found.probability:.2f}, {found.method})")
    if found.reasoning and not console.quiet:
        console.line(found.reasoning)
    return failures.DONE
