"""What a run of reinforcement needs on each GPU, before there is a GPU: counted, not guessed, where that is possible.

    states       what lies there all the time: weights, gradients, optimiser, the reference of the KL term
    writing      while answers are drawn: the cache of keys and values, and under ZeRO-3 the gathered weights
    learning     while gradients are made: what the layers keep for the backward pass, the logits, a gathered layer

The peak is the states with the larger of the two phases. Bytes per parameter are those of mixed precision with Adam
(Rajbhandari et al. 2020, ZeRO, section 3.1); what a layer keeps is counted by running one of the model's own layers on
torch's meta device, which computes shapes only. Attention is taken as flash attention, which keeps no scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from iqloop.critic.training.grpo import LORA_TARGETS, GrpoSettings
from iqloop.errors import UsageError

Stage = Literal[0, 2, 3]

HALF, FULL = 2, 4
"""Bytes of a number in bfloat16 and in float32."""
OVERHEAD = 1.5 * 2**30
"""CUDA's context, communication buffers and what the allocator cannot use: a rough figure."""
QUESTION_TOKENS = 350
"""Of the longest prompt's words, with the system prompt, in Qwen's tokens."""


@dataclass(frozen=True)
class Layout:
    """The machines of a run."""

    gpus: int = 1
    """Of each machine."""
    nodes: int = 1
    stage: Stage = 0
    """Of ZeRO: 0 keeps everything on every GPU, 2 shares gradients and optimiser, 3 the weights as well."""
    checkpointing: bool = True
    """A layer keeps its input only and is computed again in the backward pass."""
    vllm: bool = False
    """Another engine writes the answers; its own memory is not counted."""

    @property
    def ranks(self) -> int:
        """Processes, one a GPU."""
        return self.gpus * self.nodes


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: float
    gradients: float
    optimiser: float
    reference: float
    cache: float
    """Keys and values of the answers that are drawn at once."""
    gathered: float
    """Under ZeRO-3, all weights in half precision, while answers are drawn."""
    activations: float
    logits: float
    layer: float
    """Under ZeRO-3, the largest layer and its gradient, gathered while it is used."""

    @property
    def states(self) -> float:
        """What lies there all the time."""
        return self.weights + self.gradients + self.optimiser + self.reference

    @property
    def writing(self) -> float:
        """While answers are drawn."""
        return self.cache + self.gathered

    @property
    def learning(self) -> float:
        """While gradients are made."""
        return self.activations + self.logits + self.layer

    @property
    def peak(self) -> float:
        """The most at any time."""
        return self.states + max(self.writing, self.learning) + OVERHEAD


