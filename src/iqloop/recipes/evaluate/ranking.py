"""``iqloop evaluate ranking``: does a critic order two images as people do?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, inputs, options
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import images as evaluate_images
from iqloop.recipes.evaluate import run as evaluate_run
from iqloop.recipes.inputs import Input

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from iqloop.critic.evaluation.ranking import Pair
    from iqloop.critic.protocol import Critic
    from iqloop.critic.verdicts import Preference, Unparsed
    from iqloop.recipes.evaluate.run import Run

PAIRS_AT_ONCE = 16
"""Pairs that are asked about together: the critic encodes an image that stands in several once, and an interrupted run
loses no more answers than these."""


@dataclass(frozen=True)
class Duel:
    """Two images to be ordered."""

    key: str
    """What its answer is kept under."""
    a: Input
    b: Input
    reference: Input | None
    """Their degraded input, if it is shown to the critic."""
    truth: str
    """A, B or similar."""
    pair: Pair | None = None
    """The contestants, when they are of a scene."""

    @property
    def score_keys(self) -> tuple[str, str]:
        """What the scores of its two images are kept under."""
        return str(self.a.relative), str(self.b.relative)

    @property
    def shown(self) -> tuple[Input, ...]:
        """Every image of it."""
        return (self.a, self.b) if self.reference is None else (self.reference, self.a, self.b)


def labelled(
    table: Path, root: Path | None, references: Path | None, skip_missing: bool, lower_better: bool = False
) -> tuple[list[Duel], int]:
    """The pairs of a table of opinions or of a file of comparison labels, and how many images are missing.

    Args:
        table: any format of `iqloop.critic.labels` that has scenes, or comparison labels.
        root: the folder of its images; None for its own.
        references: folder of the scenes' degraded inputs, each called as its scene (any suffix); for tables of scenes.
        skip_missing: leave out pairs of which an image is missing.
        lower_better: direction of the opinions.

    Raises `UsageError`.
    """
    from iqloop.critic.evaluation.ranking import Contestant, method_in, pairs
    from iqloop.critic.labels import detect, read_comparisons, read_ratings
    from iqloop.errors import UsageError

    if detect(table) == "comparison":
        if references is not None:
            raise UsageError(f"{table} names the references itself: leave out --references")
        rows = read_comparisons(table)
        if len({row.reference is None for row in rows}) > 1:
            raise UsageError(f"{table}: expected a ref_image in every row or in none, got both")
        names = [name for row in rows for name in (row.reference, row.a, row.b) if name is not None]
        there, missing = evaluate_images.found(names, table, root, skip_missing)
        return [
            Duel(
                f"row {row.row}",
                there[row.a],
                there[row.b],
                None if row.reference is None else there[row.reference],
                row.result,
            )
            for row in rows
            if {row.a, row.b, row.reference or row.a} <= there.keys()
        ], missing
    rated = read_ratings(table).rows
    there, missing = evaluate_images.found((row.image for row in rated), table, root, skip_missing)
    contestants = []
    for row in rated:
        scene = row.scene or row.reference
        if scene is None:
            raise UsageError(
                f"{table}, row {row.row}: expected a scene for every image, in the column scene or as its reference"
            )
        if row.image in there:
            mos = -row.mos if lower_better else row.mos
            method = row.method or method_in(row.image)
            subset = row.subset or (None if method else "overall")
            contestants.append(Contestant(row.image, scene, method or row.image, mos, subset))
    degraded, lacking = _references(references, dict.fromkeys(one.scene for one in contestants), skip_missing)
    return [
        Duel(
            f"{pair.a.key} | {pair.b.key}",
            there[pair.a.key],
            there[pair.b.key],
            degraded.get(pair.a.scene),
            pair.truth,
            pair,
        )
        for pair in pairs(contestants)
        if references is None or pair.a.scene in degraded
    ], missing + lacking


def _references(folder: Path | None, scenes: Iterable[str], skip_missing: bool) -> tuple[dict[str, Input], int]:
    from iqloop.errors import UsageError

    if folder is None:
        return {}, 0
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of degraded images, each called as its scene")
    by_stem = {path.stem: path for path in sorted(folder.iterdir()) if path.is_file()}
    there: dict[str, Input] = {}
    missing = 0
    for scene in scenes:
        path = by_stem.get(scene) or by_stem.get(Path(scene).stem)
        if path is not None:
            there[scene] = Input(str(path), path, Path(path.name), folder)
        elif skip_missing:
            missing += 1
        else:
            raise UsageError(
                f"{folder} has no image called {scene}: add it, or leave the scene out with --skip-missing"
            )
    return there, missing


def score(duels: Sequence[Duel], critic: Critic, run: Run, batch_size: int, console: Console) -> None:
    """Score each image that has no score yet, and keep it (None when the answer could not be read)."""
    from iqloop.critic.verdicts import Rating

    distinct = {str(source.relative): source for duel in duels for source in (duel.a, duel.b)}
    waiting = [source for name, source in distinct.items() if name not in run.finished]
    with console.progress(len(waiting), "scoring") as progress:
        for source, verdict in inputs.ask_in_batches(waiting, critic.score, batch_size, console):
            progress.advance()
            if isinstance(verdict, Exception):
                console.fail(source.shown, verdict)
            elif isinstance(verdict, Rating):
                run.keep(str(source.relative), mean=verdict.mean, std=verdict.std, raw=verdict.raw)
            else:
                run.keep(str(source.relative), mean=None, std=None, raw=verdict.raw, reason=verdict.reason)


def compare(duels: Sequence[Duel], critic: Critic, run: Run, console: Console) -> None:
    """Ask about each pair that has no answer yet, and keep the answer."""
    from iqloop.critic.verdicts import Preference

    waiting = [duel for duel in duels if duel.key not in run.finished]
    with console.progress(len(waiting), "comparing") as progress:
        for duel, verdict in _compare_in_batches(waiting, critic):
            progress.advance()
            if isinstance(verdict, Exception):
                console.fail(f"{duel.a.shown}, {duel.b.shown}", verdict)
                continue
            if isinstance(verdict, Preference):
                found = {"said": verdict.choice, "probability": verdict.probability, "method": verdict.method}
                run.keep(duel.key, **found, position_bias=verdict.position_bias, raw=list(verdict.raw))
            else:
                run.keep(duel.key, said="unparsed", raw=[verdict.raw], reason=verdict.reason)


def _compare_in_batches(
    duels: Iterable[Duel], critic: Critic
) -> Iterator[tuple[Duel, Preference | Unparsed | Exception]]:
    """The answers in order. Only a batch's images are in memory; each is read once for all its pairs there."""
    batch: list[Duel] = []
    images: dict[str, Tensor] = {}
    for duel in duels:
        try:
            for source in duel.shown:
                if source.shown not in images:
                    images[source.shown] = source.read().pixels
        except Exception as error:
            yield from _compare(batch, images, critic)
            batch, images = [], {}
            yield duel, error
            continue
        batch.append(duel)
        megapixels = sum(image.shape[-2] * image.shape[-1] for image in images.values()) / 1e6
        if len(batch) >= PAIRS_AT_ONCE or megapixels >= inputs.CALL_MEGAPIXELS:
            yield from _compare(batch, images, critic)
            batch, images = [], {}
    yield from _compare(batch, images, critic)


