"""The door: who may come in, how much they may bring, and one form for every refusal.

A body that is declared too long is refused before it is read, and one that becomes too long where it does; the
connection is closed then, so that nothing more of it arrives.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iqloop.recipes.serve.limits import Limits
from iqloop.recipes.serve.meters import Meters
from iqloop.recipes.serve.origin import check_origin
from iqloop.recipes.serve.refusal import GONE, Refusal, refusal_of
from iqloop.recipes.serve.room import Room, Visit

OPEN = frozenset({"/health"})
"""What is answered without the token."""
Report = Callable[[str, int, Exception], None]
"""Is told the path, the status and the error of a request that the server failed on."""


class Gate:
    """ASGI middleware around everything."""

    def __init__(
        self, app: ASGIApp, *, limits: Limits, room: Room, meters: Meters, token: str | None, report: Report
    ) -> None:
        self.app, self.limits, self.room, self.meters = app, limits, room, meters
        self._token = None if token is None else token.encode()
        self._report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        passage = Passage(receive, send, self.limits.upload_bytes)
        path = scope["path"]
        self.meters.in_flight.inc()
        try:
            await self._pass(scope, passage)
        except ClientDisconnect:
            passage.status = GONE
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status >= 500 and not isinstance(error, Refusal):
                self._report(path, refusal.status, error)
            if passage.status is None:
                await refused(refusal)(scope, passage.receive, passage.send)
        finally:
            self.meters.in_flight.dec()
            self.meters.answered(path, passage.status or 500, time.perf_counter() - began)

    async def _pass(self, scope: Scope, passage: Passage) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        declared = int(length) if length.isdigit() else 0
        passage.unread = declared > 0 or b"transfer-encoding" in headers
        if scope["path"] not in OPEN:
            self._identify(headers)
        if declared > self.limits.upload_bytes:
            raise too_long(self.limits.upload_bytes)
        if scope["method"] != "POST":
            await self.app(scope, passage.receive, passage.send)
            return
        passage.visit = self.room.enter(declared)
        try:
            await self.app(scope, passage.receive, passage.send)
        finally:
            passage.visit.leave()

    def _identify(self, headers: Mapping[bytes, bytes]) -> None:
        if self._token is None:
            check_origin(headers)
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
            raise Refusal(401, "send the header  Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


class Passage:
    """One request on its way in, and its answer on the way out."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self.visit: Visit | None = None
        self.unread = False
        """Some of the body may still come."""
        self.status: int | None = None
        """Of the answer, once it has begun."""

    async def receive(self) -> Message:
        """The next part of the body. Raises `Refusal` where it becomes too long."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.unread = message.get("more_body", False)
            if self.visit is not None:
                self.visit.take(len(message.get("body", b"")))
                if self.visit.read > self._limit:
                    raise too_long(self._limit)
        return message

    async def send(self, message: Message) -> None:
        """The answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            more = [(b"x-content-type-options", b"nosniff")]
            if self.unread:
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send(message)


def refused(refusal: Refusal) -> JSONResponse:
    """What a client gets."""
    return JSONResponse({"error": refusal.reason}, refusal.status, refusal.headers)


def too_long(limit: int) -> Refusal:
    """A body of more than ``limit`` bytes."""
    return Refusal(413, f"the request is too long: expected at most {limit / 2**20:g} MB; send fewer or smaller files")
