"""``iqloop evaluate comparison``: does a critic prefer the better of two images, given their degraded input?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import run as evaluate_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from iqloop.critic.protocol import Critic
    from iqloop.critic.training.pairs import Pair
    from iqloop.critic.verdicts import Preference, Unparsed
    from iqloop.recipes.evaluate.run import Run

KINDS = ("severity", "tools")


def key_of(kind: str, number: int) -> str:
    """What the answer about a pair is kept under."""
    return f"{kind}/{number:05d}"


def made(
    photographs: Sequence[NDArray[np.uint8]],
    kinds: Iterable[str],
    count: int,
    side: int,
    seed: int,
    finished: Mapping[str, Any],
) -> Iterator[tuple[str, Pair]]:
    """The pairs that have no answer yet, by key: photographs in turn, every pair of a seed of its own."""
    import numpy as np

    from iqloop.critic.training.pairs import severity_pair, tool_pair
    from iqloop.restorers.registry import package_tools

    tools = package_tools()
    for kind in kinds:
        for i in range(count):
            if key_of(kind, i) in finished:
                continue
            photograph = photographs[i % len(photographs)]
            rng = np.random.default_rng([seed % 2**32, KINDS.index(kind), i])
            if kind == "severity":
                yield key_of(kind, i), severity_pair(photograph, side, rng)
            else:
                yield key_of(kind, i), tool_pair(photograph, side, rng, tools)


def ask(pairs: Iterable[tuple[str, Pair]], critic: Critic, run: Run, batch_size: int, console: Console) -> None:
    """Ask about each pair, ``batch_size`` at a time, and keep the answers."""
    batch: list[tuple[str, Pair]] = []
    for keyed in pairs:
        batch.append(keyed)
        if len(batch) >= batch_size:
            _ask(batch, critic, run, console)
            batch = []
    if batch:
        _ask(batch, critic, run, console)


def _ask(batch: Sequence[tuple[str, Pair]], critic: Critic, run: Run, console: Console) -> None:
    """One batch; if it fails its pairs are asked about one by one, so that only the culprit is lost."""
    from iqloop.errors import PrerequisiteError

    try:
        verdicts = preferences([pair for _, pair in batch], critic)
    except PrerequisiteError:
        raise
    except Exception as error:
        if len(batch) == 1:
            console.fail(batch[0][0], error)
        else:
            for keyed in batch:
                _ask([keyed], critic, run, console)
        return
    for (key, pair), verdict in zip(batch, verdicts, strict=True):
        truth = {"kind": pair.kind, "truth": pair.choice, "difference": pair.difference}
        where = {"distortion": pair.distortion, "distortion_class": pair.distortion_class}
        run.keep(key, **truth, **where, **answer(verdict))


def preferences(pairs: Sequence[Pair], critic: Critic) -> list[Preference | Unparsed]:
    """The critic's comparisons; those by two scores when it cannot compare."""
    from iqloop.critic.thurstone import by_ratings

    a, b = [_tensor(pair.a) for pair in pairs], [_tensor(pair.b) for pair in pairs]
    if "compare" in critic.capabilities:
        return critic.compare(a, b, [_tensor(pair.reference) for pair in pairs])
    return by_ratings(critic.score(a), critic.score(b), critic.lower_better)


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    """``(H, W, 3)`` uint8 to ``(3, H, W)`` in [0, 1]."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def answer(verdict: Preference | Unparsed) -> dict[str, Any]:
    """What is kept of a verdict; ``first`` and ``swapped`` are what the two orders said, where both were written."""
    from iqloop.critic.answers import parse_choice
    from iqloop.critic.verdicts import Unparsed

    if isinstance(verdict, Unparsed):
        return {"said": None, "raw": [verdict.raw], "reason": verdict.reason}
    orders: dict[str, Any] = {}
    if len(verdict.raw) == 2:
        first, second = (parse_choice(text) for text in verdict.raw)
        if not isinstance(first, Unparsed) and not isinstance(second, Unparsed):
            # In the second answer Image A is the one that stood second in the pair.
            orders = {"first": first, "swapped": {"A": "B", "B": "A", "similar": "similar"}[second]}
    found = {"said": verdict.choice, "probability": verdict.probability, "method": verdict.method}
    return {**found, **orders, "position_bias": verdict.position_bias, "raw": list(verdict.raw)}


def figures(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of kept answers: see `iqloop.critic.evaluation.comparison.figures`."""
    from iqloop.critic.evaluation import comparison

    counted = [field.name for field in fields(comparison.Judged)]
    rows: list[dict[str, Any]] = [{name: kept.get(name) for name in counted} for kept in answers]
    return comparison.figures([comparison.Judged(**row) for row in rows])