def _compare(
    batch: Sequence[Duel], images: Mapping[str, Tensor], critic: Critic
) -> Iterator[tuple[Duel, Preference | Unparsed | Exception]]:
    """The answers of one batch; if it fails its pairs are asked about one by one, so that only the culprit is lost."""
    from iqloop.errors import PrerequisiteError

    if not batch:
        return
    a = [images[duel.a.shown] for duel in batch]
    b = [images[duel.b.shown] for duel in batch]
    references = [images[duel.reference.shown] for duel in batch if duel.reference is not None]
    try:
        verdicts = critic.compare(a, b, references or None)
    except PrerequisiteError:
        raise
    except Exception as error:
        if len(batch) == 1:
            yield batch[0], error
        else:
            for duel in batch:
                yield from _compare([duel], images, critic)
        return
    yield from zip(batch, verdicts, strict=True)


def answers(
    duels: Iterable[Duel], kept: Mapping[str, Mapping[str, Any]], by: str, delta: float, lower_better: bool
) -> Iterator[tuple[Duel, str, str | None, float | None]]:
    """Of each pair that was answered: what was said, by which method, and the position bias.

    Args:
        duels: all pairs.
        kept: the answers by key: those of the pair, or the scores of its two images.
        by: ``"score"`` for the difference of two scores, ``"comparison"`` for a preference.
        delta: scores that differ by no more are a tie.
        lower_better: direction of the scores.
    """
    from iqloop.critic.evaluation.ranking import UNPARSED, by_scores
    from iqloop.critic.thurstone import prefer
    from iqloop.critic.verdicts import Rating

    for duel in duels:
        if duel.key in kept:
            answer = kept[duel.key]
            yield duel, answer["said"], answer.get("method"), answer.get("position_bias")
            continue
        if not set(duel.score_keys) <= kept.keys():
            continue
        a, b = (kept[key] for key in duel.score_keys)
        if a["mean"] is None or b["mean"] is None:
            yield duel, UNPARSED, None, None
        elif by == "score":
            yield duel, by_scores(a["mean"], b["mean"], delta, lower_better), None, None
        else:
            found = prefer(Rating(a["mean"], a["std"]), Rating(b["mean"], b["std"]), lower_better)
            yield duel, found.choice, found.method, None


def figures(judged: Sequence[tuple[Duel, str, str | None, float | None]]) -> dict[str, Any]:
    """The figures of `answers`: of scenes by subset, of other pairs by label; how comparisons came about."""
    from iqloop.critic.evaluation import ranking

    found: dict[str, Any] = {}
    scenes = [(duel.pair, said) for duel, said, _, _ in judged if duel.pair is not None]
    if scenes:
        found["subsets"] = {name: asdict(one) for name, one in ranking.subsets(scenes).items() if one.pairs}
    labelled = [(duel.truth, said) for duel, said, _, _ in judged if duel.pair is None]
    if labelled:
        found["comparison"] = asdict(ranking.agreement(labelled))
    manners = [(method, bias) for _, _, method, bias in judged if method is not None]
    return {**found, **asdict(ranking.manner(manners))} if manners else found


