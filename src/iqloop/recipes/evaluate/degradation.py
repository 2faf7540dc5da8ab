"""``iqloop evaluate degradation``: does a critic name distortions that are known, and do its scores fall with them?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, inputs, options
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import images as evaluate_images
from iqloop.recipes.evaluate import run as evaluate_run
from iqloop.recipes.inputs import Input

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from iqloop.critic.evaluation.perception import Case, Mixture, Rung
    from iqloop.critic.verdicts import Degradation, Rating, Unparsed
    from iqloop.io import Photo
    from iqloop.recipes.evaluate.run import Run

LADDERS = "ladders"
LABELS = "labels"
MIXTURES = "mixtures"


@dataclass(frozen=True)
class Question(Input):
    """An image to ask about, with what is known of it."""

    part: str
    """What the answer counts for: a protocol's name, `LABELS`, `MIXTURES` or `LADDERS`."""
    key: str
    """What its answer is kept under."""
    truth: Mapping[str, Any]
    """Kept beside the answer."""
    made: Case | Mixture | Rung | None = None
    """Makes the image; None for a file."""

    def read(self) -> Photo:
        """The image; raises `iqloop.errors.ImageReadError`."""
        if self.made is None:
            return super().read()
        from iqloop.io import read

        return read(self.made.image)


class Photographs:
    """The images of a folder in the order of their names, each decoded when it is taken: ``(H, W, 3)`` uint8 RGB.

    ``small`` holds all of them at the short side of DQ-495K. Raises `UsageError` for a folder without images.
    """

    def __init__(self, folder: Path) -> None:
        from iqloop import distort
        from iqloop.critic.evaluation.perception import SHORT_SIDE
        from iqloop.critic.training.crops import decode
        from iqloop.errors import UsageError

        if not folder.is_dir():
            raise UsageError(f"{folder}: expected a folder of clean photographs")
        self._paths: list[Path] = []
        self.small: list[NDArray[np.uint8]] = []
        for path in sorted(folder.iterdir()):
            image = decode(path) if path.is_file() else None
            if image is not None:
                self._paths.append(path)
                self.small.append(distort.short_side(image, SHORT_SIDE))
        if not self._paths:
            raise UsageError(f"no images in {folder}: expected a folder of photographs")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        from iqloop.critic.training.crops import decode

        image = decode(self._paths[index])
        if image is None:
            raise OSError(f"{self._paths[index]}: cannot be read any more")
        return image


def synthetic(photographs: Photographs, count: int, seed: int, native: int) -> Iterator[Question]:
    """Distorted photographs: ``count`` of short side 224, and as many native crops of side ``native`` (0: none)."""
    from iqloop.critic.evaluation.perception import SHORT_SIDE, cases

    protocols = [(f"short_side_{SHORT_SIDE}", cases(photographs.small, count, seed))]
    if native:
        protocols.append((f"native_{native}", cases(photographs, count, seed, native)))
    for part, made in protocols:
        for i, case in enumerate(made):
            truth = {"truth": list(case.truth), "function": case.function}
            yield _made(part, f"{part}/{i:05d}", truth, case)


def mixtures(photographs: Photographs, count: int, seed: int) -> Iterator[Question]:
    """``count`` photographs of short side 224 with two or three distortions of different classes; 0 gives none."""
    from iqloop.critic.evaluation import perception
    from iqloop.critic.verdicts import SEVERITIES

    for i, mixture in enumerate(perception.mixtures(photographs.small, count, seed)):
        truth = {
            "truth": list(mixture.present),
            "functions": [step.name for step in mixture.distortions],
            "severities": [SEVERITIES[int(step.severity) - 1] for step in mixture.distortions],
        }
        yield _made(MIXTURES, f"{MIXTURES}/{i:05d}", truth, mixture)


def rungs(photographs: Photographs) -> Iterator[Question]:
    """The photographs at every severity of every ladder."""
    from iqloop.critic.evaluation import perception

    for rung in perception.rungs(photographs.small):
        key = f"{LADDERS}/{rung.distortion_class}/{rung.severity}/{rung.photograph:05d}"
        truth = {"truth": [rung.distortion_class, rung.severity]}
        yield _made(LADDERS, key, truth, rung)


def _made(part: str, key: str, truth: Mapping[str, Any], made: Case | Mixture | Rung) -> Question:
    return Question(key, None, Path(key), None, part, key, truth, made)


