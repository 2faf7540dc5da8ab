"""``iqloop evaluate stability``: how much does a drawn score depend on the seed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from iqloop.recipes import failures, inputs, options
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import run as evaluate_run
from iqloop.recipes.inputs import Input

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor

    from iqloop.critic.evaluation.stability import Spread
    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Rating, Unparsed
    from iqloop.recipes.evaluate.run import Run

VARIED = frozenset({"decoding", "samples", "temperature", "seed"})
"""The fields of a critic that can be varied."""
CHECKS = 2
"""How often the deterministic mode is asked, each time with another seed."""


class Answered(NamedTuple):
    """What was said about one image."""

    drawn: Sequence[Rating | Unparsed]
    """One for each seed."""
    fixed: Sequence[Rating | Unparsed]
    """Of the deterministic mode, `CHECKS` times; of a critic that draws nothing, its only one."""


def variants(
    critic: Critic, seeds: Sequence[int], samples: int, temperature: float
) -> tuple[list[Critic], list[Critic]]:
    """The critic once for each seed, drawing its answers, and the deterministic mode with the first and the last seed.

    A critic that draws no answers has nothing to vary: none that draw, and itself twice.
    """
    if not is_dataclass(critic) or isinstance(critic, type) or not {one.name for one in fields(critic)} >= VARIED:
        return [], [critic] * CHECKS
    drawing = [
        replace(critic, decoding="reason", samples=samples, temperature=temperature, seed=seed) for seed in seeds
    ]
    fixed = [replace(critic, decoding="expected", samples=1, seed=seed) for seed in (seeds[0], seeds[-1])]
    return drawing, fixed


def ask(
    sources: Sequence[Input],
    drawing: Sequence[Critic],
    fixed: Sequence[Critic],
    run: Run,
    batch_size: int,
    console: Console,
) -> None:
    """Ask every variant about each image that has no answers yet, and keep them (None where one could not be read)."""

    def put(images: list[Tensor]) -> list[Answered]:
        drawn = list(zip(*(critic.score(images) for critic in drawing), strict=True)) or [()] * len(images)
        # Backwards the second time, so that an image stands elsewhere in its batch.
        checks = [fixed[0].score(images), fixed[1].score(images[::-1])[::-1]]
        return [Answered(*rows) for rows in zip(drawn, zip(*checks, strict=True), strict=True)]

    waiting = [source for source in sources if source.shown not in run.finished]
    with console.progress(len(waiting), "scoring") as progress:
        for source, said in inputs.ask_in_batches(waiting, put, batch_size, console):
            progress.advance()
            if isinstance(said, Exception):
                console.fail(source.shown, said)
            else:
                run.keep(source.shown, **kept(said))


def kept(said: Answered) -> dict[str, Any]:
    """What is kept of an image: for each seed a score, its deviation and single answers; the deterministic scores."""
    from iqloop.critic.verdicts import Rating

    ratings = [one if isinstance(one, Rating) else None for one in said.drawn]

    return {
        "scores": [one.mean if one else None for one in ratings],
        "deviations": [one.std if one else None for one in ratings],
        "singles": [single for one in ratings if one for single in singles(one)],
        "retried": sum(one.unparsed for one in said.drawn),
        "deterministic": [one.mean if isinstance(one, Rating) else None for one in said.fixed],
        "raw": [one.raw for one in said.drawn],
    }


def singles(rating: Rating) -> list[float]:
    """The numbers in a rating's written answers; what does not parse was replaced or left out by the critic itself."""
    from iqloop.critic.answers import parse_rating

    numbers = (parse_rating(answer, thinks=False) for answer in rating.answers)
    return [number for number in numbers if isinstance(number, float)]


def figures(answers: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Spread]]:
    """The figures of kept answers by image, and each image's spread."""
    import numpy as np

    from iqloop.critic.evaluation.stability import spread, stability

    spreads = {name: spread(kept["scores"]) for name, kept in answers.items()}
    deviations = [one for kept in answers.values() for one in kept["deviations"] if one is not None]
    fixed = [spread(kept["deterministic"]) for kept in answers.values()]
    single = stability([spread(kept.get("singles", [])) for kept in answers.values()])
    found = {
        **asdict(stability(list(spreads.values()))),
        "own_std": float(np.sqrt(np.mean(np.square(deviations)))) if deviations else None,
        "single_std_mean": single.std_mean,
        "single_std_max": single.std_max,
        "retried": sum(kept["retried"] for kept in answers.values()),
        "deterministic_span_max": stability(fixed).span_max,
        "by_image": {
            name: {"mean": one.mean, "std": one.std, "span": one.span, "unparsed": one.unparsed}
            for name, one in spreads.items()
        },
    }
    return found, spreads