def memory(model: Any, settings: GrpoSettings, layout: Layout, image_tokens: int = 1280) -> Memory:
    """What a run needs on each GPU.

    Args:
        model: without weights, on the meta device; `iqloop.critic.checkpoint.skeleton`.
        settings: of the run.
        layout: where it runs.
        image_tokens: of a question's images together; one is 28 x 28 pixels in the published checkpoints.

    Raises:
        UsageError: the questions of a step do not divide among the GPUs, or adapters meet ZeRO.
    """
    if settings.lora and layout.stage:
        raise UsageError(
            "adapters need no ZeRO: their gradients and moments are small; leave out --deepspeed or --lora"
        )
    at_once = settings.prompts_per_device * layout.ranks
    if settings.prompts_per_step % at_once:
        raise UsageError(
            f"{settings.prompts_per_step} questions a step cannot be dealt to {layout.ranks} GPUs by "
            f"{settings.prompts_per_device}, the answers to a question stay together: choose --prompts-per-device, or "
            f"--prompts-per-step as a multiple of {layout.ranks}"
        )
    total, trained = parameters(model, settings)
    shared = {0: (1, 1, 1), 2: (1, layout.ranks, layout.ranks), 3: (layout.ranks,) * 3}[layout.stage]
    # Under ZeRO weights are in half precision and their float32 originals belong to the optimiser; without it the
    # weights are float32 and autocast keeps a half copy of them during a pass. A frozen base under adapters is half.
    by_zero = layout.stage > 0
    weights = total * HALF if by_zero or settings.lora else total * (FULL + HALF)
    gradients = trained * (HALF if by_zero else FULL)
    optimiser = trained * (3 * FULL if by_zero else 2 * FULL) + (trained * FULL if settings.lora else 0)
    has_reference = settings.beta > 0 and not settings.lora
    reference = total * (HALF if by_zero else FULL) if has_reference else 0
    rows = settings.prompts_per_device * settings.generations
    drawn = settings.prompts_per_step * settings.generations // layout.ranks
    length = QUESTION_TOKENS + image_tokens + settings.max_new_tokens
    text = model.config.text_config
    width = text.hidden_size // text.num_attention_heads * text.num_key_value_heads
    layers = [*model.model.language_model.layers]
    blocks = [*model.model.visual.blocks]
    frozen_tower = settings.freeze_vision or settings.lora > 0
    return Memory(
        weights=weights / shared[0],
        gradients=gradients / shared[1],
        optimiser=optimiser / shared[2],
        reference=reference / shared[0],
        cache=0 if layout.vllm else drawn * length * text.num_hidden_layers * 2 * width * HALF,
        gathered=total * HALF if layout.stage == 3 and not layout.vllm else 0,
        activations=_kept(layers, _text_layer(layers[0], length), rows * length, text.hidden_size, layout)
        # The copies of an image are encoded once; a token is four patches.
        + (
            0
            if frozen_tower
            else _kept(
                blocks,
                _vision_layer(blocks[0], 4 * image_tokens),
                settings.prompts_per_device * 4 * image_tokens,
                model.config.vision_config.hidden_size,
                layout,
            )
        ),
        # In float32 and their gradient; the answer's tokens only.
        logits=rows * settings.max_new_tokens * text.vocab_size * 2 * FULL,
        layer=2 * HALF * max(_size(part) for part in (*layers, *blocks, model.lm_head)) if layout.stage == 3 else 0,
    )


def parameters(model: Any, settings: GrpoSettings) -> tuple[int, int]:
    """All parameters, and how many of them (or of adapters) are trained."""
    import re

    total = _size(model)
    if settings.lora:
        matrices = [part for name, part in model.named_modules() if re.fullmatch(LORA_TARGETS, name)]
        return total, settings.lora * sum(part.in_features + part.out_features for part in matrices)
    return total, total - (_size(model.model.visual) if settings.freeze_vision else 0)


def _size(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _kept(layers: list[Any], of_a_token: float, tokens: int, width: int, layout: Layout) -> float:
    """Bytes that equal layers keep; with checkpointing their inputs, and all of one layer at a time."""
    if layout.checkpointing:
        return tokens * (len(layers) * width * HALF + of_a_token)
    return tokens * len(layers) * of_a_token


def _text_layer(layer: Any, length: int) -> float:
    """Bytes a token that a layer of the language model keeps, in bfloat16."""
    config = layer.self_attn.config
    head = config.hidden_size // config.num_attention_heads
    turn = torch.empty(1, length, head, dtype=torch.bfloat16, device="meta")
    return _saved(layer, (1, length, config.hidden_size), length, position_embeddings=(turn, turn), attention_mask=None)


def _vision_layer(block: Any, patches: int) -> float:
    """Bytes a patch that a block of the vision tower keeps, in bfloat16."""
    width, heads = block.norm1.weight.shape[0], block.attn.num_heads
    turn = torch.empty(patches, width // heads, device="meta")
    ends = torch.tensor([0, patches])
    return _saved(block, (patches, width), patches, cu_seqlens=ends, position_embeddings=(turn, turn))


def _saved(layer: Any, shape: tuple[int, ...], tokens: int, **inputs: Any) -> float:
    """Bytes a token of all that autograd keeps in one pass, other than weights and attention scores."""
    import copy

    layer = copy.deepcopy(layer).to(torch.bfloat16).train()
    weights = {parameter.untyped_storage()._cdata for parameter in layer.parameters()}
    kept: list[Tensor] = []  # held, so that no storage is freed and another takes its number
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x, **inputs)
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in kept
        if tensor.shape[-2:] != (tokens, tokens)
    }
    return sum(size for place, size in storages.items() if place not in weights) / tokens