def labelled(table: Path, root: Path | None, skip_missing: bool) -> tuple[list[Question], int]:
    """The images of a file of degradation labels, and how many are missing. Raises `UsageError`."""
    from iqloop.critic.labels import read_degradations

    rows = read_degradations(table)
    there, missing = evaluate_images.found((row.image for row in rows), table, root, skip_missing)
    questions = []
    for row in rows:
        if row.image in there:
            source = there[row.image]
            truth = {"image": row.image, "truth": [row.distortion_class, row.severity]}
            key = f"{LABELS}/{row.row}"
            questions.append(Question(source.shown, source.path, source.relative, source.root, LABELS, key, truth))
    return questions, missing


def ask(
    questions: Iterable[Question],
    put: Callable[[list[Tensor]], Sequence[Degradation | Rating | Unparsed]],
    run: Run,
    batch_size: int,
    console: Console,
) -> list[str]:
    """Ask about each image that has no answer yet, and keep the answers; the keys of all questions."""
    keys: list[str] = []

    def waiting() -> Iterator[Question]:
        for question in questions:
            keys.append(question.key)
            if question.key not in run.finished:
                yield question
            if not len(keys) % 100:
                console.detail(f"{question.part}: {len(keys)} questions")

    for source, verdict in inputs.ask_in_batches(waiting(), put, batch_size, console):
        assert isinstance(source, Question)
        if isinstance(verdict, Exception):
            console.fail(source.shown, verdict)
        else:
            run.keep(source.key, part=source.part, **source.truth, **answer(verdict))
    return keys


def answer(verdict: Degradation | Rating | Unparsed) -> dict[str, Any]:
    """What is kept of a verdict: the class and severity that were ``said``, or the ``score``; None for unparsed."""
    from iqloop.critic.verdicts import Degradation, Rating

    if isinstance(verdict, Degradation):
        return {"said": [verdict.distortion_class, verdict.severity], "raw": verdict.raw}
    if isinstance(verdict, Rating):
        return {"score": verdict.mean, "raw": verdict.raw}
    return {"said": None, "score": None, "raw": verdict.raw, "reason": verdict.reason}


def figures(answers: Iterable[Mapping[str, Any]], lower_better: bool = False) -> dict[str, Any]:
    """The figures of kept answers: per protocol, of the mixtures, and of the ladders."""
    from iqloop.critic.evaluation import perception

    unread = (perception.UNPARSED, perception.UNPARSED)
    pairs: dict[str, list[tuple[perception.Label, perception.Label]]] = {}
    mixed: list[tuple[Sequence[str], str]] = []
    scores: dict[tuple[str, int], list[float]] = {}
    unparsed = 0
    for kept in answers:
        if kept["part"] == MIXTURES:
            mixed.append((kept["truth"], (kept["said"] or unread)[0]))
            continue
        kind, severity = kept["truth"]
        if kept["part"] != LADDERS:
            pairs.setdefault(kept["part"], []).append(((kind, severity), tuple(kept["said"] or unread)))
        elif kept["score"] is None:
            unparsed += 1
        else:
            scores.setdefault((kind, severity), []).append(kept["score"])
    found: dict[str, Any] = {part: asdict(perception.figures(rows)) for part, rows in pairs.items()}
    if mixed:
        found[MIXTURES] = asdict(perception.mixed(mixed))
    if scores or unparsed:
        found["ladders"] = perception.ladders(scores)
        found["ladders_fall"] = {
            kind: perception.falls(ladder, lower_better) for kind, ladder in found["ladders"].items()
        }
        found["ladders_unparsed"] = unparsed
    return found


def plots(summary: Mapping[str, Any], critic: str) -> dict[str, Figure]:
    """Confusion of each protocol, and the ladders, by file name."""
    from iqloop.critic.evaluation import charts

    drawn: dict[str, Figure] = {}
    for part, found in _protocols(summary):
        where = part.replace("_", " ")
        drawn[f"confusion_{part}"] = charts.confusion(found["confusion"], f"{critic}: classes, {where}")
    if "ladders" in summary:
        drawn["ladders"] = charts.ladders(summary["ladders"], f"{critic}: scores of distorted photographs")
    return drawn


def _protocols(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, part) for name, part in summary.items() if isinstance(part, dict) and "class_accuracy" in part]