def tell(summary: Mapping[str, Any], console: Console) -> None:
    """The figures for people."""
    if console.json:
        return
    steady = _shown(summary["deterministic_span_max"], ".2g")
    if not summary["seeds"]:
        console.line(f"{summary['critic']} draws no answers; asked twice, largest difference {steady}")
        return
    with console.table("path", "mean", "std", "span", "unparsed"):
        for name, one in summary["by_image"].items():
            console.row({}, name, *(_shown(one[key]) for key in ("mean", "std", "span")), one["unparsed"])
    drawn = f"{summary['samples']} answers at temperature {summary['temperature']:g}, {len(summary['seeds'])} seeds"
    console.line(
        f"std of a score ({drawn}): mean {_shown(summary['std_mean'])}, median {_shown(summary['std_median'])}, "
        f"max {_shown(summary['std_max'])}; largest difference {_shown(summary['span_max'])}"
    )
    console.line(
        f"std of a single answer (of all seeds and views): mean {_shown(summary['single_std_mean'])}, "
        f"max {_shown(summary['single_std_max'])}"
    )
    console.line(f"deviation that the verdicts tell of themselves (answers, views): {_shown(summary['own_std'])}")
    share = summary["unparsed_share"] or 0.0
    console.line(f"unparsed {summary['unparsed']} of {summary['answers']} scores ({share:.1%})")
    console.line(f"deterministic mode: largest difference {steady}")


def _shown(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def plot(spreads: Mapping[str, Spread], answers: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Scores over seeds."""
    from iqloop.critic.evaluation.scatter import seeds

    fixed = {name: kept["deterministic"][0] for name, kept in answers.items() if kept["deterministic"][0] is not None}
    return seeds(spreads, title, fixed)


@click.command("stability")
@options.inputs(name="named")
@click.option(
    "--seeds", "count", type=click.IntRange(2), default=5, show_default=True, help="How many, from --seed on."
)
@click.option(
    "--samples",
    "together",
    type=click.IntRange(2),
    default=2,
    show_default=True,
    help="Written answers that make a score: one is never drawn.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 10, min_open=True),
    default=1.0,
    show_default=True,
    help="Of drawn answers.",
)
@evaluate_run.kept
@options.ask_critic()
@options.talk
def command(
    named: tuple[str, ...],
    count: int,
    together: int,
    temperature: float,
    out: Path | None,
    resume: bool,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure how much a drawn score depends on the seed.

    Every image is scored by written answers that are drawn at --temperature, once for each of --seeds seeds; the
    spread of the scores is told for each image and for all. The deterministic mode, which is the default of every
    other command, is asked twice: it must differ by nothing but rounding.
    """
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.loading import load_critic

    sources = gather(named)
    seeds = list(range(choice.seed, choice.seed + count))
    critic = load_critic(choice)
    drawing, fixed = variants(critic, seeds, together, temperature)
    manner = {"seeds": seeds if drawing else [], "samples": together, "temperature": temperature}
    config = {
        "measure": "stability",
        **manner,
        "images": [source.shown for source in sources],
        "critic": evaluate_run.identity(critic),
        "dtype": choice.dtype,
        "critic_options": list(choice.more) or None,
    }
    run = evaluate_run.Run(out, config, resume)
    ask(sources, drawing, fixed, run, choice.batch_size, console)
    answers = {source.shown: run.finished[source.shown] for source in sources if source.shown in run.finished}
    found, spreads = figures(answers)
    summary = {
        "critic": critic.name,
        "version": critic.version,
        **manner,
        "failed": len(sources) - len(answers),
        **found,
    }
    title = f"{critic.name}: scores of {together} answers at temperature {temperature:g}, {count} seeds"
    drawn = {"seeds": plot(spreads, answers, title)} if out and found["measured"] else {}
    run.finish(summary, drawn)
    console.fields(summary)
    tell(summary, console)
    return failures.SOME_FAILED if console.failed else failures.DONE
