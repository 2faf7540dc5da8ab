"""What a server offers, found out once: fields beyond OpenAI's are sent only to one that is known to take them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from iqloop.critic.remote.faults import fault_of
from iqloop.errors import CriticError, UsageError

if TYPE_CHECKING:
    from openai import OpenAI

T = TypeVar("T")
Kind = Literal["vllm", "transformers", "other"]
"""vLLM; ``transformers serve``; any other."""

START_SECONDS = 30.0
"""How long a server may take to say what it is."""
PROBE_SECONDS = 5.0
"""How long a look whether it is still there may take."""


@dataclass(frozen=True)
class Server:
    """What is known of a server."""

    kind: Kind = "other"
    models: tuple[str, ...] = ()
    """What it lists; none where it lists nothing."""

    @property
    def continues(self) -> bool:
        """Whether it goes on from the beginning of an answer, with the probabilities of the next tokens."""
        return self.kind == "vllm"

    @property
    def structures(self) -> bool:
        """Whether it holds an answer to a regular expression."""
        return self.kind == "vllm"

    @property
    def tells_probabilities(self) -> bool:
        """Whether it may be asked for ``top_logprobs``; ``transformers serve`` takes the field and ignores it."""
        return self.kind != "transformers"

    @property
    def splits_thoughts(self) -> bool:
        """Whether it always takes the thought out of an answer."""
        return self.kind == "transformers"


def probe(client: OpenAI, url: str) -> Server:
    """Ask a server what it serves and what it is.

    Raises `iqloop.errors.CriticError` when it cannot be reached, or refuses the key. A list of models that is not
    given is no fault: ``transformers serve`` has none where the hub's cache is empty.
    """
    import openai

    patient = client.with_options(timeout=START_SECONDS)
    listed: list[Any] = []
    try:
        document = json.loads(_twice(patient.models.with_raw_response.list).text)
        listed = [entry for entry in document["data"] if isinstance(entry, dict) and "id" in entry]
    except (openai.APIConnectionError, openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise _final(error, url) from error
    except (openai.OpenAIError, ValueError, LookupError, TypeError):  # it answers, and not with a list
        pass
    models = tuple(str(entry["id"]) for entry in listed)
    if any(entry.get("owned_by") == "vllm" for entry in listed):
        return Server("vllm", models)
    return Server("transformers" if _is_transformers(patient, url) else "other", models)


def is_alive(client: OpenAI) -> bool:
    """Whether a server answers at all: a gateway that says its server is away is no answer."""
    import openai

    try:
        _twice(client.with_options(timeout=PROBE_SECONDS).models.with_raw_response.list)
    except openai.OpenAIError as error:
        fault = fault_of(error)
        return fault is not None and fault.reached and fault.status not in (502, 503, 504)
    return True


def choose_model(server: Server, model: str | None, url: str) -> str:
    """The model that is meant; raises `UsageError` when that is not clear, or vLLM does not serve it."""
    listed = ", ".join(server.models)
    if model is not None:
        if server.kind == "vllm" and model not in server.models:
            raise UsageError(f"{url} serves no model {model!r}: it has {listed}")
        return model
    if len(server.models) == 1:
        return server.models[0]
    what = f"serves {listed}" if server.models else "does not say what it serves"
    raise UsageError(f"{url} {what}: name the model, {url}#MODEL")


def _is_transformers(client: OpenAI, url: str) -> bool:
    """Only ``transformers serve`` describes an API with these three paths."""
    import openai

    root = re.sub(r"/v\d\w*(/.*)?$", "", url)
    try:
        told = json.loads(_twice(lambda: client.get(f"{root}/openapi.json", cast_to=str)))
        return {"/load_model", "/reset", "/v1/chat/completions"} <= set(told["paths"])
    except openai.APIConnectionError as error:  # a guess would change what is asked
        raise _final(error, url) from error
    except (openai.OpenAIError, ValueError, LookupError, TypeError):  # it does not describe itself
        return False


def _twice(ask: Callable[[], T]) -> T:
    """A connection that was kept open may be lost, since some servers close it after an error; a new one is not."""
    import openai

    try:
        return ask()
    except openai.APITimeoutError:
        raise
    except openai.APIConnectionError:
        return ask()


def _final(error: Exception, url: str) -> CriticError:
    fault = fault_of(error)
    assert fault is not None
    return fault.final(url, 1)
