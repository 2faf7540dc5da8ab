"""Stage 2 of `qinsight-mini`: the whole model learns to reason and to answer in the published format, supervised.

Every crop is asked several questions at once: the prompt up to the image's last token is shared, each question with its
answer is a branch behind it, and a tree mask keeps branches apart. That is exactly the loss of separate sequences, with
one image encoding and one shared prefix. Answers come from `iqloop.critic.training.reasoning`; the loss is on them
only.

What is worth saying must first be gathered from the tokens of each image, and a language model of three layers does not
find that out from a few words in the answer (docs/log.md). So the token that closes an image is asked, after the first
layer, what the vision stage asked of the tower, by the same read-outs, which are thrown away; the layers above have a
few numbers left to put into words, or to compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.inputs import collate, encode, question
from iqloop.critic.prompts import Q_INSIGHT, Prompt
from iqloop.critic.training.crops import Batch, Label, Plan, stream
from iqloop.critic.training.pairs import CropsAndPairs, Pair, PairPlan, Tool
from iqloop.critic.training.reasoning import comparison_answer, degradation_answer, describe_answer, score_answer
from iqloop.critic.training.share_vision import share_vision
from iqloop.critic.training.vision import SHARES, Heads, Log, loss_of, optimisers, preference_loss, rate_at

ALONE_SHARE = 1 / 3
"""Fraction of the comparisons that are asked without their reference."""

GATHERED = 1
"""After so many layers of the language model an image is read out at the token that closes it."""
GATHER_WEIGHT = 0.3
"""Of the read-outs of single crops, beside the answers; those of pairs count in full."""

Answerer = Callable[[Label, np.random.Generator], str]


class Question(NamedTuple):
    """What is asked of a crop."""

    prompt: Prompt
    answer: Answerer
    rated_too: bool
    """Whether a photograph of which only a human score is known can be asked."""
    share: float = 1.0
    """Fraction of the steps on crops that ask it."""


QUESTIONS: tuple[Question, ...] = (
    Question(Q_INSIGHT["score"], score_answer, rated_too=True),
    Question(Q_INSIGHT["degradation"], degradation_answer, rated_too=False),
    # Its words are those of the other answers' thoughts.
    Question(Q_INSIGHT["describe"], describe_answer, rated_too=True, share=0.25),
)


@dataclass(frozen=True)
class WarmstartSettings:
    """Hyper-parameters of the stage."""

    steps: int = 900
    plans: tuple[Plan, ...] = (
        Plan(224, 32),
        PairPlan(168, 16),
        Plan(224, 32),
        PairPlan(224, 9),
        Plan(336, 14),
        PairPlan(168, 16),
    )
    """Sizes of crops and of pairs, in turn."""
    questions: tuple[Question, ...] = QUESTIONS
    """What is asked of crops."""
    rate: float = 4e-3
    """Peak rate of the language model's matrices (Muon)."""
    embed_rate: float = 2e-3
    """Peak rate of its embeddings and gains (AdamW)."""
    vision_rate: float = 1e-3
    """Peak rate of the vision tower's matrices; it has learned already. 0 freezes the tower."""
    weight_decay: float = 0.02
    warmup: float = 0.05
    rated_share: float = 0.3
    """Fraction of the crops that are photographs with a human score. More than in the vision stage, whose read-out of
    the score agreed better with people (SRCC 0.50) than the answers that 12 % had taught (0.44)."""
    clean_share: float = 0.3
    """Fraction of the other crops that are clean. More than of each distortion: the tower is surer that a photograph is
    clean where it has learned on that photograph, so on others too many would be called damaged (docs/log.md)."""
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    """How often each class of damage is drawn, as in the vision stage: drawn alike, the answers knew less of
    compression than the tower's own read-out (docs/log.md)."""
    seed: int = 0
    save_every: int = 150


@dataclass
class Packed:
    """A batch of crops with all their questions and answers, one row a crop."""

    inputs: dict[str, Tensor]
    """Keyword arguments for the model."""
    targets: Tensor
    """``(B, L)`` token to be predicted at each place, -100 where none is."""
    labels: tuple[Label, ...] = ()
    """Of the rows, if they are single crops."""
    pairs: tuple[Pair, ...] = ()
    """The pairs of the rows, if they are comparisons."""