def tell(summary: Mapping[str, Any], console: Console) -> None:
    """The figures for people."""
    for part, found in _protocols(summary):
        rows = " ".join(f"{kind} {value:.3f}" for kind, value in found["by_class"].items())
        text = f"{part}: class {_shown(found['class_accuracy'], 3)}, level {_shown(found['level_accuracy'], 3)}"
        console.line(f"{text} ({rows}), unparsed {found['unparsed']:.3f}")
    if MIXTURES in summary:
        found = summary[MIXTURES]
        folds = f"two {_shown(found['two'], 3)} three {_shown(found['three'], 3)}"
        text = f"{MIXTURES}: any present class {_shown(found['accuracy'], 3)} ({folds})"
        console.line(f"{text}, null {found['null']:.3f}, unparsed {found['unparsed']:.3f}")
    for kind, row in summary.get("ladders", {}).items():
        console.line(f"score of {kind} at severity 0 to 5: " + " ".join(_shown(value, 2) for value in row))


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@click.command("degradation")
@click.argument("labels", required=False, type=click.Path(path_type=Path))
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of clean photographs, to be distorted.")
@click.option("--count", type=click.IntRange(20), default=1000, show_default=True, help="Distorted images a protocol.")
@click.option("--native", type=click.IntRange(0), default=512, show_default=True, help="Side of native crops; 0: none.")
@click.option(
    "--mixtures",
    "mixed",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Images with two or three distortions; 0: none.",
)
@click.option(
    "--ladders/--no-ladders", "climb", default=True, show_default=True, help="Score the photographs at each severity."
)
@evaluate_images.where
@evaluate_run.kept
@options.ask_critic(decoding=True)
@options.talk
def command(
    labels: Path | None,
    photos: Path | None,
    count: int,
    native: int,
    mixed: int,
    climb: bool,
    images: Path | None,
    skip_missing: bool,
    out: Path | None,
    resume: bool,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Measure whether a critic names what is wrong with images, and how much.

    Either clean photographs are distorted here (--photos), or LABELS is a JSON list with the keys image,
    distortion_class and severity.

    Perception follows Q-Insight's protocol as published: class and level accuracy as macro means, on images of short
    side 224; beside it the same on native crops. An answer that cannot be read is wrong. On mixtures of distortions
    any class that is present counts as right. The ladders are mean scores of the photographs at each severity of one
    function of each class.
    """
    from iqloop.errors import UsageError
    from iqloop.recipes.loading import load_critic

    if (labels is None) == (photos is None):
        raise UsageError("expected --photos FOLDER or a file of LABELS, one of the two")
    if labels is None and images is not None:
        raise UsageError("--images goes with a file of LABELS; the photographs are those of --photos")
    config: dict[str, Any] = {"measure": "degradation"}
    facts: dict[str, Any] = {}
    questions: Iterable[Question]
    climbing: Iterable[Question] = ()
    if photos is not None:
        clean = Photographs(photos)
        config |= {"photos": str(photos), "photographs": len(clean), "count": count, "native": native, "ladders": climb}
        config |= {"mixtures": mixed, "seed": choice.seed}
        facts = {"seed": choice.seed, "photographs": len(clean)}
        questions = chain(synthetic(clean, count, choice.seed, native), mixtures(clean, mixed, choice.seed))
        climbing = rungs(clean) if climb else ()
    else:
        assert labels is not None
        config |= {"labels": evaluate_run.digest(labels), "images": None if images is None else str(images)}
        questions, missing = labelled(labels, images, skip_missing)
        facts = {"missing": missing}
    critic = load_critic(choice, needs=("perceive", "score") if climbing else ("perceive",))
    run = evaluate_run.Run(out, {**config, "critic": evaluate_run.identity(critic)}, resume)
    keys = ask(questions, critic.perceive, run, choice.batch_size, console)
    keys += ask(climbing, critic.score, run, choice.batch_size, console)
    kept = [run.finished[key] for key in keys if key in run.finished]
    summary = {
        "critic": critic.name,
        "version": critic.version,
        **facts,
        "failed": len(keys) - len(kept),
        **figures(kept, critic.lower_better),
    }
    run.finish(summary, plots(summary, critic.name) if out is not None else None)
    console.fields(summary)
    tell(summary, console)
    return failures.SOME_FAILED if console.failed else failures.DONE
