"""Who asks a server that wants no token: programs of this machine, and not web pages of others in its browser.

A page from anywhere may send a form to 127.0.0.1, and one whose name is pointed there afterwards (DNS rebinding) may
read the answer. A browser says in ``Origin`` where the page came from, and in ``Host`` what name it asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from iqloop.recipes.serve.refusal import Refusal


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Raises `Refusal` where a request is a foreign page's, or for a name that is not this machine's own.

    Args:
        headers: of the request, names in lower case.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    if host and not is_local(host):
        raise Refusal(403, "without a token only 127.0.0.1, ::1 and localhost are answered for: ask for one of these")
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and _place_of(origin) != host:
        raise Refusal(403, "a web page from elsewhere may not ask: start the server with a token, and send it")


def is_local(host: str) -> bool:
    """Whether ``NAME``, ``NAME:PORT`` or ``[IPV6]:PORT`` names this machine to itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _place_of(origin: str) -> str:
    """Name and port of ``http://NAME:PORT``; empty for ``null``, which a page without a home sends."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
