"""A request that gets no answer: its status, and one sentence that says why and nothing about this machine."""

from __future__ import annotations

from collections.abc import Mapping

from iqloop.errors import ImageError, UsageError
from iqloop.recipes.failures import is_out_of_memory

GONE = 499
"""The client has closed the connection; nobody reads this status but the metrics."""


class Refusal(Exception):
    """Raised anywhere in a request."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.reason, self.headers = status, reason, dict(headers or {})
        super().__init__(reason)


def refusal_of(error: Exception) -> Refusal:
    """What a client is told of an error.

    Of the package's errors only those about the image and the question are passed on: others name folders, addresses
    and commands of this machine.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ImageError):
        return Refusal(422, error.reason)
    if isinstance(error, UsageError):
        return Refusal(422, str(error))
    if is_out_of_memory(error):
        return Refusal(503, "out of memory: send a smaller image, or try again later")
    return Refusal(500, "the server failed on this request: its log says why")
