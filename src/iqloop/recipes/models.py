"""``iqloop models``: weights of critics and restorers, where they are, and fetching those that are not here."""

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
    from iqloop.restorers.fetch_weights import Fetched, WeightsOffer


@click.group("models")
def command() -> None:
    """List the weights of critics and of public restorers, and fetch them."""


@command.command("list")
@options.talk
def list_models(console: Console) -> int:
    """List what has a name: where it comes from, licence, size, and whether it is on this machine.

    A restorer's licence is that of the code / that of the weights.
    """
    critics, restorers = list_checkpoints(), list_restorers()
    with console.table("kind", "name", "part", "from", "licence", "size", "at hand"):
        for row in critics:
            licence, size = row["licence"], _size(row, "about ")
            console.row(row, row["kind"], row["name"], row["part"], row["from"], licence, size, _yes(row["at_hand"]))
        for row in restorers:
            licence, size = f"{row['code_licence']} / {row['licence']}", _size(row, "")
            treats = ", ".join(row["treats"]) + (f" x{row['scale']}" if row["scale"] > 1 else "")
            console.row(row, row["kind"], row["name"], treats, row["from"], licence, size, _yes(row["at_hand"]))
    if console.json:
        return failures.DONE
    for row in critics:
        if row["how"] is not None:
            console.notice(f"{row['name']}, {row['part']}: {row['how']}")
    if not all(row["at_hand"] for row in restorers):
        console.notice("restorers that are not at hand: run  iqloop models pull NAME")
    return failures.DONE


def _size(row: dict[str, Any], about: str) -> str:
    from iqloop.sizes import readable

    return readable(row["bytes"]) if row["bytes"] else about + readable(row["bytes_expected"])


def _yes(at_hand: bool) -> str:
    return "yes" if at_hand else "no"


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
                    "kind": "critic",
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


def list_restorers() -> list[dict[str, Any]]:
    """Every public restoration checkpoint, as JSON types; ``bytes`` is None for one that is not on this machine."""
    from iqloop.restorers.fetch_weights import at_hand
    from iqloop.restorers.public import PUBLIC

    rows: list[dict[str, Any]] = []
    for name, weights in PUBLIC.items():
        path = at_hand(weights)
        rows.append(
            {
                "kind": "restorer",
                "name": name,
                "part": None,
                "treats": list(weights.treats),
                "scale": weights.scale,
                "architecture": weights.architecture,
                "from": weights.origin,
                "address": weights.address,
                "code_licence": weights.code_licence,
                "licence": weights.weights_licence,
                "paper": weights.paper,
                "summary": weights.summary,
                "sha256": weights.sha256,
                "bytes": path.stat().st_size if path else None,
                "bytes_expected": None if path else weights.bytes,
                "at_hand": path is not None,
                "folder": str(path.parent) if path else None,
                "file": str(path) if path else None,
                "how": None if path else f"run  iqloop models pull {name}",
            }
        )
    return rows


@command.command("pull")
@click.argument("name")
@click.option("--part", default="all", show_default=True, help="One checkpoint of a critic that has several.")
@click.option("--revision", help="Of a critic: commit, branch or tag.  [default: main]")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.talk
def pull(name: str, part: str, revision: str | None, yes: bool, console: Console) -> int:
    """Fetch the weights of a critic or a restorer, after saying what, from where and how much.

    Shows origin, licences, size and free space before anything is fetched. Of a critic it takes the safetensors of one
    commit and the small files beside them; of a restorer one file, whose checksum must be right and which must hold the
    network that was promised. NAME is one of `iqloop models list`; for qinsight, --part is score_degradation,
    comparison or all.
    """
    from iqloop.critic.known import KNOWN
    from iqloop.errors import UsageError
    from iqloop.restorers.public import PUBLIC

    if name in PUBLIC:
        if part != "all" or revision is not None:
            raise UsageError(f"{name} is a restorer, one file that is known: --part and --revision are for critics")
        return _pull_restorer(name, yes, console)
    if name not in KNOWN:
        raise UsageError(f"unknown name {name!r}: expected one of {', '.join([*KNOWN, *PUBLIC])}")
    return _pull_critic(name, part, revision, yes, console)


def _pull_critic(name: str, part: str, revision: str | None, yes: bool, console: Console) -> int:
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


def _pull_restorer(name: str, yes: bool, console: Console) -> int:
    from iqloop.errors import UsageError
    from iqloop.recipes.loading import hushed
    from iqloop.restorers.fetch_weights import check_possible, fetch, offer
    from iqloop.restorers.user_tools import own_tools

    if any(own.name == name for own in own_tools()):
        raise UsageError(f"a tool of yours is named {name}: run  iqloop tools remove {name}  first")
    what = offer(name)
    _show_restorer(console, what)
    check_possible(what)
    if what.to_fetch and not yes and not _agreed(console, name):
        console.notice("nothing was fetched")
        return failures.SOME_FAILED
    bar = _bar(console)
    if bar is None or not what.to_fetch:
        with hushed():
            done = fetch(what)
    else:
        with bar(total=what.to_fetch, unit="B", unit_scale=True, desc=name) as shown:
            done = fetch(what, shown.update)
    if not done.checked:
        console.notice(f"{name}: no checksum is known to check it against; that of this file is {done.sha256}")
    console.fields(_fetched_restorer(done))
    console.line(f"{name} is in {done.path}")
    console.line(f"next:  iqloop apply {name} photo.jpg")
    return failures.DONE


def _show_restorer(console: Console, what: WeightsOffer) -> None:
    """The offer, as of a critic."""
    from iqloop.sizes import readable

    say, weights = console.notice if console.json else console.line, what.weights
    treats = f"treats {', '.join(weights.treats)}, scale {weights.scale}"
    said = "unknown, nobody has said it: ask before you do more than try it"
    say(f"address: {weights.address}")
    say(f"network: {weights.architecture}, {treats}; {weights.paper}: {weights.summary}")
    say(f"licence: code {weights.code_licence}; weights {weights.weights_licence if weights.has_licence else said}")
    say(f"sha256: {weights.sha256 or 'none is known, so the file cannot be checked'}")
    say(f"size: {readable(weights.bytes)}; to fetch: {readable(what.to_fetch)}")
    say(f"free: {readable(what.free)} in {what.folder}")


def _fetched_restorer(done: Fetched) -> dict[str, Any]:
    weights = done.weights
    return {
        "kind": "restorer",
        "name": weights.name,
        "from": weights.origin,
        "address": weights.address,
        "code_licence": weights.code_licence,
        "licence": weights.weights_licence,
        "bytes": done.path.stat().st_size,
        "sha256": done.sha256,
        "checked": done.checked,
        "file": str(done.path),
    }


def _by_repository(parts: list[CheckpointSource]) -> list[list[CheckpointSource]]:
    groups: dict[str, list[CheckpointSource]] = {}
    for source in parts:
        groups.setdefault(source.location, []).append(source)
    return list(groups.values())


def _show(console: Console, what: Offer) -> None:
    """The offer, on standard output; with ``--json`` on standard error, as all that is not a result."""
    from iqloop.critic.fetch import cache_folder
    from iqloop.sizes import readable

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


def _agreed(console: Console, name: str, part: str = "all", revision: str | None = None) -> bool:
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
        "kind": "critic",
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
