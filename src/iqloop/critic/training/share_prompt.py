"""Read a prompt once for its N answers.

The loss of GRPO, and the reference's, need the probability of N answers to one question. trl reads the question, image
tokens and all, with each of them. Here a question is one row: the prompt, then the answers as branches behind it, kept
apart by a tree mask, each at the positions that it would have alone. The probabilities are the same; what is read is
the prompt once and the N answers instead of N times both.

So it is where the answers are written (`share_prefill`): a prompt's keys and values are computed once and repeated.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from iqloop.critic.training.share_vision import core_of, distinct


@dataclass(frozen=True)
class Tree:
    """Questions as rows."""

    inputs: dict[str, Tensor]
    """Keyword arguments for the model."""
    labels: Tensor
    """``(G, L)``: the token that each place predicts, -100 where none is."""
    row: Tensor
    """``(B, T)``: of each answer's tokens, the row that predicts it."""
    place: Tensor
    """``(B, T)``: and the place in it."""


def questions_of(
    prompts: Tensor, mask: Tensor, pixel_values: Tensor, image_grid_thw: Tensor, num_images: Sequence[int]
) -> list[list[int]]:
    """Which of B rows ask the same: equal tokens and equal images.

    Args:
        prompts: ``(B, P)`` token ids.
        mask: ``(B, P)``, 0 for padding.
        pixel_values: patches of all images.
        image_grid_thw: their grids.
        num_images: of each row.
    """
    kinds = distinct(pixel_values, image_grid_thw)[1]
    found: dict[tuple[Any, ...], list[int]] = {}
    start = 0
    for i, count in enumerate(num_images):
        key = (tuple(prompts[i][mask[i].bool()].tolist()), tuple(kinds[start : start + count]))
        found.setdefault(key, []).append(i)
        start += count
    return list(found.values())


