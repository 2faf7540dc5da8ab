"""Answers written out: greedy or drawn, batched, each going on from a context that was read once.

Drawn answers are reproducible one by one: the k-th draw of a seed uses the same random numbers for every image, in
whatever batch it stands, so an image's answer does not depend on its neighbours (and images are compared under common
random numbers). An answer that does not parse is drawn again, at most `RETRIES` times, and stays `Unparsed` after that;
a runaway answer ends at ``max_new_tokens`` and does not parse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.context import Context, embed, extend, forward, logits_of
from iqloop.critic.verdicts import Unparsed

T = TypeVar("T")

RETRIES = 2
"""How often an answer that does not parse is asked for again."""


class Draw(NamedTuple):
    """How one answer is written."""

    temperature: float = 0.0
    """0 is greedy."""
    seed: tuple[int, ...] = (0,)
    """What the random numbers come from; used when the temperature is not 0."""


class Written(NamedTuple, Generic[T]):
    """One answer."""

    raw: str
    value: T | Unparsed
    unparsed: int
    """How many answers before it did not parse."""


@torch.no_grad()
def write(
    checkpoint: Checkpoint,
    context: Context,
    stems: Sequence[Sequence[int]],
    draws: Sequence[Draw],
    max_new_tokens: int | None = None,
) -> list[str]:
    """The answer to each of B questions, special tokens removed.

    The rules of the checkpoint's own generation settings hold: end tokens, suppressed tokens, repetition penalty.

    Args:
        checkpoint: who writes.
        context: what was read of each question.
        stems: the rest of each question with the beginning of the answer, as tokens.
        draws: how each answer is written.
        max_new_tokens: where a runaway answer ends; None is the checkpoint's own bound.
    """
    limit = max_new_tokens or checkpoint.source.max_new_tokens
    rules = _Rules(checkpoint.model.generation_config)
    context, hidden = extend(checkpoint, context, stems)
    chances = _chances(draws, limit)
    written: list[list[int]] = [[] for _ in draws]
    going = list(range(len(draws)))
    for step in range(limit):
        logits = rules.apply(logits_of(checkpoint, hidden), context.ids, context.mask, first=step == 0)
        tokens = _choose(logits, [draws[i].temperature for i in going], chances[going, step])
        for i, token in zip(going, tokens, strict=True):
            written[i].append(token)
        open_rows = [row for row, token in enumerate(tokens) if token not in rules.ends]
        if not open_rows or step + 1 == limit:
            break
        if len(open_rows) < len(going):  # those that have ended cost nothing any more
            going = [going[row] for row in open_rows]
            context = context.rows(torch.tensor(open_rows, device=context.ids.device))
            tokens = [tokens[row] for row in open_rows]
        context, hidden = _append(checkpoint, context, tokens)
    return [str(answer) for answer in checkpoint.processor.batch_decode(written, skip_special_tokens=True)]


def write_parsed(
    checkpoint: Checkpoint,
    context: Context,
    stem: Sequence[int],
    parse: Callable[[str], T | Unparsed],
    *,
    begin: str = "",
    samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    rows_at_once: int = 32,
) -> list[list[Written[T]]]:
    """For each of B rows ``samples`` answers with what they parse to, after at most `RETRIES` retries each.

    One answer is greedy and its retries are drawn at temperature 1; several are drawn at ``temperature``. ``begin`` is
    what the stem has already said of the answer.
    """
    places = [(row, sample) for row in range(len(context.ids)) for sample in range(samples)]
    found: dict[tuple[int, int], Written[T]] = {}
    waiting = places
    for attempt in range(1 + RETRIES):
        drawn = (temperature if samples > 1 else 1.0) if samples > 1 or attempt else 0.0
        failed: list[tuple[int, int]] = []
        for start in range(0, len(waiting), rows_at_once):
            piece = waiting[start : start + rows_at_once]
            index = torch.tensor([row for row, _ in piece], device=context.ids.device)
            draws = [Draw(drawn, (seed, sample, attempt)) for _, sample in piece]
            for place, raw in zip(
                piece, write(checkpoint, context.rows(index), [stem] * len(piece), draws), strict=True
            ):
                value = parse(begin + raw)
                if not isinstance(value, Unparsed):
                    found[place] = Written(begin + raw, value, attempt)
                    continue
                failed.append(place)
                first = found[place].value if place in found else value
                found[place] = Written(found[place].raw if place in found else begin + raw, first, attempt + 1)
        waiting = failed
        if not waiting:
            break
    return [[found[row, sample] for sample in range(samples)] for row in range(len(context.ids))]


def _chances(draws: Sequence[Draw], limit: int) -> np.ndarray[Any, Any]:
    """Uniform random numbers ``(B, limit)``, each row from its own seed."""
    rows = {draw.seed: None for draw in draws if draw.temperature > 0}
    made = {seed: np.random.default_rng([part & 0xFFFFFFFF for part in seed]).random(limit) for seed in rows}
    nothing = np.zeros(limit)
    return np.stack([made[draw.seed] if draw.temperature > 0 else nothing for draw in draws])


def _choose(logits: Tensor, temperatures: Sequence[float], chances: np.ndarray[Any, Any]) -> list[int]:
    """The likeliest token of each row, or where its chance falls in the distribution function."""
    tokens = logits.argmax(-1)
    if any(temperatures):
        scale = torch.tensor(temperatures, device=logits.device, dtype=torch.float64)[:, None]
        total = (logits.double() / torch.where(scale > 0, scale, 1)).softmax(-1).cumsum(-1)
        chance = torch.as_tensor(chances, device=logits.device)[:, None] * total[:, -1:]
        drawn = torch.searchsorted(total, chance, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
        tokens = torch.where(scale[:, 0] > 0, drawn, tokens)
    return [int(token) for token in tokens.tolist()]


def _append(checkpoint: Checkpoint, context: Context, tokens: Sequence[int]) -> tuple[Context, Tensor]:
    """One token more in each row; the hidden states ``(B, D)`` after it."""
    ids = torch.tensor(tokens, device=context.ids.device)[:, None]
    mask = torch.cat([context.mask, torch.ones_like(ids, dtype=torch.bool)], dim=1)
    # No padding, no mask: the attention then takes its fast path.
    shown = None if bool(mask.all()) else mask[:, None, None]
    positions = context.position.expand(3, -1, -1)
    cache, hidden = forward(checkpoint, context.cache, embed(checkpoint, ids), positions, shown)
    return Context(cache, torch.cat([context.ids, ids], dim=1), mask, context.position + 1), hidden[:, -1]


class _Rules:
    """What a generation configuration says of the next token."""

    def __init__(self, config: Any) -> None:
        ends = config.eos_token_id
        self.ends: frozenset[int] = frozenset([ends] if isinstance(ends, int) else ends or ())
        self.never = list(config.suppress_tokens or ())
        self.not_first = list(config.begin_suppress_tokens or ())
        self.penalty = float(config.repetition_penalty or 1.0)

    def apply(self, logits: Tensor, ids: Tensor, mask: Tensor, first: bool) -> Tensor:
        """``(B, vocabulary)`` logits after the rules."""
        if self.penalty != 1.0:
            # Keskar et al. 2019, section 4.1: divide what is positive, multiply what is negative; padding is no word.
            seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, (tokens, real) in enumerate(zip(ids, mask, strict=True)):
                seen[row, tokens[real]] = True
            punished = torch.where(logits > 0, logits / self.penalty, logits * self.penalty)
            logits = torch.where(seen, punished, logits)
        banned = self.never + (self.not_first if first else [])
        if banned:
            logits = logits.index_fill(-1, torch.tensor(banned, device=logits.device), -torch.inf)
        return logits
