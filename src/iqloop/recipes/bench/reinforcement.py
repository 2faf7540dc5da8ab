"""``iqloop bench reinforcement``: what GRPO adds to a warm start, and what as many further steps of supervision add.

    RUNS              what is trained
    answered          what a checkpoint writes to held-out questions, graded by the rewards it is trained by
    page, curve       what is shown

The questions are made as those of training are (`iqloop.critic.training.synthetic`), of photographs that no run has
seen; every checkpoint gets the same ones, so differences are taken question by question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.bench.ablations import JOINT, Data, Scale, Variant, named, read, tensor_of, train
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START = Variant("start", (), "start")
RUNS: tuple[Variant, ...] = (
    Variant("reinforced", ()),
    Variant("supervised", (), "supervised"),
    Variant("supervised, gently", (), "supervised", continued=0.04),
)
"""Supervision at the rates for going on, and at a tenth of them: a start that has converged may bear no more."""
REWARDS: Mapping[str, str] = {"class": "class", "level": "level", "score": "score", "format": "format"}
"""Q-Insight's equations 4, 5 and 3 and its format reward, each in [0, 1]; level counts where the class is right."""
ALONG = 4
"""Weights along the way are measured on the first of so many parts of the questions."""
SMOOTHED = 10
"""Steps whose spreads are averaged: few questions of one step are about scores."""
AT_ONCE = 8
"""Questions that are answered together."""

Graded = dict[str, list[float | None]]
"""A reward's mean over the answers to each question, by reward; None for questions of another task."""


def answered(folder: Path, scale: Scale, data: Data, questions: int, draws: int) -> Graded:
    """Rewards of the answers of ``folder``'s weights to ``questions`` held-out questions.

    Args:
        folder: a checkpoint.
        scale: its side and seed.
        data: its held-out photographs.
        questions: score and degradation in turn.
        draws: answers to each, drawn at temperature 1 as in training; 0 is one greedy answer.
    """
    import numpy as np
    import torch

    from iqloop.critic.checkpoint import CheckpointSource, load
    from iqloop.critic.context import look, see, tokens_of
    from iqloop.critic.inputs import question
    from iqloop.critic.prompts import Q_INSIGHT
    from iqloop.critic.reason import Draw, write
    from iqloop.critic.training.synthetic import Source, examples, rows

    checkpoint = load(CheckpointSource("answers", str(folder)), device="cpu")
    asked = examples(JOINT, questions)
    table = rows(Source(data.held_out, data.held_out_rated, side=scale.side, seed=scale.seed + 2000), asked)
    graded: Graded = {name: [None] * questions for name in REWARDS}
    for task in JOINT:
        places = [i for i, one in enumerate(asked) if one.task == task]
        opening = question(checkpoint, Q_INSIGHT[task])
        cut = opening.index("<|vision_end|>") + len("<|vision_end|>")
        for begin in range(0, len(places), AT_ONCE):
            piece = places[begin : begin + AT_ONCE]
            batch = [table[i] for i in piece]
            with torch.no_grad():
                images = see(checkpoint, [tensor_of(np.asarray(row["images"][0])) for row in batch])
                context = look(checkpoint, opening[:cut], [[image] for image in images])
                index = torch.arange(len(piece)).repeat_interleave(max(1, draws))
                how = [Draw(1.0 if draws else 0.0, (scale.seed, k)) for _ in piece for k in range(max(1, draws))]
                stem = tokens_of(checkpoint, opening[cut:] + checkpoint.answer_begin)
                texts = write(checkpoint, context.rows(index), [stem] * len(how), how, max_new_tokens=80)
            texts = [checkpoint.answer_begin + text for text in texts]
            for k, (place, row) in enumerate(zip(piece, batch, strict=True)):
                for name, value in worth(texts[k * max(1, draws) : (k + 1) * max(1, draws)], row).items():
                    graded[name][place] = value
    return graded


def worth(texts: Sequence[str], row: Mapping[str, Any]) -> dict[str, float]:
    """Mean rewards of the answers to one question, a row of `iqloop.critic.training.synthetic.rows`."""
    from iqloop.critic.rewards import degradation_reward, format_reward, score_reward

    earned: dict[str, list[float]] = {"format": [format_reward(text, row["task"]) for text in texts]}
    if row["task"] == "score":
        earned["score"] = [score_reward(text, row["opinion"]) for text in texts]
    else:
        truth = row["distortion_class"], row["severity"]
        earned["class"] = [degradation_reward(text, *truth, 1, 0) for text in texts]
        earned["level"] = [degradation_reward(text, *truth, 0, 1) for text in texts]
    return {name: sum(values) / len(values) for name, values in earned.items()}