def pack_questions(
    checkpoint: Checkpoint, batch: Batch, rng: np.random.Generator, questions: Sequence[Question] = QUESTIONS
) -> Packed:
    """Tokens, tree mask, positions and targets of a batch."""
    views = [image for image in batch.pixels.permute(0, 3, 1, 2).float() / 255]
    texts = [question(checkpoint, asked.prompt) for asked in questions]
    openings = [encode(checkpoint, text, [views[0]]) for text in texts]
    shared = 0
    # A question keeps a token of its own, where its answer is predicted.
    while all(len(o) - 1 > shared and o[shared] == openings[0][shared] for o in openings):
        shared += 1
    stop = checkpoint.tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]
    rows: list[list[int]] = []
    segments: list[list[int]] = []
    targets: list[list[int]] = []
    for label in batch.labels:
        row, segment, target = list(openings[0][:shared]), [0] * shared, [-100] * shared
        for k, asked in enumerate(questions):
            if label.distortion_class is None and not asked.rated_too:
                continue
            answer = checkpoint.tokenizer(asked.answer(label, rng), add_special_tokens=False)["input_ids"] + stop
            branch = openings[k][shared:] + answer
            row += branch
            segment += [k + 1] * len(branch)
            # A place predicts the next token of its own branch; the last has nothing left to say.
            target += [-100] * (len(branch) - len(answer) - 1) + answer + [-100]
        rows.append(row)
        segments.append(segment)
        targets.append(target)
    return replace(_collate(checkpoint, views, rows, segments, targets, shared), labels=tuple(batch.labels))


def _collate(
    checkpoint: Checkpoint,
    views: Sequence[Tensor],
    rows: Sequence[list[int]],
    segments: Sequence[list[int]],
    targets: Sequence[list[int]],
    shared: int,
) -> Packed:
    device = checkpoint.device
    length = max(len(row) for row in rows)
    pad = checkpoint.tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=device)
    segment = torch.tensor([s + [-1] * (length - len(s)) for s in segments], device=device)
    target = torch.tensor([t + [-100] * (length - len(t)) for t in targets], device=device)
    opening = collate(checkpoint, [row[:shared] for row in rows], [[view] for view in views])
    first, delta = checkpoint.model.model.get_rope_index(
        opening.input_ids,
        mm_token_type_ids=opening.mm_token_type_ids,
        image_grid_thw=opening.image_grid_thw,
        attention_mask=opening.attention_mask,
    )
    place = torch.arange(length, device=device).expand(len(rows), -1)
    starts = torch.full_like(segment, 0)
    for k in range(1, int(segment.max()) + 1):
        inside = segment == k
        start = torch.where(inside, place, length).amin(1, keepdim=True)
        starts = torch.where(inside, start, starts)
    after = shared + delta + (place - starts)
    positions = torch.cat([first, after[:, shared:].expand(3, -1, -1)], dim=2)
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    seen = causal & ((segment[:, None] == 0) | (segment[:, :, None] == segment[:, None]))
    mask = torch.zeros(seen.shape, device=device).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "pixel_values": opening.pixel_values,
        "image_grid_thw": opening.image_grid_thw,
    }
    return Packed(inputs, target)


