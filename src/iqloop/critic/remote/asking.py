"""Questions about pictures, as requests: answers written out and parsed, and looks at what might be written next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from iqloop.critic.prompts import Prompt
from iqloop.critic.reason import RETRIES, Written
from iqloop.critic.remote.connection import Connection
from iqloop.critic.remote.pictures import Picture
from iqloop.critic.remote.request import Reply, Request, Token, written
from iqloop.critic.remote.served import Served
from iqloop.critic.remote.structure import answer_regex
from iqloop.critic.remote.token_ratings import Look
from iqloop.critic.verdicts import Unparsed
from iqloop.errors import CriticError

T = TypeVar("T")
Pictures = tuple[Picture, ...]


class _First(NamedTuple):
    """The first answer of several that did not parse."""

    raw: str
    value: Unparsed
    reply: Reply


@dataclass(frozen=True)
class Asker:
    """How one critic asks."""

    connection: Connection
    served: Served
    text_first: bool = False
    structured: bool = False
    """Hold every written answer to its form; else only those that are asked for again, where the server can."""
    temperature: float = 1.0
    """Of drawn answers."""
    seed: int = 0

    @property
    def begins(self) -> bool:
        """Whether the answer's beginning can be given: by the message, or by the chat template where it is known."""
        server = self.connection.server
        return server.continues or (server.kind == "transformers" and self.served.template is not None)

    def look(self, prompt: Prompt, shown: Pictures, begin: str) -> Look:
        """What may follow the beginning of an answer, for servers that go on from one."""

        def look(text: str, count: int) -> Sequence[Token]:
            return self._ask(Request(prompt, shown, count, begin + text, probabilities=True)).tokens or ()

        return look

    def describe(self, prompt: Prompt, shown: Pictures) -> str:
        """A greedy answer in whatever form."""
        request = Request(prompt, shown, self.served.max_new_tokens)
        return written(self._ask(request), request, self.connection.server).strip()

    def write(
        self,
        prompt: Prompt,
        shown: Pictures,
        parse: Callable[[str], T | Unparsed],
        samples: int = 1,
        probabilities: bool = False,
    ) -> list[tuple[Written[T], Reply]]:
        """``samples`` answers with what they parse to.

        As in `iqloop.critic.reason.write_parsed`: one answer is greedy, several are drawn, and one that does not parse
        is drawn again, at most `RETRIES` times.
        """
        return [self._write(prompt, shown, parse, samples, sample, probabilities) for sample in range(samples)]

    def _write(
        self,
        prompt: Prompt,
        shown: Pictures,
        parse: Callable[[str], T | Unparsed],
        samples: int,
        sample: int,
        probabilities: bool,
    ) -> tuple[Written[T], Reply]:
        begin = self.served.answer_begin if prompt.thinks else ""
        first: _First | None = None
        for attempt in range(1 + RETRIES):
            drawn = self.temperature if samples > 1 else 1.0 if attempt else 0.0
            held = self.structured or (attempt > 0 and self.connection.server.structures)
            request = Request(
                prompt,
                shown,
                self.served.max_new_tokens,
                begin,
                drawn,
                hash((self.seed, sample, attempt)) & 0x7FFFFFFF,
                probabilities,
                answer_regex(prompt, begin) if held else None,
            )
            reply = self._ask(request)
            raw = written(reply, request, self.connection.server)
            value = parse(raw)
            if not isinstance(value, Unparsed):
                return Written(raw, value, attempt), reply
            first = first or _First(raw, value, reply)
        assert first is not None
        return Written(first.raw, first.value, 1 + RETRIES), first.reply

    def _ask(self, request: Request) -> Reply:
        template = self.served.template if self.connection.server.kind == "transformers" else None
        reply = self.connection.ask(request, template, self.text_first)
        told = reply.tokens is not None and all(token.top for token in reply.tokens)
        if request.probabilities and not told:
            raise no_probabilities(self.connection.address.url)
        return reply


def no_probabilities(url: str) -> CriticError:
    """The error for a server that does not tell the probabilities of its tokens."""
    return CriticError(
        f"{url} tells no top_logprobs, which an expected rating is made of: give decoding='reason' (--decode reason), "
        "or serve the model with vLLM"
    )