def mean(values: Iterable[float | None]) -> float:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def run(
    scale: Scale, names: Sequence[str], output: Path, questions: int, draws: int, say: Callable[[str], None]
) -> Any:
    """Train and measure what ``output`` does not hold yet.

    Returns:
        By name: ``greedy`` and ``drawn`` rewards of each question, ``along``, the drawn ones' means by step, and
        ``spread``, where answers were drawn in training.
    """
    import shutil

    data = read(scale)
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for variant in (START, *(one for one in RUNS if one.name in names)):
        kept = output / f"{variant.name.replace(', ', '-')}.json"
        if not kept.exists():
            folder = output / kept.stem
            trained = train(variant, scale, data, folder, named(say, variant))
            found: dict[str, Any] = {
                "variant": asdict(variant),
                "greedy": answered(trained, scale, data, questions, 0),
                "drawn": answered(trained, scale, data, questions, draws),
                "along": {},
            }
            if (folder / "log.jsonl").exists():
                found["spread"] = spread(folder / "log.jsonl")
            for at in sorted(folder.glob("at-*")) if folder != trained else ():
                row = answered(at, scale, data, max(4, questions // ALONG), draws)
                found["along"][int(at.name.removeprefix("at-"))] = {name: mean(values) for name, values in row.items()}
                shutil.rmtree(at)
            kept.write_text(json.dumps(found, indent=1))
        results[variant.name] = json.loads(kept.read_text())
        told = results[variant.name]
        for manner in ("drawn", "greedy"):
            shown = (f"{name}={mean(row):.3f}" for name, row in told[manner].items())
            say(f"{variant.name}: {manner} {' '.join(shown)}")
    return results


def spread(log: Path) -> dict[int, float]:
    """Deviation of the scores that were drawn to one question, in points, by step: means of `SMOOTHED` steps."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    known = [(int(row["step"]), row.get("answers/score_spread")) for row in rows]
    parts = [known[begin : begin + SMOOTHED] for begin in range(0, len(known), SMOOTHED)]
    means = {part[-1][0]: [value for _, value in part if value is not None] for part in parts}
    return {step: sum(values) / len(values) for step, values in means.items() if values}


def page(results: Mapping[str, Any], questions: int, draws: int) -> str:
    """Markdown: each reward of each run, and what it gained over the start, with intervals over questions."""
    from iqloop.critic.evaluation.bootstrap import ratio

    lines: list[str] = []
    titles = {"drawn": f"Drawn at temperature 1, {draws} answers to each question", "greedy": "Greedy, one answer"}
    for manner, title in titles.items():
        lines += [f"### {title}", "", f"| {questions} questions | {' | '.join(REWARDS.values())} |"]
        lines.append("|---" * (len(REWARDS) + 1) + "|")
        for name, found in results.items():
            cells = []
            for reward in REWARDS:
                row, first = found[manner][reward], results[START.name][manner][reward]
                cell = f"{mean(row):.3f}"
                if name != START.name:
                    more = [a - b for a, b in zip(row, first, strict=True) if a is not None and b is not None]
                    gain = ratio(more, [1.0] * len(more))
                    cell += f" ({gain.value:+.3f}"
                    cell += ")" if gain.low is None else f" [{gain.low:+.3f}, {gain.high:+.3f}])"
                cells.append(cell)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def curve(results: Mapping[str, Any]) -> Figure:
    """Held-out rewards of drawn answers over the steps of reinforcement, from the start that all share, and the spread
    of the scores that were drawn in training (the slides' Figure 3 of VisualQuality-R1)."""
    from iqloop.critic.evaluation import charts

    figure = charts.blank(6.4, 4)
    axes = figure.subplots()
    start = results[START.name]["drawn"]
    first = {name: mean(row[: max(4, len(row) // ALONG)]) for name, row in start.items()}
    along = {0: first, **{int(at): means for at, means in results[RUNS[0].name]["along"].items()}}
    for name, title in REWARDS.items():
        axes.plot(list(along), [means[name] for means in along.values()], marker="o", markersize=3, label=title)
    spreads = {int(at): value for at, value in results[RUNS[0].name].get("spread", {}).items()}
    if spreads:
        axes.plot(list(spreads), list(spreads.values()), color="0.5", linestyle=":", label="spread of scores, points")
    axes.set_xlabel("step")
    axes.set_ylabel("held-out reward of drawn answers")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False)
    return figure


@click.command("reinforcement")
@options.training_study
@click.option(
    "--only", type=click.Choice([run.name for run in RUNS]), multiple=True, help="Repeat it. Default: all runs."
)
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Of each run.")
@click.option("--per-step", type=click.IntRange(2), default=16, show_default=True, help="Questions of a step.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=6e-5, show_default=True, help="Of GRPO.")
@click.option("--warm-up", type=click.IntRange(0), default=20, show_default=True, help="Its steps with a rising rate.")
@click.option("--freeze-vision/--train-vision", default=True, show_default=True, help="The vision tower, in all runs.")
@click.option("--questions", type=click.IntRange(4), default=800, show_default=True, help="Held-out, to measure on.")
@click.option("--draws", type=click.IntRange(1), default=8, show_default=True, help="Answers drawn to each.")
@options.seeded
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    critic: str,
    data: Path,
    out: Path,
    only: tuple[str, ...],
    steps: int,
    per_step: int,
    rate: float,
    warm_up: int,
    freeze_vision: bool,
    questions: int,
    draws: int,
    seed: int,
    threads: int,
    verbose: bool,
) -> int:
    """What GRPO adds to a critic, and what as much more supervision adds.

    All runs start from the same weights and are measured by the rewards of their answers to the same questions about
    photographs that none has seen. Writes a JSON file for each, table.md and curve.png.
    """
    import warnings

    import torch

    from iqloop.recipes.train.critic import folder_of, hush

    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    hush(verbose)
    torch.set_num_threads(threads)
    scale = Scale(
        data, folder_of(critic), steps, per_step, rate, seed=seed, warm_up=warm_up, freeze_vision=freeze_vision
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = run(scale, only or [run.name for run in RUNS], out, questions, draws, console.line)
    text = page(results, questions, draws)
    (out / "table.md").write_text(text)
    if RUNS[0].name in results:
        curve(results).savefig(out / "curve.png", dpi=120)
    for line in text.splitlines():
        console.line(line)
    return failures.DONE
