"""``iqloop evaluate score``: do a critic's scores agree with people's mean opinions?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iqloop.recipes import failures, inputs, options
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import images as evaluate_images
from iqloop.recipes.evaluate import run as evaluate_run
from iqloop.recipes.inputs import Input

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iqloop.critic.evaluation.correlation import Agreement
    from iqloop.critic.labels import Format, Rated
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.evaluate.run import Run

FIGURES = ("srcc", "krcc", "plcc", "plcc_fitted", "rmse", "rmse_raw")
"""The figures of a summary, in the order of the table."""


def ask(
    sources: Mapping[str, Input],
    opinions: Mapping[str, float],
    critic: Critic,
    run: Run,
    batch_size: int,
    console: Console,
) -> None:
    """Score each image that has no score yet, and keep it beside the opinion (None when it could not be read)."""
    from iqloop.critic.verdicts import Unparsed

    waiting = [name for name in sources if name not in run.finished]
    said = inputs.ask_in_batches((sources[name] for name in waiting), critic.score, batch_size, console)
    with console.progress(len(waiting), "scoring") as progress:
        for name, (source, verdict) in zip(waiting, said, strict=True):
            progress.advance()
            if isinstance(verdict, Exception):
                console.fail(source.shown, verdict)
            elif isinstance(verdict, Unparsed):
                run.keep(name, mos=opinions[name], score=None, raw=verdict.raw, reason=verdict.reason)
            else:
                run.keep(name, mos=opinions[name], score=verdict.mean, std=verdict.std, raw=verdict.raw)


def read_out(rows: Iterable[Rated], kept: Mapping[str, Mapping[str, Any]]) -> list[tuple[Rated, float | None]]:
    """The rows that were answered, each with its score; None for an answer that could not be read."""
    return [(row, kept[row.image]["score"]) for row in rows if row.image in kept]


def figures(
    answered: Sequence[tuple[Rated, float | None]], *, opposite: bool, same_scale: bool, resamples: int, seed: int
) -> tuple[Agreement, dict[str, Agreement]]:
    """The figures of all rows, and of each group where there are several; unread answers are in none."""
    from iqloop.critic.evaluation.correlation import agreement

    groups: dict[str, list[tuple[float, float]]] = {}
    everything: list[tuple[float, float]] = []
    for row, score in answered:
        if score is not None:
            everything.append((score, row.mos))
            if row.group is not None:
                groups.setdefault(row.group, []).append((score, row.mos))

    def measure(pairs: Sequence[tuple[float, float]]) -> Agreement:
        scores, means = [score for score, _ in pairs], [mean for _, mean in pairs]
        return agreement(scores, means, opposite=opposite, same_scale=same_scale, resamples=resamples, seed=seed)

    return measure(everything), {name: measure(pairs) for name, pairs in groups.items()} if len(groups) > 1 else {}


def as_fields(found: Agreement) -> dict[str, Any]:
    """An agreement as JSON types."""
    fields = asdict(found)
    if found.curve is not None:
        fields["curve"] = {"beta": list(found.curve.beta), "rises": found.curve.rises}
    return fields


def tell(summary: Mapping[str, Any], console: Console) -> None:
    """The figures for people: a table of all images and of each group, and what is missing from it."""
    if console.json:
        return
    with console.table("of", "images", "SRCC", "KRCC", "PLCC", "fitted PLCC", "RMSE", "raw RMSE"):
        for name, found in {"all": summary["overall"], **summary["groups"]}.items():
            console.row({}, name, found["images"], *(_shown(found[figure]) for figure in FIGURES))
    for what in ("unparsed", "missing", "failed"):
        if summary[what]:
            console.notice(f"{what}: {summary[what]} of {summary['rows']} images, which are in no figure")
    overall = summary["overall"]
    for reason in dict.fromkeys(overall[figure]["reason"] for figure in FIGURES[:-1] if overall[figure]["reason"]):
        console.notice(reason)
    if overall["curve"] is not None and not overall["curve"]["rises"]:
        console.notice("the fitted curve falls: better scores go with worse opinions, which the fitted PLCC hides")


def _shown(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    interval = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['value']:.3f}{interval}"


def plot(
    answered: Sequence[tuple[Rated, float | None]], found: Agreement, critic: Critic, table: Path, opposite: bool
) -> Figure:
    """Opinions against scores."""
    from iqloop.critic.evaluation.scatter import opinions

    known = [(row, score) for row, score in answered if score is not None]
    return opinions(
        [score for _, score in known],
        [row.mos for row, _ in known],
        found,
        f"{critic.name} on {table.stem}",
        groups=[row.group for row, _ in known],
        opposite=opposite,
        score=f"score by {critic.name}" + (" (low is better)" if critic.lower_better else ""),
        opinion="mean opinion" + (" (low is better)" if opposite != critic.lower_better else ""),
    )


@click.command("score")
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["csv", "deqa", "r1-jsonl", "r1-text"]),
    help="How TABLE is written.  [default: found by its content]",
)
@click.option("--column", help="Column or key of the opinion.  [default: mos_1_5 or mos; gt_score_norm or gt_score]")
@click.option("--lower-better-labels", is_flag=True, help="In TABLE a low value is good (DMOS, CSIQ).")
@click.option("--scale", type=(float, float), metavar="LOW HIGH", help="Scale of TABLE, so that raw RMSE can be given.")
@click.option("--fold", type=click.IntRange(0), help="Take every fifth row from this one on, the first is 0.")
@click.option("--folds", type=click.IntRange(1), default=5, show_default=True, help="Distance of the rows of a fold.")
@click.option("--resamples", type=click.IntRange(0), default=1000, show_default=True, help="Of the bootstrap; 0: none.")
@evaluate_images.where
@evaluate_run.kept
@options.ask_critic(decoding=True)
@options.talk
def command(
    table: Path,
    layout: str | None,
    column: str | None,
    lower_better_labels: bool,
    scale: tuple[float, float] | None,
    fold: int | None,
    folds: int,
    resamples: int,
    images: Path | None,
    skip_missing: bool,
    out: Path | None,
    resume: bool,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure how far a critic's scores agree with people's.

    TABLE names images and their mean opinions: a CSV with the columns file and mos or mos_1_5 (and group), or the
    label files of DeQA-Score and VisualQuality-R1 as they are published.

    SRCC, KRCC, PLCC of the scores as they are and after a fitted logistic curve of four parameters, RMSE after the
    curve on TABLE's scale; each with its interval of 95 %, by a seeded bootstrap over the images that does not fit the
    curve again. Answers that cannot be read are counted, and are in no figure.
    """
    from iqloop.critic.labels import read_ratings
    from iqloop.errors import UsageError
    from iqloop.recipes.loading import load_critic

    if fold is not None and fold >= folds:
        raise UsageError(f"--fold must be less than --folds ({folds}), got {fold}")
    ratings = read_ratings(table, cast("Format | None", layout), column)
    rows = [row for i, row in enumerate(ratings.rows) if fold is None or i % folds == fold]
    if not rows:
        raise UsageError(f"{table} has {len(ratings.rows)} rows, none of them in fold {fold}")
    sources, missing = evaluate_images.found((row.image for row in rows), table, images, skip_missing)
    critic = load_critic(choice)
    config = {
        "measure": "score",
        "table": evaluate_run.digest(table),
        "format": ratings.format,
        "column": column,
        "images": None if images is None else str(images),
        "fold": fold,
        "folds": folds,
        "critic": evaluate_run.identity(critic),
        "dtype": choice.dtype,
        "critic_options": list(choice.more) or None,
    }
    run = evaluate_run.Run(out, config, resume)
    ask(sources, {row.image: row.mos for row in rows}, critic, run, choice.batch_size, console)
    answered = read_out(rows, run.finished)
    opposite = critic.lower_better != lower_better_labels
    same_scale = (scale or ratings.scale) == tuple(critic.score_range)
    overall, groups = figures(answered, opposite=opposite, same_scale=same_scale, resamples=resamples, seed=choice.seed)
    summary = {
        "critic": critic.name,
        "version": critic.version,
        "lower_better": critic.lower_better,
        "lower_better_labels": lower_better_labels,
        "fold": fold,
        "folds": folds,
        "rows": len(rows),
        "scored": overall.images,
        "unparsed": sum(score is None for _, score in answered),
        "missing": missing,
        "failed": len(sources) - sum(name in run.finished for name in sources),
        "bootstrap": {"over": "images", "resamples": resamples, "seed": choice.seed, "level": 0.95, "refit": False},
        "overall": as_fields(overall),
        "groups": {name: as_fields(found) for name, found in groups.items()},
    }
    drawn = {"scores": plot(answered, overall, critic, table, opposite)} if out and overall.images else {}
    run.finish(summary, drawn)
    console.fields(summary)
    tell(summary, console)
    return failures.SOME_FAILED if console.failed else failures.DONE