def pack_pairs(checkpoint: Checkpoint, pairs: Sequence[Pair], rng: np.random.Generator) -> Packed:
    """Tokens and targets of comparisons: every third without its reference, where there is a better image.

    Each pair is shown in both orders, one row after the other: what does not turn round with the images, a liking for
    what is shown first, earns nothing. An image is encoded once for both where the model shares what is equal
    (`iqloop.critic.training.share_vision`).
    """
    stop = checkpoint.tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]
    rows, answers, views = [], [], []
    alone = [pair.choice != "similar" and rng.random() < ALONE_SHARE for pair in pairs]
    shown = [one for pair in pairs for one in (pair, pair.swapped())]
    for k, pair in enumerate(shown):
        by_itself = alone[k // 2]
        arrays = (pair.a, pair.b) if by_itself else (pair.reference, pair.a, pair.b)
        images = [torch.from_numpy(array).permute(2, 0, 1).float() / 255 for array in arrays]
        prompt = Q_INSIGHT["compare" if by_itself else "compare-reference"]
        opening = encode(checkpoint, question(checkpoint, prompt), images)
        answer = checkpoint.tokenizer(comparison_answer(pair, rng), add_special_tokens=False)["input_ids"] + stop
        rows.append(opening + answer)
        answers.append(len(answer))
        views.append(images)
    made = collate(checkpoint, rows, views)
    # Left-padded: every row ends with its answer, and each place predicts the next token.
    targets = torch.full_like(made.input_ids, -100)
    for i, count in enumerate(answers):
        targets[i, -count - 1 : -1] = made.input_ids[i, -count:]
    inputs = {
        "input_ids": made.input_ids,
        "attention_mask": made.attention_mask,
        "mm_token_type_ids": made.mm_token_type_ids,
        "pixel_values": made.pixel_values,
        "image_grid_thw": made.image_grid_thw,
    }
    return Packed(inputs, targets, pairs=tuple(shown))


def pack(
    checkpoint: Checkpoint,
    batch: Batch | Sequence[Pair],
    rng: np.random.Generator,
    questions: Sequence[Question] = QUESTIONS,
) -> Packed:
    """Tokens and targets of a step's batch, of either kind."""
    if isinstance(batch, Batch):
        return pack_questions(checkpoint, batch, rng, questions)
    return pack_pairs(checkpoint, batch, rng)


def answer_loss(checkpoint: Checkpoint, packed: Packed, heads: Heads | None = None) -> Tensor:
    """Mean cross-entropy of the answers' tokens; with ``heads`` also of what they read where an image is closed."""
    model = checkpoint.model
    model.model.rope_deltas = None
    with torch.autocast(checkpoint.device.type, dtype=torch.bfloat16):
        found = model.model(**packed.inputs, use_cache=False, output_hidden_states=heads is not None)
        kept = packed.targets != -100
        logits = model.lm_head(found.last_hidden_state[kept])
    loss = F.cross_entropy(logits.float(), packed.targets[kept])
    if heads is None:
        return loss
    hidden = found.hidden_states[GATHERED].float()
    places = closings(packed.inputs["input_ids"], model.config.vision_end_token_id, 2 if packed.pairs else 1)
    read = [heads(hidden[torch.arange(len(hidden), device=hidden.device), place][:, None]) for place in places]
    if packed.pairs:
        return loss + preference_loss(torch.cat([outputs[-1] for outputs in read]), packed.pairs)
    return loss + GATHER_WEIGHT * loss_of(read[0], packed.labels)


def closings(ids: Tensor, closing: int, count: int) -> tuple[Tensor, ...]:
    """Where the last ``count`` images of each row ``(B, L)`` end, first to last: places ``(B,)`` of ``closing``."""
    places = torch.where(ids == closing, torch.arange(ids.shape[1], device=ids.device), -1).sort(dim=1).values
    return places[:, -count:].unbind(1)


def train_warmstart(
    checkpoint: Checkpoint,
    photographs: Sequence[np.ndarray[Any, Any]],
    rated: Sequence[tuple[np.ndarray[Any, Any], float]],
    held_out: Sequence[np.ndarray[Any, Any]],
    tools: Sequence[Tool],
    settings: WarmstartSettings,
    folder: Path,
    log: Log,
    workers: int = 1,
    heads_begin: Mapping[str, Tensor] | None = None,
) -> None:
    """Train the model in place; checkpoints and resumes in ``folder``.

    ``heads_begin`` is the state of the vision stage's heads.
    """
    torch.manual_seed(settings.seed)
    model = checkpoint.model
    model.requires_grad_(True).train()
    model.model.visual.requires_grad_(settings.vision_rate > 0)
    undo = share_vision(model)
    saved_state = folder / "warmstart.pt"
    state = torch.load(saved_state, weights_only=True) if saved_state.exists() else None
    start = state["step"] if state else 0
    plans = [settings.plans[i % len(settings.plans)] for i in range(settings.steps)]
    crops = CropsAndPairs(
        tools,
        photographs,
        rated,
        plans,
        settings.seed + 100,
        start,
        settings.rated_share,
        settings.clean_share,
        settings.shares,
    )
    batches = stream(crops, workers)
    half = [replace(plan, count=max(1, plan.count // 2)) for plan in settings.plans] * 2
    validation = CropsAndPairs(tools, held_out, (), half, settings.seed + 7)
    asked = settings.questions
    test = [pack(checkpoint, validation.batch(i), np.random.default_rng(i), asked) for i in range(len(half))]
    heads = Heads(model.config.text_config.hidden_size)
    if heads_begin is not None:
        heads.load_state_dict(heads_begin)
    language = (model.model.language_model, heads)
    pair = [*optimisers(language, settings.rate, settings.embed_rate, settings.weight_decay)]
    if settings.vision_rate > 0:
        tower, rate = (model.model.visual,), settings.vision_rate
        pair += optimisers(tower, rate, rate / 5, settings.weight_decay)
    peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in pair]
    if state is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        for optimiser, saved in zip(pair, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    began, losses = time.monotonic(), []
    for step, batch in enumerate(batches, start=start):
        factor = rate_at(step, settings.steps, settings.warmup)
        for optimiser, rates in zip(pair, peaks, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        rng = np.random.default_rng([settings.seed, step])
        packed = pack(checkpoint, batch, rng, [one for one in asked if rng.random() < one.share])
        loss = answer_loss(checkpoint, packed, heads)
        loss.backward()
        nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
        for optimiser in pair:
            optimiser.step()
            optimiser.zero_grad()
        losses.append(loss.item())
        done = step + 1
        if done % 25 == 0:
            log({"step": done, "loss": float(np.mean(losses[-25:])), "seconds": time.monotonic() - began})
        if done % settings.save_every == 0 or done == settings.steps:
            with torch.no_grad():
                held = [(bool(packed.pairs), answer_loss(checkpoint, packed).item()) for packed in test]
            figures = {"held_out_loss": float(np.mean([loss for _, loss in held]))}
            compared = [loss for is_pairs, loss in held if is_pairs]
            if compared:
                figures["held_out_pairs_loss"] = float(np.mean(compared))
            log({"step": done, **figures})
            optimiser_states = [optimiser.state_dict() for optimiser in pair]
            state = {"model": model.state_dict(), "heads": heads.state_dict(), "step": done}
            state["optimisers"] = optimiser_states
            partial = saved_state.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(saved_state)
    undo()
    model.requires_grad_(False).eval()
