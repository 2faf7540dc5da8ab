"""The answers as they are published in the OpenAPI document: fields of ``--json``, with ``filename`` for ``path``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from iqloop.recipes.serve.uploads import FORM, RAW

By = Literal["score", "comparison", "hybrid"]
Profile = Literal["gentle", "balanced", "strong"]

_FILE = {"type": "string", "format": "binary"}


class Failed(BaseModel):
    """Every refusal."""

    error: str


class Score(BaseModel):
    """As of ``iqloop score --json``."""

    filename: str | None
    score: float | None
    std: float | None
    metric: str
    lower_better: bool
    range: tuple[float | None, float | None]
    digit_mass: float | None
    unparsed: int
    answers: list[str]


class Perception(BaseModel):
    """As of ``iqloop perceive --json``."""

    filename: str | None
    distortion_class: str
    severity: str
    probabilities: dict[str, float | None]
    reasoning: str
    unparsed: int


class Comparison(BaseModel):
    """As of ``iqloop compare --json``."""

    a: str | None
    b: str | None
    preference: Literal["A", "B", "similar"]
    probability: float | None
    reasoning: str
    method: str
    position_bias: float | None
    unparsed: int


class Place(BaseModel):
    """As a line of ``iqloop rank --json``."""

    filename: str | None
    rank: int | None
    strength: float | None
    error: str | None
    standard_error: float | None
    score: float | None
    comparisons: int


class Order(BaseModel):
    """Best first, then what could not be ranked."""

    by: By
    note: str | None = Field(description="What was done otherwise than asked, and why.")
    comparisons: int
    places: list[Place]


class Restored(BaseModel):
    """As of ``iqloop restore --json``, with the image and the trace."""

    filename: str | None
    steps: list[str]
    stop_reason: str
    score_before: float | None
    score_after: float | None
    calls: int
    critic_calls: int
    seconds: float
    improved: bool
    media_type: str
    image: str = Field(description="The file's bytes, in base64.")
    trace: dict[str, Any]


class Health(BaseModel):
    """The server is there, with its critic loaded."""

    status: Literal["ok"] = "ok"


def form_body(required: tuple[str, ...], optional: tuple[str, ...] = (), many: tuple[str, ...] = ()) -> dict[str, Any]:
    """OpenAPI's description of a form of files."""
    fields = {name: {"type": "array", "items": _FILE} if name in many else _FILE for name in (*required, *optional)}
    schema = {"type": "object", "properties": fields, "required": list(required)}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


def image_body() -> dict[str, Any]:
    """OpenAPI's description of one image, raw or as the part ``file``."""
    described = form_body(("file",))
    described["requestBody"]["content"] |= {kind: {"schema": _FILE} for kind in RAW}
    return described
