"""The rows of the results: one for every image, a fixed Arrow schema for every command.

Every row has ``key``, ``critic``, ``critic_version`` and ``error``: null, or a sentence, and then the command's own
columns are null. The others are the fields of ``--json``. ``seconds`` of a scored or perceived image are its batch's,
shared out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from iqloop.recipes.scale.listing import require_pyarrow

if TYPE_CHECKING:
    import pyarrow

CommandName = Literal["score", "perceive", "restore"]


def schema_of(command: CommandName) -> pyarrow.Schema:
    """The columns of a command's rows; raises `iqloop.errors.PrerequisiteError` without pyarrow."""
    pa = require_pyarrow()
    text, number, count, truth = pa.string(), pa.float64(), pa.int32(), pa.bool_()
    own: dict[CommandName, list[tuple[str, Any]]] = {
        "score": [
            ("path", text),
            ("score", number),
            ("std", number),
            ("metric", text),
            ("lower_better", truth),
            ("range", pa.list_(number)),
            ("digit_mass", number),
            ("unparsed", count),
            ("answers", pa.list_(text)),
        ],
        "perceive": [
            ("path", text),
            ("distortion_class", text),
            ("severity", text),
            ("probabilities", pa.map_(text, number)),
            ("reasoning", text),
            ("unparsed", count),
        ],
        "restore": [
            ("input", text),
            ("output", text),
            ("steps", pa.list_(text)),
            ("stop_reason", text),
            ("score_before", number),
            ("score_after", number),
            ("calls", count),
            ("critic_calls", count),
        ],
    }
    around = [("seconds", number), ("error", text), ("critic", text), ("critic_version", text)]
    return pa.schema([pa.field("key", text), *(pa.field(name, kind) for name, kind in (*own[command], *around))])


def table_of(rows: list[dict[str, Any]], schema: pyarrow.Schema) -> pyarrow.Table:
    """Rows as a table; what a row does not say is null."""
    return require_pyarrow().Table.from_pylist(rows, schema=schema)


def json_fields(row: Mapping[str, Any], command: CommandName) -> dict[str, Any]:
    """The line of ``--json`` for a row."""
    if row["error"] is not None:
        return {"path": shown(row), "error": row["error"]}
    hidden = {"key", "error", "critic", "critic_version"} | ({"seconds"} if command != "restore" else set())
    fields = {name: value for name, value in row.items() if name not in hidden}
    if command == "perceive":
        fields["probabilities"] = dict(fields["probabilities"])
    return fields


def shown(row: Mapping[str, Any]) -> str:
    """How a row's image is named in messages."""
    name: str = row.get("path") or row.get("input") or row["key"]
    return name