def plots(summary: Mapping[str, Any], critic: str) -> dict[str, Figure]:
    """The scenes' accuracies, or the confusion of labels, by file name."""
    from iqloop.critic.evaluation import charts

    drawn: dict[str, Figure] = {}
    if "subsets" in summary:
        values = {name: list(one["by_scene"].values()) for name, one in summary["subsets"].items()}
        drawn["scenes"] = charts.scene_accuracies(values, f"{critic}: pairs in order, by {summary['by']}")
    if "comparison" in summary:
        title = f"{critic}: which image is better, by {summary['by']}"
        drawn["confusion"] = charts.confusion(summary["comparison"]["confusion"], title, "people", "critic")
    return drawn


def tell(summary: Mapping[str, Any], console: Console) -> None:
    """The figures for people."""
    for name, one in summary.get("subsets", {}).items():
        text = f"{name}: {one['accuracy']:.3f} of {one['pairs']} pairs, mean of scenes {one['scene_mean']:.3f}"
        console.line(f"{text} ({one['ties']} ties of opinion), unparsed {one['unparsed']}")
    if "comparison" in summary:
        one = summary["comparison"]
        rows = " ".join(f"{truth} {value:.3f}" for truth, value in one["by_truth"].items())
        console.line(f"comparison: {one['accuracy']:.3f} of {one['pairs']} pairs ({rows}), unparsed {one['unparsed']}")
    if summary.get("position_bias") is not None:
        console.line(f"position bias {summary['position_bias']:+.3f} (mean of {summary['position_bias_pairs']} pairs)")
    if summary.get("thurstone"):
        console.line(f"by two scores instead of a comparison: {summary['thurstone']:.1%} of the preferences")


@click.command("ranking")
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["score", "comparison"]),
    help="Order by two scores, or ask which is better.  [default: score; comparison for comparison labels]",
)
@click.option(
    "--delta",
    type=click.FloatRange(0),
    default=0.1,
    show_default=True,
    help="Scores that differ by no more are a tie, in the critic's units.",
)
@click.option(
    "--references",
    type=click.Path(path_type=Path),
    help="Folder of degraded inputs to be shown beside the pairs, each called as its scene.",
)
@click.option("--lower-better-labels", is_flag=True, help="In TABLE a low value is good (DMOS).")
@evaluate_images.where
@evaluate_run.kept
@options.ask_critic(decoding=True)
@options.talk
def command(
    table: Path,
    by: str | None,
    delta: float,
    references: Path | None,
    lower_better_labels: bool,
    images: Path | None,
    skip_missing: bool,
    out: Path | None,
    resume: bool,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure whether a critic orders two images as people do.

    TABLE has the columns file, mos, scene and method: every pair inside a scene is ordered, by SRIQA-Bench's rules, on
    regression methods (SwinIR, RealESRNet or RRDB), on all others, and overall; the method Original is part of each.
    Without these columns the reference is the scene, the image's path names the method, and a column subset decides.
    Or TABLE is a JSON list with the keys ref_image, ImageA, ImageB and result, as in Q-Insight's comparison task.

    A critic that cannot compare is asked for two scores instead. Answers that cannot be read are wrong.
    """
    from iqloop.errors import UsageError
    from iqloop.recipes.loading import load_critic

    duels, missing = labelled(table, images, references, skip_missing, lower_better_labels)
    if not duels:
        raise UsageError(f"{table}: no pair is complete, {missing} images are missing")
    by = by or ("comparison" if duels[0].pair is None else "score")
    if by == "score" and references is not None:
        raise UsageError("references are shown to comparisons only: add --by comparison, or leave out --references")
    critic = load_critic(choice)
    asks = "comparison" if by == "comparison" and "compare" in critic.capabilities else "score"
    config = {
        "measure": "ranking",
        "table": evaluate_run.digest(table),
        "images": None if images is None else str(images),
        "asks": asks,
        "references": None if references is None else str(references),
    }
    run = evaluate_run.Run(out, {**config, "critic": evaluate_run.identity(critic)}, resume)
    if asks == "comparison":
        compare(duels, critic, run, console)
    else:
        score(duels, critic, run, choice.batch_size, console)
    judged = list(answers(duels, run.finished, by, delta, critic.lower_better))
    summary = {
        "critic": critic.name,
        "version": critic.version,
        "by": by,
        **({"delta": delta} if by == "score" else {}),
        "missing": missing,
        "failed": len(duels) - len(judged),
        **figures(judged),
    }
    run.finish(summary, plots(summary, critic.name) if out is not None else None)
    console.fields(summary)
    tell(summary, console)
    return failures.SOME_FAILED if console.failed else failures.DONE
