"""The questions that are answered over HTTP."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response

from iqloop.agents import PROFILES, Budget, to_document
from iqloop.critic.protocol import Critic
from iqloop.recipes.compare import compare_fields
from iqloop.recipes.console import plain
from iqloop.recipes.inputs import Input
from iqloop.recipes.perceive import perceive_fields
from iqloop.recipes.score import score_fields
from iqloop.recipes.serve import schemas
from iqloop.recipes.serve.limits import check_pixels
from iqloop.recipes.serve.patience import Deadline
from iqloop.recipes.serve.questions import decode_one, decode_pair, parsed
from iqloop.recipes.serve.ranking import Manner, rank_uploads
from iqloop.recipes.serve.refusal import Refusal
from iqloop.recipes.serve.restoring import Asked, Mended, restore_upload, smaller
from iqloop.recipes.serve.service import Service
from iqloop.recipes.serve.uploads import Upload, only, read_form, read_one

Count = Annotated[int | None, Query(ge=0)]
Name = Annotated[str | None, Query(description="What a raw body is called in the answer; a form says it itself.")]
"""Read by `iqloop.recipes.serve.uploads.read_one`; named here for the published description."""


def add_routes(api: FastAPI, service: Service) -> None:
    """Answer by ``service``."""
    limits, meters = service.limits, service.meters

    def received(request: Request, uploads: list[Upload], scale: int = 1) -> int:
        """The pixels of the uploads, when they are not too many."""
        meters.received(request.url.path, len(uploads))
        return check_pixels([upload.data for upload in uploads], limits.pixels, scale)

    @api.post("/score", openapi_extra=schemas.image_body())
    async def score(request: Request, filename: Name = None) -> schemas.Score:
        """A number for an image: mean and standard deviation of the critic's rating."""
        deadline = Deadline(limits.timeout)
        upload = await deadline.body(read_one(request))
        asked = service.scores.answer(partial(decode_one, upload.data), received(request, [upload]))
        rating = parsed(await deadline.answer(request, asked))
        return schemas.Score(**_named(upload, score_fields(_input(upload), rating, service.critic)))

    @api.post("/perceive", openapi_extra=schemas.image_body())
    async def perceive(request: Request, filename: Name = None) -> schemas.Perception:
        """What is wrong with an image, and how much."""
        service.need("perceive")
        deadline = Deadline(limits.timeout)
        upload = await deadline.body(read_one(request))
        asked = service.perceptions.answer(partial(decode_one, upload.data), received(request, [upload]))
        found = parsed(await deadline.answer(request, asked))
        return schemas.Perception(**_named(upload, perceive_fields(_input(upload), found)))

    @api.post("/compare", openapi_extra=schemas.form_body(("a", "b"), ("reference",)))
    async def compare(request: Request) -> schemas.Comparison:
        """Which of two images is better, in both presentation orders; ``reference`` is their degraded input."""
        deadline = Deadline(limits.timeout)
        form = await deadline.body(read_form(request, "a", "b", "reference"))
        a, b = only(form, "a"), only(form, "b")
        reference = only(form, "reference") if form["reference"] else None
        uploads = [a, b] if reference is None else [a, b, reference]
        load = partial(decode_pair, a.data, b.data, None if reference is None else reference.data)
        asked = service.comparisons.answer(load, received(request, uploads))
        found = parsed(await deadline.answer(request, asked))
        return schemas.Comparison(**plain({**compare_fields("", "", found), "a": a.name, "b": b.name}))

    @api.post("/rank", openapi_extra=schemas.form_body(("file",), ("reference",), many=("file",)))
    async def rank(
        request: Request,
        by: schemas.By | None = None,
        top: Annotated[int | None, Query(ge=1)] = None,
        max_comparisons: Count = None,
        seed: int = 0,
    ) -> schemas.Order:
        """Images from best to worst."""
        deadline = Deadline(limits.timeout)
        form = await deadline.body(read_form(request, "file", "reference"))
        reference = only(form, "reference") if form["reference"] else None
        if not form["file"]:
            raise Refusal(422, "expected files in the part 'file', got none")
        if by == "comparison":
            service.need("compare")
        received(request, form["file"] if reference is None else [*form["file"], reference])
        manner = Manner(by, top, max_comparisons, seed)
        job = partial(rank_uploads, form["file"], reference, manner)
        return await deadline.answer(request, service.rankings.run(job))

    @api.post(
        "/restore",
        openapi_extra=schemas.image_body(),
        response_model=schemas.Restored,
        responses={200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def restore(
        request: Request,
        filename: Name = None,
        answer: Annotated[
            Literal["image", "json"] | None,
            Query(description="The file, or the trace with the file in it.  [default: json where Accept asks for it]"),
        ] = None,
        profile: schemas.Profile = "balanced",
        scale: Literal["1", "2", "4"] = "1",
        seed: int = 0,
        max_steps: Count = None,
        max_tool_calls: Count = None,
        max_critic_calls: Count = None,
        time_limit: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    ) -> Any:
        """A photograph, restored as far as the critic finds it better: a file of the format that came in, or, when
        nothing improved it, the upload itself. Limits above the server's own are lowered to these."""
        deadline = Deadline(limits.timeout)
        upload = await deadline.body(read_one(request))
        received(request, [upload], int(scale))
        budget = Budget(max_steps, max_tool_calls, max_critic_calls, time_limit)

        def job(critic: Critic) -> Mended:
            own = smaller(budget, service.budget, deadline.left())
            return restore_upload(upload.data, critic, service.tools, Asked(PROFILES[profile], int(scale), seed, own))

        mended = await deadline.answer(request, service.restorations.run(job))
        if answer is None:
            answer = "json" if "application/json" in request.headers.get("accept", "") else "image"
        if answer == "json":
            return _told(upload, mended)
        return Response(mended.data, media_type=mended.media_type, headers=_headers(mended))

    @api.get("/health")
    async def health() -> schemas.Health:
        """Whether the server is there; it opens its port when the critic is loaded. Needs no token."""
        return schemas.Health()

    @api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _input(upload: Upload) -> Input:
    """The upload as the commands know an image."""
    name = upload.name or ""
    return Input(name, None, Path(name), None)


def _named(upload: Upload, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``--json``, with the client's name of the file for its path."""
    return {**plain({name: value for name, value in fields.items() if name != "path"}), "filename": upload.name}


def _told(upload: Upload, mended: Mended) -> schemas.Restored:
    trace = mended.trace
    return schemas.Restored(
        filename=upload.name,
        steps=list(trace.accepted_tools),
        stop_reason=trace.stop_reason,
        score_before=trace.score_before,
        score_after=trace.score_after,
        calls=trace.spent.tool_calls,
        critic_calls=trace.spent.critic_calls,
        seconds=trace.spent.seconds,
        improved=trace.improved,
        media_type=mended.media_type,
        image=base64.b64encode(mended.data).decode(),
        trace=to_document(trace),
    )


def _headers(mended: Mended) -> dict[str, str]:
    """What was done, beside the image; a score that is not known is left out."""
    trace = mended.trace
    told = {
        "Steps": ",".join(trace.accepted_tools),
        "Stop-Reason": trace.stop_reason,
        "Score-Before": trace.score_before,
        "Score-After": trace.score_after,
        "Calls": trace.spent.tool_calls,
        "Critic-Calls": trace.spent.critic_calls,
        "Seconds": round(trace.spent.seconds, 3),
        "Improved": str(trace.improved).lower(),
    }
    return {f"X-Iqloop-{name}": str(value) for name, value in told.items() if value is not None}
