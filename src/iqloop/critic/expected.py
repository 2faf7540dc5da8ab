"""The expected rating: E over the digits of the answer, to tenths, in one differentiable forward.

After the prefix ``{"rating": `` the next token is the integer digit; one branch per digit, followed by the point,
gives the distribution of the tenths. With p(d) over the digits of the range and p(t | d.) over the tenths,

    E = sum_d p(d) [d + p("." | d) sum_t p(t | d.) (t + 0.45) / 10],

0.45 tenths being the mean of hundredths that are not looked at. The top of the range has no fraction, so E stays
inside it. Deterministic, where a sampled answer (as in the published demos) is one draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iqloop.critic.branches import Tree, tree_logits
from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.context import Context, tokens_of
from iqloop.errors import CriticError


class Expected(NamedTuple):
    """Moments of the rating of B questions, each ``(B,)`` float32."""

    mean: Tensor
    std: Tensor
    digit_mass: Tensor
    """Probability that the next token is a digit of the range at all."""


def expected_rating(
    checkpoint: Checkpoint, context: Context, stems: Sequence[Sequence[int]], low: int = 1, high: int = 5
) -> Expected:
    """Expected rating of each of B questions.

    Args:
        checkpoint: whom to ask; each digit must be one token of its vocabulary, as in Qwen's.
        context: what was read of each question.
        stems: the rest of each question with the beginning of the answer, up to the digit, as tokens.
        low: lowest integer digit.
        high: highest rating, a digit.
    """
    digits, point = _digit_tokens(checkpoint)
    tree = Tree.of([[digits[d], point] for d in range(low, high)] + [[digits[high]]])
    logits = tree_logits(checkpoint, context, stems, tree)
    integer = logits[:, 0].softmax(-1)[:, [digits[d] for d in range(low, high + 1)]]  # (B, D)
    mass = integer.sum(-1)
    integer = integer / mass[:, None].clamp_min(1e-12)
    tenths = (torch.arange(10.0, device=mass.device) + 0.45) / 10
    mean, square = integer[:, -1] * high, integer[:, -1] * high * high
    for k, d in enumerate(range(low, high)):
        after_digit, after_point = tree.paths[k]
        has_point = logits[:, after_digit].softmax(-1)[:, point]  # (B,)
        tenth = logits[:, after_point].softmax(-1)[:, digits]
        tenth = tenth / tenth.sum(-1, keepdim=True).clamp_min(1e-12)  # (B, 10)
        value = d + tenths
        mean = mean + integer[:, k] * ((1 - has_point) * d + has_point * (tenth * value).sum(-1))
        square = square + integer[:, k] * ((1 - has_point) * d * d + has_point * (tenth * value * value).sum(-1))
    return Expected(mean, (square - mean * mean).clamp_min(0).sqrt(), mass)


def _digit_tokens(checkpoint: Checkpoint) -> tuple[list[int], int]:
    ids = [tokens_of(checkpoint, text) for text in (*"0123456789", ".")]
    if any(len(row) != 1 for row in ids):
        raise CriticError(
            f"{checkpoint.source.name}: its tokenizer does not give each digit one token; use decoding='reason'"
        )
    return [row[0] for row in ids[:10]], ids[10][0]
