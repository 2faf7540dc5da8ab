"""Fetching public checkpoints: what it would take, then doing it, bounded and checked.

`offer` asks nobody: address, size and checksum are in `iqloop.restorers.public`. `fetch` streams the file over https
into the folder where it will be, under another name, and gives it its own only when its checksum is right and it holds
the network that was promised. Its name there ends in the beginning of that checksum, so that another file is never
taken for it, and what is here is known without reading it.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import os
import re
import secrets
import urllib.request
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from iqloop.errors import PrerequisiteError, ToolError, UsageError
from iqloop.restorers.checksum import file_sha256
from iqloop.restorers.home import data_home
from iqloop.restorers.public import PUBLIC, PublicWeights
from iqloop.sizes import free_bytes, readable

MARGIN = 1_000_000
"""Bytes that a file may have more than was announced before it is cut off."""
CHUNK = 1 << 20
TIMEOUT = 60
"""Seconds without an answer."""
DIGITS = 16
"""Hexadecimal digits of the checksum in a file's name: as many as in a tool's version."""


class Answer(Protocol):
    """What a server sends."""

    def read(self, amount: int, /) -> bytes:
        """At most ``amount`` bytes; none at the end."""
        ...


Opener = Callable[[str], AbstractContextManager[Answer]]
"""Opens an address; raises OSError or HTTPException when it cannot."""


@dataclass(frozen=True)
class WeightsOffer:
    """What a fetch would take."""

    weights: PublicWeights
    here: Path | None
    """The file, if it is on this machine."""
    folder: Path
    """Where it is, or will be."""
    free: int
    """Bytes free there."""

    @property
    def to_fetch(self) -> int:
        """Bytes that are not here yet."""
        return 0 if self.here else self.weights.bytes


@dataclass(frozen=True)
class Fetched:
    """A checkpoint on this machine."""

    weights: PublicWeights
    path: Path
    sha256: str
    """Of the file."""
    checked: bool
    """False if there was no checksum to check it against."""


def offer(name: str) -> WeightsOffer:
    """What fetching a public checkpoint would take; asks nobody and fetches nothing.

    Raises `UsageError` for an unknown name.
    """
    if name not in PUBLIC:
        close = difflib.get_close_matches(name, PUBLIC, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(PUBLIC)}"
        raise UsageError(f"unknown public checkpoint {name!r}: {hint}")
    folder = weights_folder()
    return WeightsOffer(PUBLIC[name], at_hand(PUBLIC[name]), folder, free_bytes(folder))


def weights_folder() -> Path:
    """Where fetched checkpoints are kept."""
    return data_home() / "weights"


def at_hand(weights: PublicWeights) -> Path | None:
    """The file of a public checkpoint on this machine, or None; nothing is read.

    Where no checksum is known, the youngest of its name.
    """
    if weights.sha256 is not None:
        path = weights_folder() / _file_name(weights, weights.sha256)
        return path if path.is_file() and path.stat().st_size == weights.bytes else None
    name = re.compile(rf"{re.escape(weights.name)}-[0-9a-f]{{{DIGITS}}}{re.escape(weights.suffix)}")
    folder = weights_folder()
    found = [path for path in folder.iterdir() if name.fullmatch(path.name)] if folder.is_dir() else []
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def version_of(path: Path) -> str:
    """The beginning of the checksum of a fetched file, by its name."""
    return path.stem[-DIGITS:]


def check_possible(what: WeightsOffer) -> None:
    """Raise `PrerequisiteError` when there is too little room, or fetching is switched off."""
    from huggingface_hub import constants

    weights = what.weights
    if what.to_fetch > what.free:
        raise PrerequisiteError(
            f"{weights.name} needs {readable(what.to_fetch)} and {what.folder} has {readable(what.free)} free: "
            "make room, or set IQLOOP_HOME to a folder on a larger disk"
        )
    if what.to_fetch and constants.HF_HUB_OFFLINE:
        raise PrerequisiteError(
            f"could not ask {weights.address} because HF_HUB_OFFLINE is set: run  unset HF_HUB_OFFLINE  or "
            + _by_hand(weights)
        )


def fetch(what: WeightsOffer, progress: Callable[[int], object] | None = None, opener: Opener | None = None) -> Fetched:
    """Fetch an offer, checked; a file that is here already is only checked.

    Args:
        what: from `offer`.
        progress: told the number of bytes of each piece that came.
        opener: opens an address; `open_https` if None.

    Raises:
        PrerequisiteError: too little room, no answer, or the folder cannot be written.
        ToolError: what came has another checksum or size, or is not the network that was promised; nothing is kept.
    """
    weights = what.weights
    if what.here is not None:
        return _checked(weights, what.here)
    check_possible(what)
    # The suffix stays: it says how the file is opened.
    temporary = what.folder / f".{weights.name}-{secrets.token_hex(8)}.part{weights.suffix}"
    try:
        try:
            what.folder.mkdir(parents=True, exist_ok=True)
            sha256 = _download(weights, temporary, opener or open_https, progress)
            _check_network(weights, temporary)
            path = what.folder / _file_name(weights, sha256)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise PrerequisiteError(
            f"{what.folder} cannot be written ({error.strerror or error}): make room, or set IQLOOP_HOME to a folder "
            "that can"
        ) from error
    return Fetched(weights, path, sha256, weights.sha256 is not None)


def open_https(address: str) -> AbstractContextManager[Answer]:
    """Open an https address; a redirection to anything else is refused with an OSError."""
    if not address.startswith("https://"):
        raise OSError(f"expected an https address, got {address}")
    director = urllib.request.build_opener(_OnlyHttps)
    request = urllib.request.Request(address, headers={"User-Agent": "iqloop"})  # noqa: S310  checked above
    answer: AbstractContextManager[Answer] = director.open(request, timeout=TIMEOUT)
    return answer


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The library's own, which would go on to http too."""
        if not newurl.startswith("https://"):
            raise OSError(f"redirected to {newurl}, expected an https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(weights: PublicWeights, path: Path, opener: Opener, progress: Callable[[int], object] | None) -> str:
    """Stream the file to ``path`` and return its checksum, which is the right one if one is known."""
    digest, count = hashlib.sha256(), 0
    with path.open("xb") as file, closing(_pieces(weights, opener)) as pieces:
        for piece in pieces:
            count += len(piece)
            if count > weights.bytes + MARGIN:
                raise ToolError(
                    f"{weights.name}: {weights.address} gave more than {readable(weights.bytes)}: nothing was kept"
                )
            file.write(piece)
            digest.update(piece)
            if progress is not None:
                progress(len(piece))
        file.flush()
        os.fsync(file.fileno())
    sha256 = digest.hexdigest()
    if weights.sha256 not in (None, sha256):
        length = f" ({count} bytes, expected {weights.bytes})" if count != weights.bytes else ""
        raise ToolError(
            f"{weights.name}: {weights.address} gave a file of sha256 {sha256}{length}, expected {weights.sha256}: "
            "nothing was kept; run it again, and if that gives the same, the published file has changed"
        )
    return sha256


def _pieces(weights: PublicWeights, opener: Opener) -> Generator[bytes, None, None]:
    """What the address gives, piece by piece; raises `PrerequisiteError` when it gives no answer."""
    try:
        with opener(weights.address) as answer:
            while piece := answer.read(CHUNK):
                yield piece
    except (OSError, http.client.HTTPException) as error:
        # A URLError wraps what happened; one with a status says it better itself.
        cause = error if hasattr(error, "status") else getattr(error, "reason", error)
        reason = (str(cause).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise PrerequisiteError(
            f"tried {weights.address} and got no answer ({reason}): connect to the network, or {_by_hand(weights)}"
        ) from error


def _by_hand(weights: PublicWeights) -> str:
    spec = f"{weights.name}:{'+'.join(weights.treats)}"
    return f"copy the file here and run  iqloop tools add {spec}=FILE"


def _check_network(weights: PublicWeights, path: Path) -> None:
    """Raise `ToolError` unless the file holds a network of the architecture and scale that were promised."""
    from iqloop.restorers.spandrel_tool import load_tool

    try:
        tool = load_tool(path, name=weights.name)
    except ToolError as error:
        reason = str(error).removeprefix(f"{path.name}: ")
        raise ToolError(f"{weights.name}: {weights.address} gave a file that cannot be used: {reason}") from error
    architecture, scale = tool.descriptor.architecture.id, tool.info.scale
    if (architecture, scale) != (weights.architecture, weights.scale):
        raise ToolError(
            f"{weights.name}: expected {weights.architecture} of scale {weights.scale}, "
            f"{weights.address} gave {architecture} of scale {scale}: nothing was kept"
        )


def _checked(weights: PublicWeights, path: Path) -> Fetched:
    """A file that is here, read again; raises `ToolError` if it is not what its name says."""
    sha256 = file_sha256(path)
    if not sha256.startswith(version_of(path)) or weights.sha256 not in (None, sha256):
        raise ToolError(
            f"{path} has changed since it was fetched: delete it and run  iqloop models pull {weights.name}"
        )
    return Fetched(weights, path, sha256, weights.sha256 is not None)


def _file_name(weights: PublicWeights, sha256: str) -> str:
    return f"{weights.name}-{sha256[:DIGITS]}{weights.suffix}"
