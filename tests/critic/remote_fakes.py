"""An OpenAI-compatible server on this machine whose next tokens are scripted, and the faults it can have."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.context import extend, logits_of, see
from iqloop.critic.engine import Sitting
from iqloop.critic.prompts import Q_INSIGHT

Script = Callable[[dict[str, Any], str], Mapping[str, float]]
"""Probabilities of the next token, given a request and what the answer says so far; an empty token ends it."""

INTEGERS = {"1": 0.02, "2": 0.13, "3": 0.55, "4": 0.2, "5": 0.06, "x": 0.04}
"""Of the first token of a rating; a digit mass of 0.96."""
POINTS = {"1": 0.7, "2": 0.8, "3": 0.9, "4": 0.6}
"""Of the point after a digit."""
TENTHS = {digit: [(3 * int(digit) + 7 * t) % 11 + 1.0 for t in range(10)] for digit in POINTS}
"""Of the tenths after a digit and a point, before they are normalised; what is no digit has half of all."""


def says(text: str) -> Script:
    """Writes a text, goes on from any beginning of it, and is sure of every token."""

    def script(_: dict[str, Any], so_far: str) -> Mapping[str, float]:
        rest = text[len(so_far) :] if text.startswith(so_far) else ""
        piece = re.match(r"\s?[A-Za-z]+|.", rest, re.DOTALL)
        return {piece[0] if piece else "": 1.0}

    return script


def rates(begin: str = '<think> So so. </think><answer> {"rating": ', end: str = "} </answer>") -> Script:
    """Writes a rating with the probabilities of `INTEGERS`, `POINTS` and `TENTHS`."""

    mark = begin[begin.index("<answer>") :]

    def script(body: dict[str, Any], so_far: str) -> Mapping[str, float]:
        head, found, told = so_far.rpartition(mark)
        if not found:
            return says(begin)(body, so_far)
        if told == "":
            return INTEGERS
        if len(told) == 1:
            return {".": POINTS.get(told, 0.0), "}": 1 - POINTS.get(told, 0.0)}
        if len(told) == 2:
            weights = TENTHS[told[0]]
            return {str(t): w / sum(weights) / 2 for t, w in enumerate(weights)} | {f"?{i}": 0.05 for i in range(10)}
        return says(head + mark + told[:3] + end)(body, so_far)

    return script


class Replays:
    """The next tokens of a checkpoint of this machine: what vLLM would say of it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._sittings: dict[str, Sitting] = {}
        self._lock = threading.Lock()

    @torch.no_grad()
    def __call__(self, body: dict[str, Any], so_far: str) -> Mapping[str, float]:
        with self._lock:
            urls = image_urls(body)
            sitting = self._sittings.get("".join(urls))
            if sitting is None:
                seen = [see(self.checkpoint, [pixels_of(url)])[0] for url in urls]
                sitting = self._sittings["".join(urls)] = Sitting(self.checkpoint, [seen])
            asked = body["messages"][1]["content"][-1]["text"]
            prompt = next(prompt for prompt in Q_INSIGHT.values() if prompt.parts[-1] == asked)
            context, stem = sitting.stem(prompt, so_far)
            logits = logits_of(self.checkpoint, extend(self.checkpoint, context, [stem])[1])[0]
            if so_far == self.checkpoint.answer_begin:
                logits[self.checkpoint.model.generation_config.begin_suppress_tokens] = -torch.inf
            p, ids = logits.softmax(-1).topk(40)
        words = [self.checkpoint.tokenizer.decode([i], skip_special_tokens=True) for i in ids.tolist()]
        return dict(zip(words, p.tolist(), strict=True))


def image_urls(body: dict[str, Any]) -> list[str]:
    """The pictures of a request, in order."""
    content = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def pixels_of(url: str) -> Tensor:
    """``(3, H, W)`` in [0, 1] of a data URL."""
    kind, data = url.split(",", 1)
    assert kind == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


Fault = Callable[["Handler"], None]


def status(code: int, words: str = "no", **headers: str) -> Fault:
    """Answers with an error."""
    return lambda handler: handler.reply(code, json.dumps({"error": {"message": words}}).encode(), headers)


def document(text: str) -> Fault:
    """Answers with any document, as if all were well."""
    return lambda handler: handler.reply(200, text.encode())


def hang_up(handler: Handler) -> None:
    """Closes the connection without an answer."""
    handler.close_connection = True


def wait_for(event: threading.Event) -> Fault:
    """Says nothing until the test is over."""

    def fault(handler: Handler) -> None:
        event.wait()
        handler.close_connection = True

    return fault


class ScriptedServer(ThreadingHTTPServer):
    """Serves on a free port of this machine from the start, in a thread of its own; close it."""

    daemon_threads = True

    def __init__(self, script: Script, owner: str = "vllm", models: tuple[str, ...] = ("scripted",)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.owner, self.models = script, owner, models
        self.asked: list[dict[str, Any]] = []
        """Bodies of the questions, in the order of their coming."""
        self.keys: list[str | None] = []
        self.faults: deque[Fault] = deque()
        """Of the next questions, one each."""
        self.answers_left = math.inf
        """After so many answers the server has gone: it hangs up on everybody."""
        self.tells_probabilities = True
        self.probes = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def close(self) -> None:
        """From here on connections are refused."""
        self.shutdown()
        self.server_close()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion."""
        begun = body["messages"][-1]["content"] if body.get("continue_final_message") else ""
        so_far, ended = begun, False
        places: list[dict[str, Any]] = []
        while len(places) < body["max_tokens"]:
            p = self.script(body, so_far)
            token = max(p, key=lambda word: p[word])
            if not token:
                ended = True
                break
            likely = sorted(p.items(), key=lambda item: -item[1])[: body.get("top_logprobs", 0)]
            top = [{"token": word, "logprob": math.log(chance)} for word, chance in likely if chance > 0]
            places.append({"token": token, "logprob": math.log(p[token]), "top_logprobs": top})
            so_far += token
        told = {"content": places} if body.get("logprobs") and self.tells_probabilities else None
        message = {"role": "assistant", "content": so_far[len(begun) :]}
        return {"choices": [{"message": message, "logprobs": told, "finish_reason": "stop" if ended else "length"}]}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def reply(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.server.answers_left <= 0:
            return hang_up(self)
        if self.path != "/v1/models":
            return self.reply(404, b"{}")
        self.server.probes += 1
        listed = [{"id": name, "object": "model", "owned_by": self.server.owner} for name in self.server.models]
        self.reply(200, json.dumps({"object": "list", "data": listed}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.answers_left <= 0:
            return hang_up(self)
        self.server.asked.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        if self.server.faults:
            return self.server.faults.popleft()(self)
        if body["model"] not in self.server.models:
            return status(404, f"The model `{body['model']}` does not exist.")(self)
        self.server.answers_left -= 1
        self.reply(200, json.dumps(self.server.complete(body)).encode())


Serve = Callable[..., ScriptedServer]
"""The fixture ``serve``: starts a scripted server."""
