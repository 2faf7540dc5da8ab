"""What can go wrong with one request, in words, and whether asking again may help."""

from __future__ import annotations

import json
from dataclasses import dataclass

from iqloop.errors import CriticError

LONGEST = 200
"""Characters of a server's own words that are passed on."""


class Nonsense(Exception):
    """A server answered with what is no chat completion."""


@dataclass(frozen=True)
class Fault:
    """Why a request failed."""

    what: str
    """What the server did, as a predicate."""
    advice: str
    passing: bool
    """Whether another try may succeed."""
    reached: bool = True
    """Whether there was an answer."""
    status: int | None = None
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    late: bool = False
    """Whether all of the time that a request has was waited for."""

    def final(self, url: str, tries: int) -> CriticError:
        """The error after the last try."""
        times = f" ({tries} tries)" if tries > 1 else ""
        return CriticError(f"{url} {self.what}{times}: {self.advice}")


def fault_of(error: Exception) -> Fault | None:
    """What an exception of the openai client, or of reading an answer, means; None for any other."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        advice = "give a longer timeout, or a smaller concurrency"
        return Fault("did not answer in time", advice, passing=True, reached=False, late=True)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        words = _short(str(cause)) or type(cause).__name__
        return Fault(f"cannot be reached ({words})", "is the server running?", passing=True, reached=False)
    if isinstance(error, openai.APIStatusError):
        return _status_fault(error.status_code, error.response.text, error.response.headers.get("retry-after", ""))
    if not isinstance(error, openai.OpenAIError | Nonsense):
        return None
    return Fault(
        f"answers with what is no chat completion ({_short(str(error))})",
        "is it an OpenAI-compatible server, and is nothing in between?",
        passing=True,
    )


def _status_fault(status: int, body: str, retry_after: str) -> Fault:
    words = _words(body)
    said = f"answers {status}" + (f" ({words})" if words else "")
    if status == 408 or status == 429 or status >= 500:
        advice = "give a smaller concurrency" if status == 429 else "look at the server's log"
        return Fault(said, advice, True, status=status, retry_after=_seconds(retry_after))
    if status in (401, 403):
        return Fault(said, "put the server's key into IQLOOP_API_KEY", False, status=status)
    if status == 404:
        return Fault(said, "check the address and the model's name after #", False, status=status)
    return Fault(said, "check the model's name after #, and whether it takes images of this size", False, status=status)


def _seconds(retry_after: str) -> float | None:
    try:
        seconds = float(retry_after)
    except ValueError:  # not there, or a date, which only proxies send
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _words(body: str) -> str:
    """What a server says of an error, out of the forms in which servers say it."""
    try:
        document = json.loads(body)
    except ValueError:
        return _short(body) if "<" not in body else ""
    for key in ("error", "message", "detail"):
        if isinstance(document, dict) and document.get(key):
            document = document[key]
    return _short(document if isinstance(document, str) else json.dumps(document))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
