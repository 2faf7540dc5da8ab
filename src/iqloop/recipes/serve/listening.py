"""Where the server listens, and when it may: beyond this machine only with a token."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from pathlib import Path

from iqloop.errors import UsageError

TOKEN = "IQLOOP_TOKEN"  # noqa: S105 (a variable's name)
SHORTEST = 16
"""Characters of a token."""


def read_token(file: Path | None) -> str | None:
    """The token of a file, else of the environment; None where neither has one. Raises `UsageError`."""
    if file is None:
        token, where = os.environ.get(TOKEN, "").strip(), TOKEN
        if not token:
            return None
    else:
        where = f"--token-file {file}"
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not plain text"
            raise UsageError(f"{where}: cannot be read ({reason})") from error
    if len(token) < SHORTEST or not token.isascii() or any(character.isspace() for character in token):
        raise UsageError(
            f"{where}: expected a token of at least {SHORTEST} characters without spaces, got {len(token)}; "
            "make one with  python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def bind(host: str, port: int, token: str | None) -> socket.socket:
    """A socket at an address, on which nothing listens yet.

    Raises `UsageError` where it cannot be had, and for an address that other machines may reach when there is no token.
    """
    try:
        # IPv4 first: it is what a client tries who is given a number.
        found = sorted(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), key=lambda entry: entry[0])
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such address: expected one of this machine's, or 127.0.0.1") from error
    family, _, _, _, address = found[0]
    if token is None and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"--host {host} lets other machines in: give a token with --token-file FILE or in {TOKEN}, or listen on "
            "127.0.0.1"
        )
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unbound(host, port, error) from error
    return bound


def listen(bound: socket.socket) -> str:
    """Let clients in; the address for a browser. Raises `UsageError` when somebody else was faster."""
    host, port = bound.getsockname()[:2]
    try:
        bound.listen(2048)
    except OSError as error:
        raise _unbound(host, port, error) from error
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unbound(host: str, port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} on {host} is in use: choose another with --port, or 0 for any that is free")
    return UsageError(f"cannot listen on {host}, port {port}: {error.strerror}")
