"""Answers written out: greedy by default, so that they are reproducible; batched, left padded.

An answer that does not parse is asked for again by seeded sampling, at most twice, and stays `Unparsed` after that; a
runaway answer ends at ``max_new_tokens`` and does not parse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.inputs import collate, encode
from iqloop.critic.verdicts import Unparsed

T = TypeVar("T")

RETRIES = 2
"""How often an answer that does not parse is asked for again."""


@torch.no_grad()
def write(
    checkpoint: Checkpoint,
    text: str,
    images: Sequence[Sequence[Tensor]],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> list[str]:
    """The answer to each question, special tokens removed; ``temperature`` 0 is greedy."""
    inputs = collate(checkpoint, [encode(checkpoint, text, views) for views in images], images)
    options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        options = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    devices = [checkpoint.device] if checkpoint.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        checkpoint.model.model.rope_deltas = None
        out = checkpoint.model.generate(
            **inputs.as_dict(), max_new_tokens=max_new_tokens or checkpoint.source.max_new_tokens, **options
        )
    new = out[:, inputs.input_ids.shape[1] :]
    return [str(answer) for answer in checkpoint.processor.batch_decode(new, skip_special_tokens=True)]


def write_parsed(
    checkpoint: Checkpoint,
    text: str,
    images: Sequence[Sequence[Tensor]],
    parse: Callable[[str], T | Unparsed],
    *,
    seed: int = 0,
) -> list[tuple[str, T | Unparsed]]:
    """Each question's answer and what it parses to, after at most `RETRIES` sampled retries."""
    begin = checkpoint.answer_begin
    answers = [(begin + raw, parse(begin + raw)) for raw in write(checkpoint, text + begin, images)]
    for attempt in range(RETRIES):
        failed = [i for i, (_, value) in enumerate(answers) if isinstance(value, Unparsed)]
        if not failed:
            break
        left = [images[i] for i in failed]
        again = write(checkpoint, text + begin, left, temperature=1.0, seed=seed + attempt + 1)
        for i, raw in zip(failed, again, strict=True):
            value = parse(begin + raw)
            if not isinstance(value, Unparsed):
                answers[i] = (begin + raw, value)
    return answers
