"""One question as a request, and its answer as it came."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from iqloop.critic.prompts import Prompt
from iqloop.critic.remote.faults import Nonsense
from iqloop.critic.remote.pictures import Picture
from iqloop.critic.remote.server import Server

TOP = 20
"""How many of the likeliest tokens are asked for, where any are: as many as OpenAI and vLLM give."""


@dataclass(frozen=True)
class Request:
    """What is asked."""

    prompt: Prompt
    pictures: tuple[Picture, ...]
    max_tokens: int
    begin: str = ""
    """What the answer is made to begin with."""
    temperature: float = 0.0
    """0 is greedy."""
    seed: int = 0
    """Of an answer that is drawn."""
    probabilities: bool = False
    """Ask for the likeliest tokens at each place."""
    regex: str | None = None
    """What the answer is held to, after ``begin``."""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for requests that ask the same, without the pictures' bytes."""
        seen = tuple(picture.digest for picture in self.pictures)
        how = (self.max_tokens, self.begin, self.temperature, self.seed, self.probabilities, self.regex)
        return (self.prompt.version, seen, *how)


class Token(NamedTuple):
    """A token of an answer."""

    text: str
    top: Mapping[str, float]
    """Probabilities of the likeliest tokens at its place."""


class Reply(NamedTuple):
    """An answer as it came."""

    text: str
    """What was written after the request's ``begin``."""
    thought: str | None
    """The thought, where the server took it out of the text."""
    tokens: tuple[Token, ...] | None = None
    """All of the text, thought included; None where no probabilities came."""


def body_of(request: Request, server: Server, model: str, template: str | None, text_first: bool) -> dict[str, Any]:
    """Arguments of the client's ``chat.completions.create``.

    Args:
        request: what is asked.
        server: whom; decides which fields beyond OpenAI's are sent.
        model: as the server calls it.
        template: the model's chat template, by which ``transformers serve`` can be made to begin an answer.
        text_first: text before a single image.
    """
    pictures = iter(request.pictures)
    messages = request.prompt.messages(text_first)
    for message in messages:
        message["content"] = [
            part if part["type"] == "text" else {"type": "image_url", "image_url": {"url": next(pictures).url}}
            for part in message["content"]
        ]
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    extra: dict[str, Any] = {}
    if request.temperature > 0:
        # A checkpoint's own generation settings would narrow the draw: Qwen2.5-VL's leave one token.
        body |= {"seed": request.seed, "top_p": 1.0}
        if server.kind == "vllm":
            extra["top_k"] = -1
    if request.probabilities:
        body |= {"logprobs": True, "top_logprobs": TOP}
    if request.begin and server.continues:
        messages.append({"role": "assistant", "content": request.begin})
        extra |= {"continue_final_message": True, "add_generation_prompt": False}
    elif request.begin and template is not None:
        begun = template + "{% if add_generation_prompt %}{{ " + json.dumps(request.begin) + " }}{% endif %}"
        extra["chat_template_kwargs"] = {"chat_template": begun}
    if request.regex is not None:
        extra["structured_outputs"] = {"regex": request.regex}
    return body | ({"extra_body": extra} if extra else {})


def read_reply(text: str) -> Reply:
    """The first choice of a chat completion; raises `Nonsense` when it is none."""
    try:
        choice = json.loads(text)["choices"][0]
        message = choice["message"]
        thought = message.get("reasoning_content", message.get("reasoning"))
        said = message.get("content") or ""
        told = choice.get("logprobs")
        tokens = None if told is None else tuple(_token(place) for place in told.get("content") or ())
        if not isinstance(said, str) or not isinstance(thought, str | None):
            raise TypeError("content is no text")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise Nonsense(f"{type(error).__name__}: {error}") from error
    return Reply(said, thought, tokens)


def _token(place: Mapping[str, Any]) -> Token:
    top = {str(other["token"]): math.exp(other["logprob"]) for other in place.get("top_logprobs") or ()}
    return Token(str(place["token"]), top)


def written(reply: Reply, request: Request, server: Server) -> str:
    """The whole answer as the model wrote it, its beginning and its thought put back.

    Servers strip a thought that they take out; the spaces around it are those of the published form.
    """
    splits = server.splits_thoughts and request.prompt.thinks and reply.text.lstrip().startswith("<answer>")
    if reply.thought or splits:
        thought = (reply.thought or "").strip()
        return (f"<think> {thought} </think>" if thought else "<think> </think>") + reply.text
    return request.begin + reply.text
