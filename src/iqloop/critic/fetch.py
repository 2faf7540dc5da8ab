"""Fetching the weights of named critics from the hub: what it would take, then doing it, pinned and checked.

Nothing else in the package downloads. `offer` asks the hub for names and sizes only; `fetch` takes that commit's
safetensors and the small files beside them, never a pickle and never code.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqloop.critic.checkpoint import CheckpointSource, skeleton
from iqloop.critic.locate import check_kind, check_weights, one_line
from iqloop.errors import CriticError, PrerequisiteError, UsageError
from iqloop.sizes import free_bytes, readable

SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
"""What is fetched: weights, configuration, chat template, tokenizer."""
EXPECTED_BYTES = 8_292_166_656 * 2
"""Of a checkpoint that is not here: the parameters of Qwen2.5-VL-7B in bfloat16, which all published critics are."""


@dataclass(frozen=True)
class File:
    """A file of a repository."""

    name: str
    """Relative to the repository."""
    size: int | None
    """Bytes; None if the hub does not say."""
    here: bool
    """Already in the hub's cache, at this commit."""


@dataclass(frozen=True)
class Offer:
    """What a fetch would take."""

    repository: str
    parts: tuple[CheckpointSource, ...]
    revision: str
    """As it was asked for."""
    commit: str
    """What that is at present; what is fetched."""
    licence: str
    """As we know it."""
    card_licence: str | None
    """The tag on the repository's card."""
    files: tuple[File, ...]
    free: int
    """Bytes free where the hub's cache is."""

    @property
    def total(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    @property
    def to_fetch(self) -> int:
        """Bytes that are not here yet."""
        return sum(file.size or 0 for file in self.files if not file.here)

    @property
    def licence_differs(self) -> bool:
        """True when the card says another licence than we do, or none."""
        return (self.card_licence or "").lower() != self.licence.lower()


def parts_of(name: str) -> list[CheckpointSource]:
    """The checkpoints of a named critic, the one that scores first; raises `UsageError` for an unknown name."""
    from iqloop.critic.known import KNOWN

    if name not in KNOWN:
        raise UsageError(f"unknown critic {name!r}: expected one of {', '.join(KNOWN)}")
    comparison = getattr(KNOWN[name], "comparison", None)
    return [KNOWN[name].source, *([comparison] if isinstance(comparison, CheckpointSource) else [])]


def part_name(source: CheckpointSource) -> str:
    """What ``--part`` calls a checkpoint: its folder in the repository, or ``all`` for one that has none."""
    return source.subfolder or "all"


def choose_parts(name: str, part: str = "all") -> list[CheckpointSource]:
    """The parts of a named critic that ``--part`` stands for; raises `UsageError`."""
    found = parts_of(name)
    if part == "all":
        return found
    chosen = [source for source in found if part_name(source) == part]
    if not chosen:
        known = ", ".join(dict.fromkeys([*map(part_name, found), "all"]))
        raise UsageError(f"{name} has no part {part!r}: expected one of {known}")
    return chosen


def how_to_fetch(source: CheckpointSource) -> str:
    """The command that fetches a checkpoint: ours for a named critic, and the hub's own."""
    from iqloop.critic.known import KNOWN

    location, subfolder = source.location, source.subfolder
    if location.count("/") > 1:
        owner, repository, *inside = location.split("/")
        location, subfolder = f"{owner}/{repository}", "/".join([*inside, *([subfolder] if subfolder else [])])
    revision = f" --revision {shlex.quote(source.revision)}" if source.revision else ""
    include = f" --include {shlex.quote(subfolder + '/*')}" if subfolder else ""
    theirs = f"hf download {location}{include}{revision}"
    for name in KNOWN:
        for i, part in enumerate(parts_of(name)):
            if (part.location, part.subfolder) == (location, subfolder):
                one = f" --part {part_name(part)}" if i else ""
                return f"iqloop models pull {name}{one}{revision}  (or  {theirs})"
    return f"{theirs}  first"


def offer(parts: Sequence[CheckpointSource], revision: str | None = None) -> Offer:
    """Ask the hub what fetching these checkpoints of one repository would take; fetches nothing.

    Raises:
        UsageError: the repository has no such revision.
        PrerequisiteError: the hub cannot be reached, or does not show the repository.
        CriticError: the repository has no safetensors for a part.
    """
    from huggingface_hub.utils._paths import filter_repo_objects

    repository = parts[0].location
    asked = revision or parts[0].revision or "main"
    info = _ask(repository, asked)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    allowed, ignored = _patterns(parts)
    names = sorted(filter_repo_objects(sizes, allow_patterns=allowed, ignore_patterns=ignored))
    for part in parts:
        inside = f"{part.subfolder}/" if part.subfolder else ""
        if not any(name.startswith(inside) and name.endswith(".safetensors") for name in names):
            raise CriticError(
                f"{repository}: expected safetensors under {inside or 'its root'}; nothing else is fetched"
            )
    commit = str(info.sha)
    files = tuple(File(name, sizes[name], _is_here(repository, name, commit)) for name in names)
    licence = getattr(getattr(info, "card_data", None), "license", None)
    return Offer(
        repository, tuple(parts), asked, commit, parts[0].licence, licence and str(licence), files, _free_bytes()
    )


def fetch(what: Offer, progress: type | None = None) -> list[Path]:
    """Fetch an offer and return each part's folder, checked: a Qwen2.5-VL configuration and whole weights for it.

    Args:
        what: from `offer`; its commit is what is fetched, whatever the branch has become since.
        progress: a tqdm class for the bar; None leaves it to the hub's library.

    Raises:
        PrerequisiteError: too little room, or the hub cannot be reached.
        CriticError: what came is not a usable checkpoint.
    """
    from huggingface_hub import snapshot_download

    check_room(what)
    allowed, ignored = _patterns(what.parts)
    try:
        root = Path(
            snapshot_download(
                what.repository,
                revision=what.commit,
                allow_patterns=allowed,
                ignore_patterns=ignored,
                tqdm_class=progress,
            )
        )
    except Exception as error:  # the hub's library raises what its transports raise
        raise _unreachable(what.repository, error) from error
    folders = [root / part.subfolder for part in what.parts]
    for folder in folders:
        check_kind(folder)
        held = check_weights(folder)
        needed = sum(parameter.numel() for parameter in skeleton(folder).parameters())
        if held < needed:
            raise CriticError(f"{folder}: the weights hold {held} numbers, the configuration needs {needed}")
    _remember(root, what)
    return folders


def check_room(what: Offer) -> None:
    """Raise `PrerequisiteError` when the disk has less room than the offer needs."""
    if what.to_fetch > what.free:
        raise PrerequisiteError(
            f"{what.repository} needs {readable(what.to_fetch)} and {cache_folder()} has {readable(what.free)} free: "
            "make room, or set HF_HOME to a folder on a larger disk"
        )


def cache_folder() -> Path:
    """The hub's cache on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def folder_bytes(folder: Path) -> int:
    """Bytes of a checkpoint folder's own files."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _patterns(parts: Sequence[CheckpointSource]) -> tuple[list[str], list[str]]:
    """What to take and what to leave: files of the folders themselves. In the hub's library ``*`` crosses folders."""
    allowed, ignored = [], []
    for part in parts:
        inside = f"{part.subfolder}/" if part.subfolder else ""
        allowed += [f"{inside}*{suffix}" for suffix in SUFFIXES]
        ignored.append(f"{inside}*/*")
    return allowed, ignored


def _ask(repository: str, revision: str) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return HfApi().model_info(repository, revision=revision, files_metadata=True)
    except RevisionNotFoundError as error:
        raise UsageError(f"{repository} has no revision {revision!r}: give a branch, a tag or a commit") from error
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise PrerequisiteError(
            f"the hub does not show {repository} to you: accept its terms on its page if it has any, and run  "
            "hf auth login"
        ) from error
    except Exception as error:  # the hub's library raises what its transports raise
        raise _unreachable(repository, error) from error


def _unreachable(repository: str, error: Exception) -> PrerequisiteError:
    from huggingface_hub import constants

    where = f"{constants.ENDPOINT}/{repository}"
    if constants.HF_HUB_OFFLINE:
        return PrerequisiteError(
            f"could not ask {where} because HF_HUB_OFFLINE is set: run  unset HF_HUB_OFFLINE  or copy the checkpoint "
            "here and give its folder"
        )
    reason = one_line(error).rstrip(".")
    return PrerequisiteError(
        f"tried {where} and got no answer ({reason}): connect to the network, or copy the checkpoint here and give "
        "its folder"
    )


def _is_here(repository: str, name: str, commit: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    # The folder is named, since the library's own default is fixed when it is imported.
    return isinstance(try_to_load_from_cache(repository, name, cache_dir=cache_folder(), revision=commit), str)


def _free_bytes() -> int:
    return free_bytes(cache_folder())


def _remember(root: Path, what: Offer) -> None:
    """Let the branch or tag stand for the fetched commit in the hub's cache: a fetch by commit does not note it.

    The cache's layout is documented: ``refs/NAME`` holds the commit whose files are in ``snapshots/COMMIT``.
    """
    if what.revision == what.commit or root.parent.name != "snapshots":
        return
    refs = (root.parent.parent / "refs").resolve()
    note = (refs / what.revision).resolve()
    if not note.is_relative_to(refs):
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    fresh = note.with_name(note.name + ".new")
    fresh.write_text(what.commit)
    os.replace(fresh, note)
