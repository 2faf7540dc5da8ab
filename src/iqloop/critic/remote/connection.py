"""A line to one model on a server: asks, insists, and remembers what it was told."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from iqloop.critic.remote.address import Address
from iqloop.critic.remote.patience import Patience
from iqloop.critic.remote.request import Reply, Request, body_of, read_reply
from iqloop.critic.remote.server import Server, choose_model, is_alive, probe
from iqloop.errors import missing_extra

if TYPE_CHECKING:
    from openai import OpenAI

REMEMBERED = 1024
"""Replies that are kept: when one image of a batch fails, the others are not asked about again."""
CONNECT_SECONDS = 10.0


class Connection:
    """Asks one model; safe to share between threads."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 120.0,
        retries: int = 4,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Find out what the server is and what it serves.

        Args:
            address: of the server; https certificates are verified.
            timeout: seconds that one request may take.
            retries: tries after the first, where another try may help (429, 5xx, timeouts, lost connections).
            pause: waits that many seconds between tries.

        Raises:
            PrerequisiteError: the openai client is not installed.
            UsageError: it is not clear which model is meant.
            CriticError: the server cannot be reached.
        """
        self._client = _client(address, timeout)
        self.server: Server = probe(self._client, address.url)
        self.address = Address(address.url, choose_model(self.server, address.model, address.url))
        self._patience = Patience(address.url, lambda: is_alive(self._client), retries, pause)
        self._known: OrderedDict[tuple[object, ...], Reply] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """As the server calls it."""
        return str(self.address.model)

    def ask(self, request: Request, template: str | None = None, text_first: bool = False) -> Reply:
        """The answer to a question; raises `CriticError` when none is to be had."""
        key = (*request.key, template, text_first)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        body = body_of(request, self.server, self.model, template, text_first)
        create = self._client.chat.completions.with_raw_response.create
        reply = self._patience.insist(lambda: read_reply(create(**body).text))
        with self._lock:
            self._known[key] = reply
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return reply


def _client(address: Address, timeout: float) -> OpenAI:
    try:
        import openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise missing_extra("openai", "serve") from error
    limits = openai.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
    # The client's own retries are off: ours know when to stop.
    return openai.OpenAI(api_key=_key(address), base_url=address.url, timeout=limits, max_retries=0)


def _key(address: Address) -> str:
    """The server's key; OpenAI's own goes nowhere where it could be read on the way."""
    own = os.environ.get("IQLOOP_API_KEY")
    openais = os.environ.get("OPENAI_API_KEY") if address.private else None
    return own or openais or "none"  # the client wants one; servers without keys do not look
