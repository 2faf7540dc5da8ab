"""``iqloop bench rerank``: what best-of-N by a critic is worth, and what it costs to leave candidates halfway.

Every photograph's middle, or several parts of it, is shrunk, and enlarged again N times by a pipeline, from N seeds,
each finished and each looked at halfway. So every way to choose is judged on the same candidates: the first, the mean,
the critic's best of all, the critic's best of those that a look halfway leaves, and the nearest in hindsight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.critic.evaluation.correlation import Estimate
    from iqloop.critic.protocol import Critic
    from iqloop.distort.image import Bytes

PRUNES = (0.25, 0.5, 0.75)
"""Shares that are left halfway."""
LEGEND = (
    "first: the first seed; average: what a single draw gives; best of N: the critic's; half left: "
    "the critic's best of those that it keeps after a look halfway; nearest: the greatest PSNR, in hindsight. "
    "Critics' scores are turned so that more is better. Brackets: intervals of 95 %, bootstrap over photographs."
)


@dataclass(frozen=True)
class Drawn:
    """One candidate of one crop."""

    photo: str
    crop: int
    """Which part of it: 0 is the middle, then the corners."""
    seed: int
    halfway: float
    """The critic's score of what it was to become, after half of the steps; more is better."""
    score: float
    """The critic's, of what it became; more is better."""
    held_out: dict[str, float]
    """Of other critics that chose nothing, by the names that they were asked for by; more is better."""
    psnr: float
    ssim: float
    seconds: float


