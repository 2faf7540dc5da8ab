"""The user's own tools: model files that were added by name, and public checkpoints that were fetched.

Added files are listed in ``tools.json`` in the user's configuration folder, with all that must be known of a tool
before it is loaded. A file that has gone or changed since is left out with a warning that says what to do; the list
itself, when it is damaged, is an error, since nobody can say what was in it.
"""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from iqloop.errors import ImageWriteError, PrerequisiteError, ToolError, UsageError
from iqloop.restorers.checksum import file_sha256
from iqloop.restorers.fetch_weights import DIGITS, at_hand, version_of
from iqloop.restorers.home import config_home
from iqloop.restorers.public import PUBLIC, PublicWeights
from iqloop.restorers.registry import Registry, ToolEntry, builtin_entries, parse_file
from iqloop.restorers.tool import Cost, ToolInfo

if TYPE_CHECKING:
    from iqloop.restorers.spandrel_tool import SpandrelTool

FORMAT = 1
"""Of ``tools.json``."""
PATIENCE = 10
"""Seconds to wait for another process that writes the list."""


@dataclass(frozen=True)
class OwnTool:
    """A model file that the user gave a name."""

    name: str
    path: str
    """Absolute."""
    sha256: str
    """Of the file when it was added."""
    size: int
    modified: int
    """Nanoseconds since 1970, of the file when it was added: as long as size and this are the same, so is the file."""
    treats: tuple[str, ...]
    scale: int
    summary: str
    code_licence: str
    weights_licence: str
    cost: str
    strength: float | None

    @property
    def info(self) -> ToolInfo:
        """What is known of it; raises `UsageError` for what no tool can be."""
        if self.cost not in get_args(Cost):
            raise UsageError(f"tool {self.name!r}: cost must be one of {', '.join(get_args(Cost))}, got {self.cost!r}")
        return ToolInfo(
            name=self.name,
            treats=self.treats,  # type: ignore[arg-type]  # checked by ToolInfo
            summary=self.summary,
            scale=self.scale,
            code_licence=self.code_licence,
            weights_licence=self.weights_licence,
            cost=self.cost,  # type: ignore[arg-type]  # checked above
            version=self.sha256[:DIGITS],
            strength=self.strength,
        )


def user_entries(device: str = "cpu", tile: int | str | None = "auto") -> list[ToolEntry]:
    """The user's tools, those added first, then the public checkpoints that are here; each loaded on ``device``, late.

    Warns of a file that has gone or changed. Raises `UsageError` when ``tools.json`` is damaged.
    """
    found = []
    for own in own_tools():
        fault = fault_of(own)
        if fault:
            warnings.warn(f"tool {own.name!r} is left out: {fault}", RuntimeWarning, stacklevel=2)
        else:
            found.append(ToolEntry(own.info, partial(_load, own.info, Path(own.path), device, tile)))
    for weights in PUBLIC.values():
        path = at_hand(weights)
        if path is not None:
            info = public_info(weights, path)
            found.append(ToolEntry(info, partial(_load, info, path, device, tile)))
    return found


def origins() -> dict[str, str]:
    """Where the weights of the user's tools come from, by name: the file's path, or the repository or address."""
    public = {name: weights.origin for name, weights in PUBLIC.items() if at_hand(weights)}
    return public | {own.name: own.path for own in own_tools()}


def public_info(weights: PublicWeights, path: Path) -> ToolInfo:
    """What is known of a fetched public checkpoint before it is loaded."""
    return ToolInfo(
        name=weights.name,
        treats=weights.treats,
        summary=f"{weights.architecture}, {weights.paper}: {weights.summary} (spandrel)",
        scale=weights.scale,
        code_licence=weights.code_licence,
        weights_licence=weights.weights_licence,
        cost=weights.cost,
        version=version_of(path),
        strength=weights.strength,
    )


def list_file() -> Path:
    """The list of the files that were added."""
    return config_home() / "tools.json"


def own_tools() -> list[OwnTool]:
    """The files that were added, in that order; none if there is no list. Raises `UsageError` for a damaged one."""
    file = list_file()
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    try:
        read = json.loads(text)
        if read["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {read['format']!r}")
        tools = [OwnTool(**{**fields, "treats": tuple(fields["treats"])}) for fields in read["tools"]]
        # Names and all else are checked where every tool's are.
        Registry(ToolEntry(tool.info, partial(_load, tool.info, Path(tool.path))) for tool in tools)
    except (ValueError, TypeError, KeyError, UsageError) as error:
        raise _damaged(file, error) from error
    return tools


def fault_of(own: OwnTool) -> str | None:
    """Why an added file cannot be used as it was, and what to do; None if it can."""
    path = Path(own.path)
    try:
        now = path.stat()
        same = (now.st_size, now.st_mtime_ns) == (own.size, own.modified) or file_sha256(path) == own.sha256
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        what = "is not there" if gone else f"cannot be read ({error.strerror or error})"
        return f"{own.path} {what}: mend that, or run  iqloop tools remove {own.name}"
    spec = f"{own.name}:{'+'.join(own.treats)}={own.path}"
    return None if same else f"{own.path} has changed since it was added: run  iqloop tools add {spec}  if you trust it"


