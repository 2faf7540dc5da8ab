"""Where a served critic is: ``http://HOST:PORT/v1#MODEL``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from iqloop.errors import UsageError

SCHEMES = ("http://", "https://")
"""What the names of served critics begin with."""

_FORM = "http://HOST:PORT/v1#MODEL"
_VERSION = re.compile(r"/v\d\w*(/|$)")


@dataclass(frozen=True)
class Address:
    """A server, and the model that is meant."""

    url: str
    """The root of the API, without a slash at its end: ``http://127.0.0.1:8000/v1``."""
    model: str | None = None
    """As the server calls it; None where it serves one only."""

    @property
    def private(self) -> bool:
        """Whether what is sent there cannot be read on the way: https, or this machine."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "https" or host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def is_address(name: str) -> bool:
    """Whether a critic's name is an address."""
    return name.startswith(SCHEMES)


def parse_address(name: str) -> Address:
    """The address that a name stands for; a slash at the end of the path makes no difference.

    Raises `UsageError` for one without a host, without the API's version, with a query or with a password.

    >>> parse_address("http://127.0.0.1:8000/v1/#q-insight")
    Address(url='http://127.0.0.1:8000/v1', model='q-insight')
    """
    url, _, model = name.partition("#")
    try:
        parts = urlsplit(url)
        if parts.username is not None:
            # The address is part of results and traces, and a password must not be.
            raise UsageError("an address has no user and password: put the server's key into IQLOOP_API_KEY")
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"expected an address such as {_FORM} ({error})") from error
    if not host or parts.query:
        what = "has a query" if host else "has no host"
        raise UsageError(f"expected an address such as {_FORM}, got one that {what}")
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        raise UsageError(
            f"expected the root of the API: write {url.rstrip('/').removesuffix('/chat/completions')}#MODEL"
        )
    if not _VERSION.search(path):
        end = f"#{model}" if model else ""
        raise UsageError(
            f"expected an address with the API's version, such as {_FORM}: did you mean {url.rstrip('/')}/v1{end}?"
        )
    return Address(f"{parts.scheme}://{parts.netloc}{path}", model or None)