@click.command("rerank")
@click.option("--pipeline", default="ldm-mini-x2", show_default=True, metavar="NAME_OR_PATH", help="What enlarges.")
@options.clean_photos
@click.option("--count", type=click.IntRange(1), metavar="N", help="The first N photographs only.")
@click.option("--side", type=click.IntRange(64), default=256, show_default=True, help="Of the crops, in pixels.")
@click.option(
    "--crops", type=click.IntRange(1, 5), default=1, show_default=True, help="The middle, then one from each corner."
)
@click.option("-n", "--candidates", type=click.IntRange(2), default=8, show_default=True, help="For each crop.")
@click.option("--steps", type=click.IntRange(2), default=10, show_default=True, help="Of each candidate.")
@click.option(
    "--held-out",
    default=("nss-mini",),
    show_default=True,
    multiple=True,
    metavar="NAME|FOLDER",
    help="A critic that chooses nothing. Repeatable.",
)
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the page here.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: as many as cores]")
@options.ask_critic()
@options.talk
def command(
    pipeline: str,
    photos: Path | None,
    count: int | None,
    side: int,
    crops: int,
    candidates: int,
    steps: int,
    held_out: tuple[str, ...],
    out: Path | None,
    threads: int | None,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """What choosing among N candidates gains, by a critic and by one that chose nothing; what looking halfway saves.

    With -o: the page, and beside it FILE.json with every candidate.
    """
    from dataclasses import replace

    from iqloop.recipes.bench.critic import machine
    from iqloop.recipes.bench.measured import write_page
    from iqloop.recipes.bench.tools import check_outputs, photographs, use_threads
    from iqloop.recipes.loading import load_critic
    from iqloop.restorers.diffusion.opening import EMBEDDED, open_pipeline, version_of

    check_outputs(out, None)
    if len({Path(name).name for name in held_out}) < len(held_out):
        raise UsageError("each --held-out needs a name of its own, or the table could not tell them apart")
    if threads is not None:
        use_threads(threads)
    critic = load_critic(choice)
    judges = {Path(name).name: load_critic(replace(choice, name=name, more=())) for name in held_out}
    opened = open_pipeline(pipeline)
    rows: list[Drawn] = []
    readers = photographs(photos, count)
    with console.progress(len(readers) * crops * candidates, "making") as progress:
        for i, read in enumerate(readers):
            for crop, clean in enumerate(parts(read(), side, crops)):
                rows += draw(
                    opened,
                    clean,
                    (f"photograph {i}", crop),
                    candidates,
                    steps,
                    critic,
                    judges,
                    pipeline in EMBEDDED,
                    progress.advance,
                )
    others = " ".join(f"--held-out {name}" for name in held_out)
    given = f"--crops {crops} --candidates {candidates} --side {side} --steps {steps} {others}"
    source = photos.name if photos else "scikit-image"
    where = f"{crops} crops of {side} px of each" if crops > 1 else f"middles of {side} px"
    about = (
        f"```sh\niqloop bench rerank --photos {'FOLDER' if photos else source} {given}\n```\n\n"
        f"{len(readers)} photographs of {source}, {where}, shrunk by 2 (bicubic); "
        f"{pipeline} {version_of(pipeline, opened)}; critic {critic.name} {critic.version}; "
        f"held out {', '.join(f'{name} {judge.version}' for name, judge in judges.items())}\n\n"
        f"{machine(('torch', 'diffusers'))}\n\n{LEGEND}"
    )
    page = f"{about}\n\n{table(rows, choice.seed)}\n\n{pruning(rows)}\n"
    for row in rows:
        console.fields(asdict(row))
    for line in page.splitlines():
        console.line(line)
    if out is not None:
        write_page(out, page, [asdict(row) for row in rows])
    return failures.DONE


def parts(image: Bytes, side: int, count: int) -> list[Bytes]:
    """The middle ``side`` x ``side`` pixels of ``(H, W, 3)``, then those in its corners; all if it is smaller."""
    import numpy as np

    from iqloop.recipes.bench.tools import middle

    down, across = (max(0, length - side) for length in image.shape[:2])
    corners = [(0, 0), (down, across), (0, across), (down, 0)][: count - 1]
    return [middle(image, side), *(np.ascontiguousarray(image[y : y + side, x : x + side]) for y, x in corners)]


def draw(
    pipeline: Any,
    clean: Bytes,
    name: tuple[str, int],
    count: int,
    steps: int,
    critic: Critic,
    judges: Mapping[str, Critic],
    keep_colours: bool = False,
    done: Callable[[], object] = lambda: None,
) -> list[Drawn]:
    """All candidates of one crop ``(H, W, 3)`` uint8, named by photograph and crop."""
    import time

    import numpy as np
    import torch

    from iqloop import distort
    from iqloop.restorers.diffusion.generate import PipelineGenerator, Request
    from iqloop.restorers.full_reference import psnr, ssim

    scale = 2 ** (len(pipeline.vqvae.config.block_out_channels) - 1)
    height, width = (length // scale * scale for length in clean.shape[:2])
    clean = np.ascontiguousarray(clean[:height, :width])
    small = torch.from_numpy(distort.downsample(clean, scale, "bicubic").copy()).permute(2, 0, 1).float() / 255
    generator = PipelineGenerator(pipeline, Request(image=small, steps=steps, keep_colours=keep_colours))
    shown: list[Tensor] = []
    images: list[Tensor] = []
    seconds: list[float] = []
    for seed in range(count):
        began = time.monotonic()
        run = generator.begin(seed)
        preview = run.preview()
        image = (run.finish() * 255).round() / 255
        seconds.append(time.monotonic() - began)
        shown.append(image if preview is None else preview)
        images.append(image)
        done()
    halfway, scores = oriented(critic, shown), oriented(critic, images)
    others = {name: oriented(judge, images) for name, judge in judges.items()}
    rows = []
    for seed, image in enumerate(images):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        near = (psnr(pixels, clean), ssim(pixels, clean))
        held_out = {name: found[seed] for name, found in others.items()}
        rows.append(Drawn(*name, seed, halfway[seed], scores[seed], held_out, *near, seconds[seed]))
    return rows


def oriented(critic: Critic, images: Sequence[Tensor]) -> list[float]:
    """Scores turned so that more is better. Raises `CriticError` for an answer that cannot be read."""
    from iqloop.critic.verdicts import Unparsed
    from iqloop.errors import CriticError

    found = []
    for rating in critic.score(images):
        if isinstance(rating, Unparsed):
            raise CriticError(f"{critic.name} gave no score: {rating.reason}")
        found.append(-rating.mean if critic.lower_better else rating.mean)
    return found


def kept(rows: Sequence[Drawn], prune: float) -> Drawn:
    """The critic's best of one crop's candidates when a share is left halfway."""
    order = sorted(rows, key=lambda row: (row.halfway, -row.seed))
    left = min(len(rows) - 1, int(prune * len(rows)))
    return max(order[left:], key=lambda row: (row.score, -row.seed))


def table(rows: Sequence[Drawn], seed: int = 0) -> str:
    """Every way to choose, in Markdown: what is chosen, and how much better it is than what it is held against."""
    groups = by_crop(rows)
    chosen = {
        "first": [group[0] for group in groups],
        "best of N": [kept(group, 0) for group in groups],
        "half left": [kept(group, 0.5) for group in groups],
        "nearest": [max(group, key=lambda row: row.psnr) for group in groups],
    }
    judges = list(rows[0].held_out)
    columns = ["score", *judges, "psnr", "ssim"]
    lines = [f"| chosen | critic | {' | '.join(judges)} | PSNR | SSIM |", "|---" * (len(columns) + 1) + "|"]
    means = [sum(mean(group, name) for group in groups) / len(groups) for name in columns]
    lines.append(f"| average | {' | '.join(f'{value:.3f}' for value in means)} |")
    for name, picked in chosen.items():
        lines.append(f"| {name} | {' | '.join(f'{mean(picked, column):.3f}' for column in columns)} |")
    lines += ["", f"| change | {' | '.join(judges)} | PSNR | SSIM |", "|---" * len(columns) + "|"]
    pairs = [(name, "average") for name in chosen] + [("best of N", "first"), ("half left", "first")]
    for name, other in pairs:
        cells = []
        for column in columns[1:]:
            worth = [of(row, column) for row in chosen[name]]
            against = [mean(group, column) for group in groups]
            if other != "average":
                against = [of(row, column) for row in chosen[other]]
            gains = [(group[0].photo, a - b) for group, a, b in zip(groups, worth, against, strict=True)]
            cells.append(interval(gains, seed))
        lines.append(f"| {name}, against the {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


def of(row: Drawn, column: str) -> float:
    """A figure, or a held-out critic's score by its name."""
    return row.held_out[column] if column in row.held_out else float(getattr(row, column))


def pruning(rows: Sequence[Drawn]) -> str:
    """What a look halfway costs and saves."""
    groups = by_crop(rows)
    lines = ["| left halfway | work | best of N kept | critic's score lost |", "|---|---|---|---|"]
    for share in PRUNES:
        found = [(kept(group, share), kept(group, 0)) for group in groups]
        left = [int(share * len(group)) / len(group) for group in groups]
        same = sum(one == best for one, best in found) / len(found)
        lost = sum(best.score - one.score for one, best in found) / len(found)
        lines.append(f"| {share:.0%} | {1 - sum(left) / len(left) / 2:.0%} | {same:.0%} | {lost:.3f} |")
    spent = sum(row.seconds for row in rows) / len(rows)
    return "\n".join([*lines, "", f"A candidate takes {spent:.2f} s."])


def by_crop(rows: Sequence[Drawn]) -> list[list[Drawn]]:
    """The candidates of each crop."""
    groups: dict[tuple[str, int], list[Drawn]] = {}
    for row in rows:
        groups.setdefault((row.photo, row.crop), []).append(row)
    return list(groups.values())


def mean(rows: Sequence[Drawn], column: str) -> float:
    """Of one figure, or of a held-out critic's scores."""
    return sum(of(row, column) for row in rows) / len(rows)


def interval(values: Sequence[tuple[str, float]], seed: int) -> str:
    """A mean with its interval, of values that belong to photographs."""
    from iqloop.critic.evaluation.bootstrap import ratio

    of_photo: dict[str, list[float]] = {}
    for photo, value in values:
        of_photo.setdefault(photo, []).append(value)
    found: Estimate = ratio(
        [sum(some) for some in of_photo.values()], [len(some) for some in of_photo.values()], seed=seed
    )
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
