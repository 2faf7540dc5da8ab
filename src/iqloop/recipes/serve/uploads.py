"""The image files of a request, as they were sent: a raw body, or the parts of a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.requests import Request

from iqloop.recipes.serve.refusal import Refusal

FORM = "multipart/form-data"
RAW = ("application/octet-stream", "image/*")


@dataclass(frozen=True)
class Upload:
    """One image file."""

    name: str | None
    """As the client calls it."""
    data: bytes


async def read_one(request: Request) -> Upload:
    """The one image of a request: its body, or the part ``file`` of a form. Raises `Refusal`."""
    kind = _kind(request)
    if kind == FORM:
        return only(await read_form(request, "file"), "file")
    if kind == RAW[0] or kind.startswith("image/"):
        return Upload(request.query_params.get("filename"), await request.body())
    raise _unknown(kind, [*RAW, FORM])


async def read_form(request: Request, *fields: str) -> dict[str, list[Upload]]:
    """The files of a form, by the names of its parts, each of which is one of ``fields``. Raises `Refusal`."""
    kind = _kind(request)
    if kind != FORM:
        raise _unknown(kind, [FORM])
    found: dict[str, list[Upload]] = {field: [] for field in fields}
    async with request.form() as form:
        for field, part in form.multi_items():
            if field not in found or not isinstance(part, UploadFile):
                raise Refusal(422, f"expected files in the parts {', '.join(fields)}, got {field[:60]!r}")
            found[field].append(Upload(part.filename or None, await part.read()))
    return found


def only(form: dict[str, list[Upload]], field: str) -> Upload:
    """The one file of a part. Raises `Refusal`."""
    if len(form[field]) != 1:
        raise Refusal(422, f"expected one file in the part {field!r}, got {len(form[field])}")
    return form[field][0]


def _kind(request: Request) -> str:
    return request.headers.get("content-type", RAW[0]).partition(";")[0].strip().lower()


def _unknown(kind: str, expected: Sequence[str]) -> Refusal:
    return Refusal(415, f"expected the content type {' or '.join(expected)}, got {kind[:60]!r}")
