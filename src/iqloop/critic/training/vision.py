"""Stage 1 of `qinsight-mini`: the vision tower learns to perceive degradations, before any language.

Three things make a tower of four million parameters learn this on two CPU cores: the fast forward of
`iqloop.critic.fast`; a patch embedding that starts as a whitened 2-D DCT (natural patches fall as 1/f, so a random
start drowns the high frequencies that tell noise, blur and compression apart); and small crops first, large ones later.
Heads on the mean visual token ask more than the product will (which of 18 functions at which severity, not only which
class): richer labels, better features. Of pairs of one scene (`iqloop.critic.training.pairs`) a head learns which is
better, each image seen alone: what a comparison will need of the tower is learned before there is any language. The
heads are thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iqloop.critic.evaluation.comparison import CLEAR
from iqloop.critic.pixels import patchify
from iqloop.critic.training.crops import Batch, Crops, Label, Plan, stream
from iqloop.critic.training.opinion import FUNCTIONS
from iqloop.critic.training.pairs import CropsAndPairs, Pair, PairPlan, Tool
from iqloop.critic.verdicts import CLASSES, SEVERITIES
from iqloop.errors import UsageError

Log = Callable[[dict[str, float]], None]
SHARES: Mapping[str, float] = {"noise": 0.5, "blur": 1.0, "compression": 1.5, "darken": 1.0}
"""How often each class of damage is drawn, relative to the others: noise is learned first and best."""
HELD_OUT, HELD_OUT_PAIRS = 30, 12
"""Batches of crops and of pairs that a checkpoint is measured on."""


@dataclass(frozen=True)
class VisionSettings:
    """Hyper-parameters of the stage."""

    steps: int = 3400
    fresh: bool = True
    """Start the patch embedding as a DCT; False goes on from the tower's weights."""
    small_share: float = 0.45
    """Fraction of the steps on small crops."""
    small: Plan = field(default_factory=lambda: Plan(side=112, count=128))
    large: Plan = field(default_factory=lambda: Plan(side=224, count=32))
    native: Plan = field(default_factory=lambda: Plan(side=336, count=14))
    """In the place of every fifth large one: as large as the views of a whole file."""
    pairs: PairPlan = field(default_factory=lambda: PairPlan(side=224, count=16))
    """In the place of every tenth, two images a pair."""
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    clean_share: float = 0.25
    average: float = 0.998
    """Decay of the moving average of the tower's weights, which is what the stage yields."""
    heads_first: int = 0
    """Steps on which only the heads learn: new ones would spoil a tower that goes on from trained weights."""
    heads_rate: float = 2e-3
    rate: float = 5e-3
    """Peak rate of the tower's matrices, by Muon with AdamW-like update size."""
    embed_rate: float = 5e-4
    """Peak rate of everything else in it; too high a rate unlearns the DCT start."""
    weight_decay: float = 0.02
    warmup: float = 0.05
    seed: int = 0
    save_every: int = 250

    def plans(self) -> list[Plan]:
        """What each step draws."""
        switch = round(self.steps * self.small_share)
        half = [self.large, self.large, self.native, self.large]
        large = [*half, self.large, *half, self.pairs]
        return [self.small] * switch + [large[i % len(large)] for i in range(self.steps - switch)]