def share_prefill(model: Any) -> None:
    """Make a Qwen2-VL or Qwen2.5-VL (plain, or wrapped by peft) read equal prompts of a batch once in ``generate``.

    The answers drawn with a given state of torch's generator stay the same. A transformers without the hook that this
    needs is left as it is.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "_prefill"):
        return
    original = base._prefill

    @wraps(original)
    def shared(input_ids: Tensor, generation_config: Any, model_kwargs: dict[str, Any], **options: Any) -> Any:
        cache, encoded = model_kwargs.get("past_key_values"), model_kwargs.get("mm_encoder_outputs") or {}
        unread = cache is not None and not cache.get_seq_length()
        if not unread or "image" not in encoded or any(model_kwargs.get(name) is None for name in _READ):
            return original(input_ids, generation_config, model_kwargs, **options)
        mask, kinds, positions = (torch.as_tensor(model_kwargs[name]) for name in _READ)
        images = encoded["image"].pooler_output
        sizes = torch.tensor([[1, 1, len(image)] for image in images])
        counts = ((kinds == 1) & (torch.nn.functional.pad(kinds, (1, -1)) != 1)).sum(1).tolist()
        groups = questions_of(input_ids, mask, torch.cat(list(images)), sizes, counts)
        firsts = [members[0] for members in groups]
        place = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
        for g, members in enumerate(groups):
            place[members] = g
        few = copy.copy(encoded["image"])
        few.pooler_output = tuple(images[i] for i in _places(firsts, counts))
        few.last_hidden_state = None
        some = (mask[firsts], kinds[firsts], positions[..., firsts, :])
        fewer = {**model_kwargs, **dict(zip(_READ, some, strict=True)), "mm_encoder_outputs": {"image": few}}
        out = original(input_ids[firsts], generation_config, fewer, **options)
        out.past_key_values.batch_select_indices(place)
        out.logits = out.logits[place]
        return out

    base._prefill = shared


_READ = ("attention_mask", "mm_token_type_ids", "position_ids")
"""What a batch of prompts is read with, beside the encoded images."""


def plant(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    answer_length: int,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    num_images: Sequence[int],
    mm_token_type_ids: Tensor,
) -> Tree:
    """Rows of prompt and answer as trees.

    Args:
        model: Qwen2-VL or Qwen2.5-VL, for its positions.
        input_ids: ``(B, P + T)``: prompts padded on the left, answers on the right.
        attention_mask: ``(B, P + T)``.
        answer_length: T.
        pixel_values: patches of all images.
        image_grid_thw: their grids.
        num_images: of each row.
        mm_token_type_ids: ``(B, P)`` or longer; which tokens are images'.
    """
    device = input_ids.device
    prompt_length = input_ids.shape[1] - answer_length
    prompts, answers = input_ids[:, :prompt_length], input_ids[:, prompt_length:]
    prompt_mask, answer_mask = attention_mask[:, :prompt_length].bool(), attention_mask[:, prompt_length:].bool()
    groups = questions_of(prompts, prompt_mask, pixel_values, image_grid_thw, num_images)
    ids: list[Tensor] = []
    labels: list[Tensor] = []
    branches: list[Tensor] = []
    steps: list[Tensor] = []  # how far a place is behind the prompt's last token
    row = torch.zeros_like(answers)
    place = torch.zeros_like(answers)
    for g, members in enumerate(groups):
        prompt = prompts[members[0]][prompt_mask[members[0]]]
        # The prompt's last token stands in every branch: it predicts another first token in each.
        parts, targets = [prompt[:-1]], [torch.full_like(prompt[:-1], -100)]
        marks, depths = [torch.zeros_like(prompt[:-1])], [torch.arange(1 - len(prompt), 0, device=device)]
        at = len(prompt) - 1
        for k, member in enumerate(members, 1):
            answer = answers[member][answer_mask[member]]
            parts.append(torch.cat([prompt[-1:], answer[:-1]]))
            targets.append(answer)
            marks.append(torch.full_like(answer, k))
            depths.append(torch.arange(len(answer), device=device))
            row[member] = g
            place[member, : len(answer)] = torch.arange(at, at + len(answer), device=device)
            at += len(answer)
        ids.append(torch.cat(parts))
        labels.append(torch.cat(targets))
        branches.append(torch.cat(marks))
        steps.append(torch.cat(depths))
    branch = _padded(branches, -1)
    firsts = [members[0] for members in groups]
    images = _images_of(firsts, pixel_values, image_grid_thw, num_images)
    positions = _positions(model, prompts[firsts], prompt_mask[firsts], mm_token_type_ids[firsts], images[1], steps)
    inputs = {
        "input_ids": _padded(ids, 0),
        "attention_mask": _tree_mask(branch, next(model.parameters()).dtype),
        "position_ids": positions,
        "pixel_values": images[0],
        "image_grid_thw": images[1],
    }
    return Tree(inputs, _padded(labels, -100), row, place)


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _images_of(
    rows: Sequence[int], pixel_values: Tensor, image_grid_thw: Tensor, num_images: Sequence[int]
) -> tuple[Tensor, Tensor]:
    parts = pixel_values.split(image_grid_thw.prod(-1).tolist())
    chosen = _places(rows, num_images)
    return torch.cat([parts[j] for j in chosen]), image_grid_thw[chosen]


def _places(rows: Sequence[int], num_images: Sequence[int]) -> list[int]:
    """Which of all images those of some rows are."""
    starts = [sum(num_images[:i]) for i in rows]
    return [j for i, start in zip(rows, starts, strict=True) for j in range(start, start + num_images[i])]


def _positions(
    model: Any, prompts: Tensor, mask: Tensor, kinds: Tensor, grid: Tensor, steps: Sequence[Tensor]
) -> Tensor:
    """``(3, G, L)``: in the prompt what the model says, in a branch on from the prompt's last token."""
    width = prompts.shape[1]
    core = core_of(model)
    before = core.rope_deltas
    own, _ = core.get_rope_index(
        prompts, mm_token_type_ids=kinds[:, :width], image_grid_thw=grid, attention_mask=mask.long()
    )
    core.rope_deltas = before
    rows = []
    for g, step in enumerate(steps):
        inside = own[:, g][:, mask[g]]  # (3, tokens of this prompt)
        shared = inside.shape[1] - 1
        behind = inside[:, -1:] + step[shared:][None]
        rows.append(torch.cat([inside[:, :shared], behind], dim=1).T)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).permute(2, 0, 1)


def _tree_mask(branch: Tensor, dtype: torch.dtype) -> Tensor:
    """``(G, 1, L, L)``: each place sees the prompt and its own branch, up to itself."""
    length = branch.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    seen = causal & ((branch[:, None] == 0) | (branch[:, :, None] == branch[:, None]))
    mask = torch.zeros(seen.shape, dtype=dtype, device=branch.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
