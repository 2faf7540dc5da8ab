"""``iqloop bench rank``: how good the ways of ranking are, and what they cost, where the true order is known.

A photograph is distorted in one way at many severities; mildest is best. Every way ranks the same images: by score, by
knockout, Swiss and all pairs, and by scores with comparisons of near ties.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents.ranking import Ranking
    from iqloop.critic.protocol import Critic
    from iqloop.distort.image import Bytes

DISTORTIONS = ("blur_gaussian", "noise_gaussian_RGB", "compression_jpeg", "brightness_darken_gamma_RGB")
"""One function of each class that critics name."""
WAYS: dict[str, dict[str, Any]] = {
    "score": {"by": "score"},
    "knockout": {"by": "comparison", "top": 1},
    "swiss": {"by": "comparison"},
    "hybrid": {"by": "hybrid"},
    "all pairs": {"by": "comparison", "max_comparisons": 10**9},
}
"""Arguments of `iqloop.rank`."""


@dataclass(frozen=True)
class Row:
    """One way of ranking the images of one photograph and one distortion."""

    critic: str
    way: str
    """A key of `WAYS`."""
    photo: int
    """Of the photographs in order, from 0."""
    distortion: str
    images: int
    """How many were ranked."""
    tau_truth: float | None
    """Kendall's tau-b with the true order; None when all were ranked alike."""
    tau_all: float | None
    """With the order of all pairs by the same critic; None without comparisons."""
    best: bool
    """Whether the image ranked first is the mildest."""
    comparisons: int
    unparsed: int
    position_bias: float | None
    disagreements: float | None
    seconds: float


def severities(photograph: Bytes, distortion: str, count: int, seed: int) -> list[Tensor]:
    """The photograph ``(H, W, 3)`` at ``count`` severities from 1 to 5, evenly apart: ``(3, H, W)``, the mildest first.

    A severity that changes no pixel of the one before, as where a codec rounds its quality, is left out.

    Raises `iqloop.errors.UsageError` for a distortion that does not exist, or of which fewer than three are left.
    """
    import numpy as np

    from iqloop import distort
    from iqloop.agents import pixel_hash
    from iqloop.errors import UsageError
    from iqloop.io import read

    levels = np.linspace(1, 5, count)
    images = [read(distort.apply(photograph, distortion, float(level), seed=seed)).pixels for level in levels]
    distinct = list({pixel_hash(image): image for image in reversed(images)}.values())[::-1]
    if len(distinct) < 3:
        raise UsageError(f"{distortion}: {count} severities give {len(distinct)} different images: take another one")
    return distinct


def measure(images: Sequence[Tensor], critic: Critic, photo: int, distortion: str, seed: int) -> list[Row]:
    """Every way that the critic can, on images of which the first is the best."""
    from iqloop.agents import rank
    from iqloop.agents.ranking.matches import OnlyScores

    found: dict[str, tuple[Ranking, float]] = {}
    for way, arguments in WAYS.items():
        began = time.perf_counter()
        try:
            ranking = rank(images, critic, seed=seed, **arguments)
        except OnlyScores:
            continue
        if ranking.by == arguments["by"]:
            found[way] = ranking, time.perf_counter() - began
    truth = [float(-place) for place in range(len(images))]
    whole = _goodness(found["all pairs"][0]) if "all pairs" in found else None
    return [
        Row(
            critic.name,
            way,
            photo,
            distortion,
            len(images),
            _tau(_goodness(ranking), truth),
            None if whole is None else _tau(_goodness(ranking), whole),
            ranking.best == 0,
            ranking.comparisons,
            ranking.unparsed,
            ranking.position_bias,
            ranking.disagreements,
            seconds,
        )
        for way, (ranking, seconds) in found.items()
    ]