class Heads(nn.Module):
    """Linear read-outs of the mean visual token: class, function, severity if it is that function, score, and worth
    among its like."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.sizes = (len(CLASSES), len(FUNCTIONS), len(FUNCTIONS) * len(SEVERITIES), 1, 1)
        self.out = nn.Linear(width, sum(self.sizes))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """``(B, tokens, width)`` to logits of class, function and severity ``(B, functions, 5)``, score and worth."""
        classes, functions, severities, score, worth = self.out(self.norm(tokens.mean(1))).split(self.sizes, dim=-1)
        return classes, functions, severities.unflatten(-1, (len(FUNCTIONS), len(SEVERITIES))), score, worth


def embed(visual: Any, pixels: Tensor) -> Tensor:
    """Visual tokens ``(B, tokens, width)`` of equal crops ``(B, H, W, 3)`` uint8."""
    x = pixels.permute(0, 3, 1, 2).float() / 255
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        out = visual(*patchify(x, patch=visual.config.patch_size)).pooler_output
    tokens = torch.cat(list(out)) if isinstance(out, (tuple, list)) else out
    return tokens.float().reshape(len(pixels), -1, tokens.shape[-1])


def loss_of(outputs: Sequence[Tensor], labels: Sequence[Label]) -> Tensor:
    """Cross-entropies of what is known of each crop plus the squared error of the score."""
    classes, functions, severities, scores, _ = outputs
    total = scores.new_zeros(())
    total = total + present(classes, labels) + 0.5 * _known(functions, [label.function for label in labels])
    rows = torch.arange(len(labels), device=scores.device)
    severities = severities[rows, [label.function or 0 for label in labels]]
    total = total + _known(severities, [None if x.severity is None else x.severity - 1 for x in labels])
    target = torch.tensor([label.score for label in labels], device=scores.device)
    return total + 0.5 * F.mse_loss(3 + scores[:, 0], target)


def preference_loss(worth: Tensor, pairs: Sequence[Pair]) -> Tensor:
    """Bradley-Terry: cross-entropy of the logit worth(a) - worth(b); a tie counts half for either.

    Args:
        worth: ``(2 B, 1)``, in the order of `shown`.
        pairs: B of them.
    """
    a, b = worth[:, 0].chunk(2)
    target = torch.tensor([{"A": 1.0, "B": 0.0, "similar": 0.5}[pair.choice] for pair in pairs], device=worth.device)
    return F.binary_cross_entropy_with_logits(a - b, target)


def shown(pairs: Sequence[Pair]) -> Tensor:
    """The first images of all pairs, then the second ones: ``(2 B, H, W, 3)`` uint8."""
    return torch.from_numpy(np.stack([pair.a for pair in pairs] + [pair.b for pair in pairs]))


def step_loss(visual: Any, heads: Heads, batch: Batch | Sequence[Pair]) -> Tensor:
    """The loss of a step's batch, of either kind."""
    if isinstance(batch, Batch):
        return loss_of(heads(embed(visual, batch.pixels)), batch.labels)
    return preference_loss(heads(embed(visual, shown(batch)))[-1], batch)


def present(logits: Tensor, labels: Sequence[Label]) -> Tensor:
    """Cross-entropy of the classes ``(B, 5)``: the probability of any class that is there counts as right."""
    rows = [i for i, label in enumerate(labels) if label.distortion_class is not None]
    if not rows:
        return logits.sum() * 0
    there = torch.zeros(len(rows), logits.shape[-1], dtype=torch.bool, device=logits.device)
    for k, i in enumerate(rows):
        there[k, [labels[i].distortion_class, *labels[i].also]] = True
    return -logits[rows].log_softmax(-1).masked_fill(~there, -torch.inf).logsumexp(-1).mean()


def _known(logits: Tensor, targets: Sequence[int | None]) -> Tensor:
    rows = [i for i, target in enumerate(targets) if target is not None]
    if not rows:
        return logits.sum() * 0
    return F.cross_entropy(logits[rows], torch.tensor([targets[i] for i in rows], device=logits.device))


@torch.no_grad()
def preferences(visual: Any, heads: Heads, batches: Sequence[Batch | Sequence[Pair]]) -> dict[str, float]:
    """Fraction of pairs whose better image has the greater worth; of tools' results those that clearly differ."""
    right: dict[str, list[float]] = {}
    for pairs in batches:
        assert not isinstance(pairs, Batch)
        a, b = heads(embed(visual, shown(pairs)))[-1][:, 0].chunk(2)
        for pair, first in zip(pairs, (a > b).tolist(), strict=True):
            if pair.kind == "severity" or abs(pair.difference) > CLEAR:
                right.setdefault(f"pairs/{pair.kind}", []).append(float((pair.difference > 0) == first))
    return {kind: float(np.mean(hits)) for kind, hits in sorted(right.items())}


