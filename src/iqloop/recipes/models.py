"""``iqloop models``: the critics' weights, where they are, and fetching those that are not here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.critic.checkpoint import CheckpointSource
    from iqloop.critic.fetch import Offer


@click.group("models")
def command() -> None:
    """List the critics' weights, and fetch them from the hub."""


@command.command("list")
@options.talk
def list_models(console: Console) -> int:
    """List the named checkpoints: where they come from, licence, size, and whether they are on this machine."""
    from iqloop.critic.fetch import readable

    rows = list_checkpoints()
    with console.table("name", "part", "from", "licence", "size", "at hand"):
        for row in rows:
            size = readable(row["bytes"]) if row["bytes"] else f"about {readable(row['bytes_expected'])}"
            at_hand = "yes" if row["at_hand"] else "no"
            console.row(row, row["name"], row["part"], row["from"], row["licence"], size, at_hand)
    for row in rows:
        if row["how"] is not None and not console.json:
            console.notice(f"{row['name']}, {row['part']}: {row['how']}")
    return failures.DONE


def list_checkpoints() -> list[dict[str, Any]]:
    """Every part of every named critic, as JSON types; ``bytes`` is None for one that is not on this machine."""
    from iqloop.critic.fetch import EXPECTED_BYTES, folder_bytes, part_name, parts_of
    from iqloop.critic.known import KNOWN
    from iqloop.critic.locate import locate
    from iqloop.recipes.metrics import how_to_get

    rows: list[dict[str, Any]] = []
    for name in KNOWN:
        for source in parts_of(name):
            how = how_to_get(source)
            folder = locate(source) if how is None else None
            rows.append(
                {
                    "name": name,
                    "part": part_name(source),
                    "from": "the package" if source.is_local else source.location,
                    "licence": source.licence,
                    "bytes": folder_bytes(Path(folder)) if folder else None,
                    "bytes_expected": None if folder else EXPECTED_BYTES,
                    "at_hand": how is None,
                    "folder": folder,
                    "how": how,
                }
            )
    return rows


@command.command("pull")
@click.argument("name")
@click.option("--part", default="all", show_default=True, help="One checkpoint of a critic that has several.")
@click.option("--revision", help="Commit, branch or tag.  [default: main]")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.talk
def pull(name: str, part: str, revision: str | None, yes: bool, console: Console) -> int:
    """Fetch a critic's weights from the hub, after saying what and how much.

    Shows the repository, the commit, the licence, the size and the free space before anything is fetched; takes
    safetensors and the small files beside them, of that commit only, and checks them. NAME is one of `iqloop models
    list`; for qinsight, --part is score_degradation, comparison or all.
    """
    from iqloop.critic.fetch import check_room, choose_parts, fetch, offer

    parts = choose_parts(name, part)
    if all(source.is_local for source in parts):
        console.line(f"{name} is in the package: nothing to fetch")
        return failures.DONE
    offers = [offer(group, revision) for group in _by_repository(parts)]
    for what in offers:
        _show(console, what)
        check_room(what)
    if any(what.to_fetch for what in offers) and not yes and not _agreed(console, name, part, revision):
        console.notice("nothing was fetched")
        return failures.SOME_FAILED
    for what in offers:
        for source, folder in zip(what.parts, fetch(what, _bar(console)), strict=True):
            console.fields(_fetched(name, what, source, folder))
            console.line(f"{source.subfolder or name} is in {folder}")
            if source == parts[0]:
                # A name stands for the main branch; another revision is given by its folder.
                critic = name if what.revision == "main" else shlex.quote(str(folder))
                console.line(f"next:  iqloop score photo.jpg --critic {critic}")
    return failures.DONE


def _by_repository(parts: list[CheckpointSource]) -> list[list[CheckpointSource]]:
    groups: dict[str, list[CheckpointSource]] = {}
    for source in parts:
        groups.setdefault(source.location, []).append(source)
    return list(groups.values())


def _show(console: Console, what: Offer) -> None:
    """The offer, on standard output; with ``--json`` on standard error, as all that is not a result."""
    from iqloop.critic.fetch import cache_folder, readable

    say = console.notice if console.json else console.line
    unknown = sum(file.size is None for file in what.files)
    more = f", of {unknown} the hub does not say the size" if unknown else ""
    card = what.card_licence or "none"
    licence = f"{what.licence}, but the card says {card}: read it" if what.licence_differs else f"{card}, as known here"
    say(f"repository: {what.repository}, {', '.join(part.subfolder or 'its root' for part in what.parts)}")
    say(f"revision: {what.revision}, commit {what.commit}")
    say(f"licence: {licence}")
    say(f"size: {readable(what.total)} in {len(what.files)} files{more}; to fetch: {readable(what.to_fetch)}")
    say(f"free: {readable(what.free)} in {cache_folder()}")


def _agreed(console: Console, name: str, part: str, revision: str | None) -> bool:
    """Ask on a terminal; elsewhere nobody can answer, and the command that needs none is the error."""
    from iqloop.errors import UsageError

    if console.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        chosen = [*(["--part", part] if part != "all" else []), *(["--revision", revision] if revision else [])]
        line = shlex.join(["iqloop", "models", "pull", name, *chosen, "--yes"])
        raise UsageError(f"nobody is at a terminal to agree to this: run  {line}")
    return click.confirm("Fetch it?", err=True)


def _bar(console: Console) -> type | None:
    """tqdm itself, since the hub's own bar is switched off for all commands."""
    if not console.draws:
        return None
    from tqdm.auto import tqdm

    return tqdm  # type: ignore[no-any-return]


def _fetched(name: str, what: Offer, source: CheckpointSource, folder: Path) -> dict[str, Any]:
    return {
        "name": name,
        "part": source.subfolder or "all",
        "repository": what.repository,
        "revision": what.revision,
        "commit": what.commit,
        "licence": what.licence,
        "card_licence": what.card_licence,
        "bytes": what.total,
        "folder": str(folder),
    }
