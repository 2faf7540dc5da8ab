"""Many possible continuations of one prompt, in one differentiable forward.

All branches are packed behind the prompt; a tree mask lets each see the prompt and itself only, and explicit positions
place each right after the prompt. The log-probability of every branch's every token then costs one forward, with no
cache: label words, answers and the digits of a rating are all read out this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.inputs import Inputs, collate, encode


def branch_log_probs(
    checkpoint: Checkpoint, text: str, images: Sequence[Sequence[Tensor]], branches: Sequence[str]
) -> Tensor:
    """Log-probability of each continuation of ``text``: ``(B, branches)``, summed over the continuation's tokens.

    Args:
        checkpoint: whom to ask.
        text: the templated prompt with the beginning of the answer.
        images: each question's views ``(3, H, W)`` in [0, 1].
        branches: continuations; tokenised together with ``text``, so that words may join with what comes before.
    """
    inputs, tails = _prefix_and_tails(checkpoint, text, images, branches)
    logits = tree_logits(checkpoint, inputs, tails)
    totals = []
    for tail, rows in zip(tails, logits, strict=True):
        chosen = rows[:, : len(tail)].log_softmax(-1)
        index = torch.tensor(tail, device=chosen.device).view(1, -1, 1).expand(len(chosen), -1, 1)
        totals.append(chosen.gather(-1, index).squeeze(-1).sum(-1))
    return torch.stack(totals, dim=1)


def tree_logits(checkpoint: Checkpoint, inputs: Inputs, tails: Sequence[Sequence[int]]) -> list[Tensor]:
    """For each tail of k tokens the float32 logits ``(B, k + 1, vocabulary)`` before its first and after each token."""
    model, device = checkpoint.model, inputs.input_ids.device
    batch, length = inputs.input_ids.shape
    flat = [token for tail in tails for token in tail]
    positions, delta = model.model.get_rope_index(
        inputs.input_ids,
        mm_token_type_ids=inputs.mm_token_type_ids,
        image_grid_thw=inputs.image_grid_thw,
        attention_mask=inputs.attention_mask,
    )
    real = inputs.attention_mask.sum(1, keepdim=True)
    offsets = torch.tensor([i for tail in tails for i in range(len(tail))], device=device)
    after = (real + delta.to(device)) + offsets  # (B, n): mrope counts an image by its longer side, hence delta
    positions = torch.cat([positions, after.expand(3, -1, -1)], dim=2)
    tail_ids = torch.tensor(flat, device=device, dtype=inputs.input_ids.dtype).expand(batch, -1)
    inputs_ids = torch.cat([inputs.input_ids, tail_ids], dim=1)
    kept = len(flat) + 1
    model.model.rope_deltas = None  # state of an earlier generate() would be taken for this batch's
    out = model(
        input_ids=inputs_ids,
        attention_mask=_tree_mask(inputs.attention_mask, tails, model.dtype),
        position_ids=positions,
        pixel_values=inputs.pixel_values,
        image_grid_thw=inputs.image_grid_thw,
        use_cache=False,
        logits_to_keep=kept,
    )
    logits = out.logits if out.logits.dtype == torch.float64 else out.logits.float()
    first, result, start = logits[:, :1], [], 1
    for tail in tails:
        result.append(torch.cat([first, logits[:, start : start + len(tail)]], dim=1))
        start += len(tail)
    return result


def _tree_mask(attention: Tensor, tails: Sequence[Sequence[int]], dtype: torch.dtype) -> Tensor:
    """Additive mask ``(B, 1, L + n, L + n)``: causal over the prompt, each tail blind to the others."""
    batch, length = attention.shape
    total = length + sum(len(tail) for tail in tails)
    allowed = torch.ones(total, total, dtype=torch.bool, device=attention.device).tril()
    allowed[length:, length:] = False
    start = length
    for tail in tails:
        stop = start + len(tail)
        allowed[start:stop, start:stop] = torch.ones(len(tail), len(tail), dtype=torch.bool).tril()
        start = stop
    rows = allowed.expand(batch, -1, -1).clone()
    rows[:, :, :length] &= attention.bool()[:, None]
    rows |= torch.eye(total, dtype=torch.bool, device=attention.device)  # a padded row that sees nothing would be NaN
    return torch.zeros(rows.shape, dtype=dtype, device=rows.device).masked_fill(~rows, torch.finfo(dtype).min)[:, None]


def _prefix_and_tails(
    checkpoint: Checkpoint, text: str, images: Sequence[Sequence[Tensor]], branches: Sequence[str]
) -> tuple[Inputs, list[list[int]]]:
    """The tokens that all continuations share, collated, and each one's own rest."""
    rows = [[encode(checkpoint, text + branch, views) for branch in branches] for views in images]
    # The shared part is found on one row: images differ in length only, never in what follows them.
    shared = 0
    while all(len(row) > shared + 1 and row[shared] == rows[0][0][shared] for row in rows[0]):
        shared += 1
    tails = [row[shared:] for row in rows[0]]
    cut = len(rows[0][0]) - shared
    prefixes = [row[0][: len(row[0]) - cut] for row in rows]
    return collate(checkpoint, prefixes, images), tails
