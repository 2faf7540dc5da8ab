"""From an address to a critic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from iqloop.critic.prompts import TaskName
from iqloop.critic.remote.address import is_address, parse_address
from iqloop.critic.remote.connection import Connection
from iqloop.critic.remote.remote_critic import RemoteCritic
from iqloop.critic.remote.served import served_as
from iqloop.critic.verdicts import DecodingMode
from iqloop.errors import UsageError

COMPARES: TaskName = "compare-reference"
"""What a second model is there for, whatever else its name says of it."""


def create_remote(
    name: str,
    *,
    decoding: DecodingMode = "expected",
    samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    text_first: bool = False,
    thinking: bool = True,
    max_new_tokens: int | None = None,
    base: str | None = None,
    structured: bool = False,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 4,
    comparison: str | None = None,
) -> RemoteCritic:
    """The critic at an address; options as for `iqloop.create_critic`."""
    common: dict[str, Any] = {
        name: value for name, value in locals().items() if name not in ("name", "base", "thinking", "comparison")
    }
    if timeout <= 0 or retries < 0:
        raise UsageError(f"expected a timeout above 0 and retries of 0 or more, got {timeout} and {retries}")
    connection = Connection(parse_address(name), timeout=timeout, retries=retries)
    served = served_as(connection.model, base, thinking)
    if max_new_tokens is not None:
        served = replace(served, max_new_tokens=max_new_tokens)
    second = None
    if comparison is not None:
        if not is_address(comparison):
            raise UsageError(
                f"comparison of a critic on a server is an address too, http://HOST:PORT/v1#MODEL, got {comparison}"
            )
        second = create_remote(comparison, **common)
        if COMPARES not in second.served.tasks:
            second.served = replace(second.served, tasks=(COMPARES,))
    return RemoteCritic(
        connection,
        served,
        decoding=decoding,
        samples=samples,
        temperature=temperature,
        seed=seed,
        text_first=text_first,
        structured=structured,
        concurrency=concurrency,
        comparison=second,
    )