@torch.no_grad()
def accuracy(visual: Any, heads: Heads, batches: Sequence[Batch]) -> dict[str, float]:
    """Macro class accuracy, level accuracy (class and level right) and mean absolute score error.

    Any class of a mixture counts as right; levels are counted where there is one distortion.
    """
    right: dict[int, list[float]] = {i: [] for i in range(len(CLASSES))}
    levels: list[float] = []
    errors: list[float] = []
    for batch in batches:
        outputs = heads(embed(visual, batch.pixels))
        for i, label in enumerate(batch.labels):
            errors.append(abs(3 + float(outputs[3][i, 0]) - label.score))
            if label.distortion_class is None:
                continue
            hit = int(outputs[0][i].argmax()) in (label.distortion_class, *label.also)
            right[label.distortion_class].append(float(hit))
            if label.severity is not None and not label.also:
                severity = outputs[2][i, int(outputs[1][i].argmax())].argmax()
                levels.append(float(hit and int(severity) == label.severity - 1))
    result = {f"class/{CLASSES[i]}": float(np.mean(hits)) for i, hits in right.items() if hits}
    result["class"] = float(np.mean(list(result.values())))
    result["level"] = float(np.mean(levels))
    result["score_error"] = float(np.mean(errors))
    return result


def whitened_dct(width: int, patches: Tensor) -> Tensor:
    """A patch embedding ``(width, 3, 2, side, side)``: 2-D DCT coefficients, each of unit variance on ``patches``.

    Three quarters of them are the lowest coefficients of luma, the others the lowest of the two chroma planes.
    """
    side = math.isqrt(patches.shape[1] // 6)
    k, i = np.arange(side)[:, None], np.arange(side)[None]
    dct = np.cos(np.pi * (i + 0.5) * k / side) * np.sqrt(2 / side)
    dct[0] /= np.sqrt(2)
    order = sorted(((u, v) for u in range(side) for v in range(side)), key=lambda uv: uv[0] + uv[1])
    planes = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
    luma = min(side * side, round(0.75 * width))
    first = (width - luma) // 2
    counts = (luma, first, width - luma - first)
    rows = [
        np.einsum("c,y,x->cyx", planes[plane], dct[u], dct[v])
        for plane, count in enumerate(counts)
        for u, v in order[:count]
    ]
    weight = torch.tensor(np.stack(rows), dtype=torch.float32)
    weight = torch.stack([weight, weight], dim=2) / 2
    return weight / (patches @ weight.flatten(1).T).std(0).view(-1, 1, 1, 1, 1)


def optimisers(
    modules: Sequence[nn.Module], rate: float, embed_rate: float, decay: float
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest (embeddings, read-outs, gains, biases)."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            is_matrix = parameter.ndim == 2 and not any(key in name for key in ("embed", "lm_head", "out."))
            (matrices if is_matrix else rest).append(parameter)
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(rest, lr=embed_rate, weight_decay=0.0, betas=(0.9, 0.95))
    return muon, adam


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Factor on the peak rate: linear warm-up, then cosine to 2 %."""
    start = max(1, round(steps * warmup))
    if step < start:
        return (step + 1) / start
    t = (step - start) / max(1, steps - start)
    return float(0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * t)))


TOWER = "tower.safetensors"
"""The stage's result in its folder."""


def save_tower(path: Path, visual: nn.Module, heads: nn.Module) -> None:
    """Tower and heads in half precision, for the next stage to begin with; whole or not at all."""
    from safetensors.torch import save_file

    parts = {"visual": visual, "heads": heads}
    weights = {f"{part}.{key}": value for part, module in parts.items() for key, value in module.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file({key: value.half().contiguous() for key, value in weights.items()}, partial)
    partial.replace(path)


def load_tower(*paths: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states of tower and heads that `save_tower` wrote, in float32.

    Of several files the towers' weights are averaged, which works where one was trained on from the other (Wortsman et
    al. 2022, "Model soups", https://arxiv.org/abs/2203.05482); heads, which every stage learns anew, are the last
    one's. Raises `UsageError` for another file, or for towers of different sizes.
    """
    read = [_tower_of(path) for path in paths]
    towers, heads = [tower for tower, _ in read], read[-1][1]
    sizes = [{key: value.shape for key, value in tower.items()} for tower in towers]
    for path, other in zip(paths, sizes, strict=True):
        if other != sizes[0]:
            raise UsageError(f"{path}: expected a tower of the sizes of {paths[0]}, to average their weights")
    return {key: torch.stack([tower[key] for tower in towers]).mean(0) for key in towers[0]}, heads


def _tower_of(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: expected the tower of a vision stage ({error})") from error
    visual, heads = (
        {key.removeprefix(part): value.float() for key, value in weights.items() if key.startswith(part)}
        for part in ("visual.", "heads.")
    )
    if not visual or not heads:
        raise UsageError(f"{path}: expected the tower of a vision stage, with the weights visual.* and heads.*")
    return visual, heads


def train_vision(
    visual: Any,
    photographs: Sequence[np.ndarray[Any, Any]],
    rated: Sequence[tuple[np.ndarray[Any, Any], float]],
    held_out: Sequence[np.ndarray[Any, Any]],
    tools: Sequence[Tool],
    settings: VisionSettings,
    folder: Path,
    log: Log,
    workers: int = 1,
) -> dict[str, float]:
    """Train the tower in place; checkpoints and resumes in ``folder``. Returns the held-out figures.

    What it yields, tower and heads alike, is the moving average of the weights; ``folder / TOWER`` has it.

    Without ``tools`` all pairs are of severities.
    """
    torch.manual_seed(settings.seed)
    plans = settings.plans()
    checkpoint = folder / "vision.pt"
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    start = state["step"] if state else 0
    crops = CropsAndPairs(
        tools,
        photographs,
        rated,
        plans,
        settings.seed,
        start,
        clean_share=settings.clean_share,
        shares=settings.shares,
    )
    batches = stream(crops, workers)
    heads = Heads(visual.config.out_hidden_size)
    if settings.fresh:
        first = Crops(photographs, (), plans, settings.seed + 1).batch(0).pixels
        patches = patchify(first.permute(0, 3, 1, 2).float() / 255, patch=visual.config.patch_size)[0]
        with torch.no_grad():
            visual.patch_embed.proj.weight.copy_(whitened_dct(visual.config.hidden_size, patches))
    validation = Crops(held_out, (), [settings.large] * HELD_OUT, settings.seed + 7)
    test = [validation.batch(i) for i in range(HELD_OUT)]
    compared = CropsAndPairs(tools, held_out, (), [settings.pairs] * HELD_OUT_PAIRS, settings.seed + 7)
    pairs_test: list[Batch | Sequence[Pair]] = [compared.batch(i) for i in range(HELD_OUT_PAIRS)]
    both = nn.ModuleDict({"visual": visual, "heads": heads})
    tower = optimisers((visual,), settings.rate, settings.embed_rate, settings.weight_decay)
    every = (*tower, torch.optim.AdamW(heads.parameters(), lr=settings.heads_rate, weight_decay=0.0, betas=(0.9, 0.95)))
    peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in every]
    mean = AveragedModel(both, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
    if state is not None:
        both.load_state_dict(state["learning"])
        mean.load_state_dict(state["mean"])
        for optimiser, saved in zip(every, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    averaged: Any = mean.module
    mean_visual, mean_heads = averaged["visual"], averaged["heads"]

    def held_out_figures() -> dict[str, float]:
        found = accuracy(mean_visual, mean_heads, test)
        return {**found, **preferences(mean_visual, mean_heads, pairs_test)}

    began, losses = time.monotonic(), []
    for step, batch in enumerate(batches, start=start):
        factor = rate_at(step, settings.steps, settings.warmup)
        for optimiser, rates in zip(every, peaks, strict=True):
            waits = optimiser in tower and step < settings.heads_first
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = 0.0 if waits else rate * factor
        loss = step_loss(visual, heads, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        for optimiser in every:
            optimiser.step()
            optimiser.zero_grad()
        mean.update_parameters(both)
        losses.append(loss.item())
        done = step + 1
        if done % 50 == 0:
            log({"step": done, "loss": float(np.mean(losses[-50:])), "seconds": time.monotonic() - began})
        if done % settings.save_every == 0 or done == settings.steps:
            log({"step": done, **held_out_figures()})
            folder.mkdir(parents=True, exist_ok=True)
            save_tower(folder / TOWER, mean_visual, mean_heads)
            state = {
                "learning": both.state_dict(),
                "mean": mean.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in every],
                "step": done,
            }
            partial = checkpoint.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(checkpoint)
    visual.load_state_dict(mean_visual.state_dict())
    return held_out_figures()