@click.command("rank")
@click.option("--photos", type=click.Path(path_type=Path), help="Folder.  [default: scikit-image's photographs]")
@click.option("--count", type=click.IntRange(1), metavar="N", help="The first N photographs only.")
@click.option("--side", type=click.IntRange(56), default=256, show_default=True, help="Of the middles, in pixels.")
@click.option("--images", type=click.IntRange(3), default=16, show_default=True, help="Severities of each distortion.")
@click.option(
    "--distortion", multiple=True, metavar="NAME", help=f"Commas, or repeat it.  [default: {', '.join(DISTORTIONS)}]"
)
@click.option(
    "--simulate",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    multiple=True,
    default=(0.95, 0.9),
    show_default=True,
    help="Also a simulated critic that orders this share of all pairs rightly; repeat it.",
)
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the page, and FILE.json."
)
@options.ask_critic()
@options.talk
def command(
    photos: Path | None,
    count: int | None,
    side: int,
    images: int,
    distortion: tuple[str, ...],
    simulate: tuple[float, ...],
    out: Path | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """How well a critic ranks, and by how many comparisons, where the true order is known.

    Photographs are distorted at many severities, mildest is best. Ranked by score, by a knockout, by Swiss rounds, by
    scores with comparisons of near ties (hybrid), and by comparing all pairs. A critic that compares by its two scores
    is ranked by score alone; simulated critics show what comparisons of a known accuracy are worth.
    """
    from iqloop.recipes.bench.critic import machine
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.rank.critic import SimulatedCritic
    from iqloop.recipes.bench.rank.page import page, summary
    from iqloop.recipes.bench.tools import check_outputs, middle, photographs
    from iqloop.recipes.loading import load_critic

    check_outputs(out, None)
    names = options.words(distortion) or DISTORTIONS
    readers = photographs(photos, count)
    critic = load_critic(choice)
    rows: list[Row] = []
    with console.progress(len(readers) * len(names) * (1 + len(simulate)), "ranking") as progress:
        for photo, name, pictures in _cases((middle(read(), side) for read in readers), names, images, choice.seed):
            draws = [SimulatedCritic(pictures, one, choice.seed) for one in simulate]
            for asked in (critic, *draws):
                rows += measure(pictures, asked, photo, name, choice.seed)
                progress.advance()
    for row in rows:
        console.fields(asdict(row))
    figures = summary(rows, choice.seed)
    source = "scikit-image" if photos is None else photos.resolve().name
    fewest = min(row.images for row in rows)
    equal = f" ({fewest} or more, where some are the same pixels)" if fewest < images else ""
    about = (
        f"{len(readers)} photographs of {source}, the middle {side} x {side}; {images} severities from 1 to 5{equal} "
        f"of {', '.join(names)}; seed {choice.seed}"
    )
    only = {way for way in WAYS if not any(row.way == way and row.critic == critic.name for row in rows)}
    notes = [f"{critic.name} has no comparisons but of its two scores, so it ranks by score."] if only else []
    words = _command_line(photos, count, side, images, distortion, simulate, choice)
    text = page(rows, figures, words, about, machine(("torch",)), notes)
    for line in text.splitlines():
        console.line(line)
    if out is not None:
        write_page(out, text, {"about": about, "figures": figures, "rows": [asdict(row) for row in rows]})
    return failures.DONE


def _cases(
    photographs: Iterable[Bytes], names: Sequence[str], count: int, seed: int
) -> Iterator[tuple[int, str, list[Tensor]]]:
    for photo, photograph in enumerate(photographs):
        for name in names:
            yield photo, name, severities(photograph, name, count, seed)


def _goodness(ranking: Ranking) -> list[float]:
    """Of each image of the input a number that is higher for the better; whoever has no rank comes last."""
    last = len(ranking.places)
    return [-float(place.rank or last) for place in sorted(ranking.places, key=lambda place: place.index)]


def _tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    import numpy as np

    from iqloop.critic.evaluation.correlation import kendall

    return kendall(np.array(a), np.array(b))


def _command_line(
    photos: Path | None,
    count: int | None,
    side: int,
    images: int,
    distortion: Sequence[str],
    simulate: Sequence[float],
    choice: options.CriticChoice,
) -> str:
    """The command that measures this; folders by their last name."""
    flags: list[tuple[str, object]] = [
        ("--photos", photos and photos.resolve().name),
        ("--count", count),
        ("--side", side),
        ("--images", images),
        ("--distortion", ",".join(distortion) or None),
        *(("--simulate", one) for one in simulate),
        ("--critic", Path(choice.name).name),
        ("--seed", choice.seed),
    ]
    words = [str(word) for name, value in flags if value is not None for word in (name, value)]
    return shlex.join(["iqloop", "bench", "rank", *words])