def tell(summary: Mapping[str, Any], console: Console) -> None:
    """The figures for people."""
    for kind, right in (("severity", "accuracy"), ("tools", "agreement")):
        if kind in summary:
            one = summary[kind]
            classes = " ".join(f"{name} {_shown(value)}" for name, value in one["by_class"].items())
            text = f"{kind}: {right} {_shown(one[right])} of {one.get('clear', one['pairs'])} pairs ({classes})"
            text += f", by probability {_shown(one['likelier'])}"
            if kind == "tools":
                text += f", ties {_shown(one['tie_accuracy'])} of {one['ties']}"
            console.line(f"{text}, said similar {one['similar']:.3f}, unparsed {one['unparsed']:.3f}")
    if summary["order_agreement"] is not None:
        console.line(f"both orders agree {summary['order_agreement']:.3f}")
    if summary["position_bias"] is not None:
        console.line(f"position bias {summary['position_bias']:+.3f} (mean of {summary['position_bias_pairs']} pairs)")
    if summary["thurstone"]:
        console.line(f"by two scores instead of a comparison: {summary['thurstone']:.1%} of the preferences")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@click.command("comparison")
@click.option("--photos", type=click.Path(path_type=Path), required=True, help="Folder of clean photographs.")
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Pairs of each kind.")
@click.option("--side", type=click.IntRange(32), default=224, show_default=True, help="Side of the images, in pixels.")
@click.option(
    "--kind",
    type=click.Choice([*KINDS, "both"]),
    default="both",
    show_default=True,
    help="Two severities of a distortion, or results of tools.",
)
@evaluate_run.kept
@options.ask_critic(decoding=True)
@options.talk
def command(
    photos: Path,
    count: int,
    side: int,
    kind: str,
    out: Path | None,
    resume: bool,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure whether a critic prefers the better of two images, given their degraded input.

    The pairs are made of the photographs of --photos, best such that the critic never saw. Of two severities of one
    distortion the milder is better, and "similar" is wrong. Of two results of the package's tools on one degraded
    image the one of higher PSNR is better: agreement counts pairs more than 0.5 dB apart, and up to 0.25 dB is a tie.

    A critic that cannot compare is asked for two scores instead, without the input. Answers that cannot be read are
    wrong.
    """
    from iqloop.critic.training.crops import load_photographs
    from iqloop.recipes.loading import load_critic

    photographs = load_photographs(photos)
    critic = load_critic(choice)
    kinds = KINDS if kind == "both" else (kind,)
    config = {
        "measure": "comparison",
        "photos": str(photos),
        "photographs": len(photographs),
        "count": count,
        "side": side,
        "kinds": kinds,
        "seed": choice.seed,
    }
    run = evaluate_run.Run(out, {**config, "critic": evaluate_run.identity(critic)}, resume)
    keys = [key_of(one, i) for one in kinds for i in range(count)]
    waiting = made(photographs, kinds, count, side, choice.seed, dict(run.finished))
    with console.progress(len(keys) - len(run.finished), "comparing") as progress:

        def counted() -> Iterator[tuple[str, Pair]]:
            for keyed in waiting:
                progress.advance()
                yield keyed

        ask(counted(), critic, run, choice.batch_size, console)
    kept = [run.finished[key] for key in keys if key in run.finished]
    summary = {
        "critic": critic.name,
        "version": critic.version,
        "photographs": len(photographs),
        "seed": choice.seed,
        "failed": len(keys) - len(kept),
        **figures(kept),
    }
    run.finish(summary)
    console.fields(summary)
    tell(summary, console)
    return failures.SOME_FAILED if console.failed else failures.DONE
