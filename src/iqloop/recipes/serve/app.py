"""The application: routes, their service, and the door in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

import iqloop
from iqloop.agents import Budget, Toolbox
from iqloop.critic.protocol import Critic
from iqloop.recipes.serve import schemas
from iqloop.recipes.serve.gate import Gate, Report, refused
from iqloop.recipes.serve.limits import Limits
from iqloop.recipes.serve.refusal import Refusal
from iqloop.recipes.serve.routes import add_routes
from iqloop.recipes.serve.service import Service

REFUSALS = {
    401: "The token is missing or wrong.",
    403: "No token is wanted, and a web page from elsewhere asks, or for a name that is not this machine's own.",
    408: "The request did not arrive in time.",
    413: "Too many bytes or pixels.",
    415: "Neither an image nor a form of files.",
    422: "No image that is understood, or a wrong parameter.",
    500: "The server failed on this request.",
    501: "The critic cannot do this.",
    502: "The critic's answer could not be read.",
    503: "Busy: come again after Retry-After.",
    504: "No answer in time.",
}


def make_app(
    critic: Critic,
    tools: Toolbox,
    limits: Limits,
    budget: Budget | None = None,
    token: str | None = None,
    report: Report = lambda path, status, error: None,
) -> FastAPI:
    """An ASGI application around a loaded critic.

    Args:
        critic: asked in one thread, from the application's start to its end.
        tools: for ``/restore``.
        limits: of requests.
        budget: the most that one restoration may spend; None is `Budget`'s own.
        token: wanted in every request but for ``/health``; None wants none.
        report: told of requests that the server failed on.
    """
    service = Service(critic, tools, limits, budget or Budget())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # A page that takes its scripts from elsewhere would let them ask this server, and be empty without a network.
    api = FastAPIOffline(
        redoc_url=None,
        static_url="/docs-files",
        title="iqloop",
        version=iqloop.__version__,
        summary="An image-restoration loop with a critic.",
        description=f"Critic: {critic.name}. Send files as they are: a raw body is the fastest way.",
        lifespan=lifespan,
        responses={status: {"model": schemas.Failed, "description": text} for status, text in REFUSALS.items()},
    )
    add_routes(api, service)
    api.add_middleware(Gate, limits=limits, room=service.room, meters=service.meters, token=token, report=report)
    api.add_exception_handler(Refusal, _refuse)
    api.add_exception_handler(HTTPException, _refuse)
    api.add_exception_handler(RequestValidationError, _refuse)
    return api


async def _refuse(request: Request, error: Exception) -> Response:
    """Every refusal in one form, also those of the libraries."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        error = Refusal(422, f"{where}: {first['msg']}")
    elif isinstance(error, HTTPException):
        error = Refusal(error.status_code, error.detail, error.headers)
    assert isinstance(error, Refusal)
    return refused(error)