def remember(text: str, licence: str | None = None) -> OwnTool:
    """Add the model file of ``[NAME[:TREATMENT+...]=]PATH`` to the list; it is loaded once, to see that it can be.

    A name that stands for the same file already is brought up to date.

    Args:
        text: as `iqloop.restorers.registry.parse_file` reads it.
        licence: SPDX identifier of the weights; None takes what the file says, or ``unknown``.

    Raises:
        UsageError: the text has another form, the name is taken, or the list is damaged.
        ToolError: the file is not a model that restores images.
        PrerequisiteError: the list cannot be written.
    """
    from iqloop.restorers.spandrel_tool import load_tool

    name, treats, given = parse_file(text)
    path = given.expanduser().absolute()
    if path.is_dir():
        raise UsageError(f"{path} is a folder, expected a model file: give a pipeline to a command by  --tool {text}")
    if name in {entry.info.name for entry in builtin_entries()}:
        raise UsageError(f"a tool that comes with iqloop is named {name!r}: choose another name")
    if name in PUBLIC and at_hand(PUBLIC[name]):
        raise UsageError(f"{name!r} is a public checkpoint that is here: choose another name")
    tool = load_tool(path, name=name, treats=treats, weights_licence=licence)
    sha256 = file_sha256(path)
    was = path.stat()
    info = tool.info
    own = OwnTool(
        name=name,
        path=str(path),
        sha256=sha256,
        size=was.st_size,
        modified=was.st_mtime_ns,
        treats=info.treats,
        scale=info.scale,
        summary=info.summary,
        code_licence=info.code_licence,
        weights_licence=info.weights_licence or "unknown",
        cost=info.cost,
        strength=info.strength,
    )
    # Refuses a name that no tool can have.
    Registry([ToolEntry(own.info, partial(_load, own.info, path))])
    with _locked():
        tools = own_tools()
        taken = next((known for known in tools if known.name == name), None)
        if taken is not None and taken.path != own.path:
            raise UsageError(
                f"{name!r} is {taken.path} already: choose another name, or run  iqloop tools remove {name}  first"
            )
        _write([own if known.name == name else known for known in tools] + ([] if taken else [own]))
    return own


def forget(name: str) -> OwnTool:
    """Take a tool off the list; its file stays.

    Raises `UsageError` if it is not on the list, or the list is damaged; `PrerequisiteError` if it cannot be written.
    """
    with _locked():
        tools = own_tools()
        found = next((known for known in tools if known.name == name), None)
        if found is None:
            raise UsageError(_not_listed(name, [known.name for known in tools]))
        _write([known for known in tools if known is not found])
    return found


def _not_listed(name: str, names: list[str]) -> str:
    fetched = at_hand(PUBLIC[name]) if name in PUBLIC else None
    if fetched is not None:
        return f"{name!r} is a public checkpoint that was fetched: delete {fetched} to be rid of it"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names) or 'none'}"
    return f"no tool named {name!r} was added: {hint}"


def _load(info: ToolInfo, path: Path, device: str = "cpu", tile: int | str | None = "auto") -> SpandrelTool:
    """The tool of a file that was described before; raises `ToolError` when it is another file by now."""
    from iqloop.restorers.spandrel_tool import load_tool

    loaded = load_tool(path, tile=tile, device=device)
    if loaded.info.version != info.version:
        raise ToolError(f"{path} is not the file that {info.name} was: its sha256 begins with {loaded.info.version}")
    return loaded.described(info)


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time reads and writes the list."""
    from filelock import FileLock, Timeout

    file = list_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock"), timeout=PATIENCE):
            yield
    except Timeout as error:
        raise PrerequisiteError(f"{file}: another process is writing it; run it again") from error
    except OSError as error:
        raise _unwritable(file, error) from error


def _write(tools: list[OwnTool]) -> None:
    from iqloop.io.files import write_bytes_atomic

    file = list_file()
    # Escaped: a path may hold bytes that are no text.
    text = json.dumps({"format": FORMAT, "tools": [asdict(tool) for tool in tools]}, indent=1) + "\n"
    try:
        write_bytes_atomic(file, text.encode("ascii"), overwrite=True)
    except ImageWriteError as error:
        raise _unwritable(file, error.__cause__ or error) from error


def _unwritable(file: Path, error: BaseException) -> PrerequisiteError:
    reason = getattr(error, "strerror", None) or str(error)
    return PrerequisiteError(f"{file} cannot be written ({reason}): set IQLOOP_HOME to a folder that can")


def _damaged(file: Path, error: Any) -> UsageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UsageError(f"{file} is damaged ({reason}): mend it, or move it away and add the tools again")
