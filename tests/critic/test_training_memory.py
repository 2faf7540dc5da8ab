"""What a run needs on each GPU: the bytes of what is there, what layers really keep, and how it is dealt out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iqloop.critic.checkpoint import skeleton
from iqloop.critic.training.architectures import qwen2_5_vl_7b
from iqloop.critic.training.grpo import PRESETS
from iqloop.critic.training.memory import Layout, memory, parameters
from iqloop.errors import UsageError
from iqloop.recipes.train.critic_plan import LAUNCH

SETTINGS = PRESETS["q-insight"]


@pytest.fixture(scope="module")
def seven() -> Any:
    return qwen2_5_vl_7b()


def test_the_published_architecture(seven: Any) -> None:
    """8.29 billion parameters, as the checkpoints' safetensors index says."""
    assert parameters(seven, SETTINGS) == (8_292_166_656, 8_292_166_656)
    total, trained = parameters(seven, replace(SETTINGS, freeze_vision=True))
    assert total - trained == 676_550_144
    _, adapters = parameters(seven, replace(SETTINGS, lora=64))
    assert adapters == pytest.approx(161.5e6, rel=0.01)


def test_full_training_costs_sixteen_bytes_a_parameter(seven: Any) -> None:
    """ZeRO, section 3.1: 2 of weights, 2 of gradients, 12 of the optimiser; here with the reference, 2 more."""
    total, _ = parameters(seven, SETTINGS)
    for layout in (Layout(8, 1, 3), Layout(8, 2, 3)):
        found = memory(seven, replace(SETTINGS, prompts_per_device=1), layout)
        assert found.states * layout.ranks == pytest.approx(18 * total)
    shared = memory(seven, SETTINGS, Layout(8, 1, 2))
    assert shared.weights == 2 * total and shared.optimiser * 8 == pytest.approx(12 * total) and not shared.gathered


def test_only_adapters_fit_one_gpu(seven: Any) -> None:
    lora = replace(SETTINGS, lora=64, prompts_per_device=2)
    assert memory(seven, lora, Layout()).peak < 80 * 2**30 < memory(seven, SETTINGS, Layout()).peak
    assert memory(seven, SETTINGS, Layout(8, 1, 3)).peak < 80 * 2**30


def test_each_way_of_saving_saves(seven: Any) -> None:
    plain = memory(seven, SETTINGS, Layout(8, 1, 3, checkpointing=False))
    again = memory(seven, SETTINGS, Layout(8, 1, 3))
    assert again.activations < plain.activations / 8 and again.states == plain.states
    assert memory(seven, SETTINGS, Layout(8, 1, 3, vllm=True)).writing == 0 < again.writing
    longer = memory(seven, replace(SETTINGS, max_new_tokens=512), Layout(8, 1, 3))
    assert longer.logits == 2 * again.logits and longer.cache > again.cache


def test_what_the_layers_keep_is_what_autograd_keeps(tiny_folder: Path) -> None:
    """Of a tiny model on the CPU, in half precision, all layers: everything that is saved but weights and scores."""
    model = skeleton(tiny_folder)
    settings = replace(SETTINGS, lora=1, generations=2, prompts_per_device=1, max_new_tokens=64)
    rows, tokens = 2, 350 + 20 + 64
    text = model.model.language_model.to_empty(device="cpu").to(torch.bfloat16).train()
    weights = {parameter.untyped_storage()._cdata for parameter in text.parameters()}
    kept: list[Tensor] = []
    x = torch.randn(rows, tokens, text.config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    turn = torch.randn(rows, tokens, text.config.hidden_size // text.config.num_attention_heads, dtype=torch.bfloat16)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for layer in text.layers:
            x = layer(x, position_embeddings=(turn, turn), attention_mask=None)
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept if t.shape[-1] != tokens}
    real = sum(size for place, size in sizes.items() if place not in weights)
    planned = memory(skeleton(tiny_folder), settings, Layout(checkpointing=False), image_tokens=20).activations
    # The meta device attends in float32, a CPU in the inputs' precision: planned is the larger, by less than a third.
    assert real * 0.95 < planned < real * 1.35


def test_what_does_not_fit_together_is_said(seven: Any) -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        memory(seven, PRESETS["q-insight-comparison"], Layout(8, 1, 3))
    with pytest.raises(UsageError, match="adapters need no ZeRO"):
        memory(seven, replace(SETTINGS, lora=8), Layout(8, 1, 3))


@pytest.mark.parametrize(("name", "processes"), [("one-gpu", 1), ("eight-gpus", 8), ("two-nodes", 16)])
def test_accelerate_reads_the_configurations(name: str, processes: int) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert config.num_processes == processes and config.mixed_precision == "bf16"
    zero = config.deepspeed_config or {}
    assert (processes == 1) == (not zero) and (not zero or zero["zero_stage"] == 3)
