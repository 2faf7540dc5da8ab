"""Waiting for an answer no longer than was promised, and only while somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from iqloop.recipes.serve.refusal import GONE, Refusal

T = TypeVar("T")


class Deadline:
    """The end of one request's time, ``seconds`` from now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + seconds

    def left(self) -> float:
        """Seconds, at least 0; may be asked by any thread."""
        return max(0.0, self._end - self._clock())

    async def body(self, reading: Coroutine[Any, Any, T]) -> T:
        """What is read. Raises `Refusal` (408) when it does not come in time."""
        try:
            async with asyncio.timeout(self.left()):
                return await reading
        except TimeoutError:
            raise Refusal(408, f"the request did not arrive within {self._seconds:g} s") from None

    async def answer(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """What the work comes to; it is cancelled when the time is up or the client has gone.

        Raises `Refusal` then (504, 499), and what the work raises.
        """
        working = asyncio.ensure_future(work)
        going = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({working, going}, timeout=self.left(), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if going.done():
                raise Refusal(GONE, "the client has gone")
            raise Refusal(504, f"no answer within {self._seconds:g} s: try again later, or ask for less")
        finally:
            working.cancel()
            going.cancel()


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
