"""What came of ``iqloop rerank``, for a terminal, as the lines of ``--json``, and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from iqloop.recipes.console import Console
from iqloop.recipes.rank.result import Duel, Place, Result, totals

if TYPE_CHECKING:
    from iqloop.agents.choose import BestOf
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.rerank.manifest import Manifest


def tell(found: BestOf, manifest: Manifest, critic: Critic, console: Console) -> Result:
    """A table of candidates, best first, and what it cost; returns it in the form of a ranking."""
    columns = ("rank", "strength", "\N{PLUS-MINUS SIGN}", "score", "seed", "path")
    with console.table(*columns):
        for place in found.ranking.places:
            sample = found.samples[place.index]
            if sample.image is None or place.rank is None:
                continue
            row = manifest.rows[sample.seed]
            fields = {
                "path": str(manifest.path(sample.seed)),
                **{key: row[key] for key in ("rank", "strength", "error", "standard_error", "score", "seed")},
                "pruned": sample.pruned,
            }
            said = "left halfway" if sample.pruned else _figure(place.strength)
            console.row(
                fields,
                place.rank,
                said,
                _figure(place.standard_error),
                _figure(place.score),
                sample.seed,
                fields["path"],
            )
    for place in found.ranking.places:
        if place.rank is None:
            sample = found.samples[place.index]
            console.fail(f"seed {sample.seed}", place.error or "it could not be judged", rank=None, strength=None)
    for note in (*found.notes, *([found.ranking.note] if found.ranking.note else [])):
        console.notice(note)
    result = as_result(found, manifest, critic)
    if result.comparisons:
        console.notice(totals([result]))
    seconds = sum(sample.seconds for sample in found.samples)
    console.notice(f"{len(found.samples)} candidates, {found.work:.0%} of the work of finishing all, {seconds:.0f} s")
    return result


def as_result(found: BestOf, manifest: Manifest, critic: Critic) -> Result:
    """What was finished, as a group of a ranking; paths are those of its files."""
    ranking, samples = found.ranking, found.samples
    paths = {
        i: str(manifest.path(sample.seed)) if sample.image is not None else f"seed {sample.seed}"
        for i, sample in enumerate(samples)
    }
    places = tuple(
        Place(
            paths[place.index],
            place.rank,
            place.strength,
            place.standard_error,
            place.score,
            sum(place.index in (match.a, match.b) for match in ranking.matches),
            error=place.error,
        )
        for place in ranking.places
        if not samples[place.index].pruned
    )
    duels = tuple(
        Duel(
            paths[match.a],
            paths[match.b],
            match.preference.choice,
            match.preference.probability,
            match.preference.reasoning,
            match.preference.position_bias,
            match.round,
        )
        for match in ranking.matches
        if match.decisive
    )
    return Result(
        None,
        ranking.by,
        critic.name,
        critic.lower_better,
        None,
        places,
        duels,
        ranking.comparisons,
        ranking.unparsed,
        ranking.position_bias,
        ranking.disagreements,
        ranking.note,
    )


def draw(page: Path, result: Result, manifest: Manifest, image: str | None, overwrite: bool) -> None:
    """The contact sheet, with the input first."""
    from iqloop.io import write_bytes_atomic
    from iqloop.recipes.inputs import gather
    from iqloop.recipes.rank.groups import Group
    from iqloop.recipes.rank.page import draw_page

    sources = gather([place.path for place in result.ranked])
    reference = None if image is None else gather([image])[0]
    html = draw_page([(Group(None, tuple(sources), reference), result)])
    write_bytes_atomic(page, html.encode(), overwrite)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
