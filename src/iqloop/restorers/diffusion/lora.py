"""A low-rank adapter on a network of diffusers: found places, the network with and without it, its files, merged.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) by peft. The adapter is put into the network itself, which also
works for those without diffusers' own ``add_adapter``, such as `UNet2DModel`. Without it the network is to the bit what
it was before: the reference of a method that needs one costs no second copy.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iqloop.errors import UsageError, missing_extra

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""What diffusers calls the projections of attention."""
BLOCKS = ("down_blocks", "mid_block", "up_blocks", "blocks", "transformer_blocks", "single_transformer_blocks")
"""What it calls the parts that hold a network's blocks."""
NAME = "default"
PEFT_PREFIX = "base_model.model."
"""What peft's own files put before the name of each module."""
PEFT_FILE, DIFFUSERS_FILE = "adapter_model.safetensors", "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class LoraSettings:
    """How large an adapter is. Raises `UsageError` when a number is out of range."""

    rank: int = 8
    alpha: int | None = None
    """The change is scaled by ``alpha / rank``; None is the rank, a scale of 1."""
    targets: tuple[str, ...] = ()
    """Names, or ends of names, of the convolutions and linear layers that get one; none: see `targets_of`."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"rank must be at least 1, got {self.rank}")
        if self.alpha is not None and self.alpha < 1:
            raise UsageError(f"alpha must be at least 1, got {self.alpha}")


def targets_of(network: nn.Module) -> list[str]:
    """Names of the layers that get an adapter: attention's projections, or without attention all layers in the blocks.

    Raises `UsageError` for a network with neither.
    """
    layers = [name for name, layer in network.named_modules() if _fits(layer)]
    attention = [name for name in layers if any(name.endswith(f".{end}") for end in PROJECTIONS)]
    found = attention or [name for name in layers if name.partition(".")[0] in BLOCKS]
    if not found:
        raise UsageError(f"{type(network).__name__}: no attention and no blocks: name layers for the adapter")
    return found


def attach(network: nn.Module, settings: LoraSettings, seed: int = 0) -> list[str]:
    """Put an adapter into a network, which changes none of its answers yet; all other weights are frozen.

    Returns:
        the names of the layers that have one.

    Raises:
        PrerequisiteError: peft is not installed.
        UsageError: the network has an adapter, or no layer fits.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise missing_extra("peft", "diffusion") from error
    if adapted(network):
        raise UsageError(f"{type(network).__name__} has an adapter: merge it first")
    targets = list(settings.targets) or targets_of(network)
    fitting = [name for name, layer in network.named_modules() if _fits(layer) and _named(name, targets)]
    if not fitting:
        examples = ", ".join(targets_of(network)[:3])
        raise UsageError(f"no layer is called {' or '.join(targets)}: expected ends of names such as {examples}")
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha or settings.rank, target_modules=fitting)
    network.requires_grad_(False)
    place = next(network.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network, NAME)
    network.to(place)
    return fitting


def adapted(network: nn.Module) -> dict[str, Any]:
    """The layers with an adapter, by name."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return {}
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, BaseTunerLayer)}


@contextlib.contextmanager
def without(network: nn.Module) -> Iterator[None]:
    """The network as it was before `attach`; within another `without`, until the outer one ends."""
    layers = [layer for layer in adapted(network).values() if not layer.disable_adapters]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's weights, by name."""
    return {name: value for name, value in network.named_parameters() if ".lora_" in name}


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in trained(network).items()}


@torch.no_grad()
def restore(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Give the adapter the weights that `state_of` read."""
    for name, value in trained(network).items():
        value.copy_(state[name])


def save_adapter(network: nn.Module, folder: Path) -> None:
    """Write the adapter as peft and diffusers read it.

    ``adapter_config.json`` and ``adapter_model.safetensors`` are for ``peft.PeftModel.from_pretrained(network,
    folder)``; ``pytorch_lora_weights.safetensors`` is for a pipeline's ``load_lora_weights(folder)``, of pipelines that
    have it, and for ``load_lora_adapter(folder, prefix="unet")`` of networks that have that.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    # peft leaves its configuration with the network that it changed.
    config: Any = network.peft_config[NAME]  # type: ignore[index]
    weights = {name: value.detach().cpu().contiguous() for name, value in get_peft_model_state_dict(network).items()}
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    save_file({PEFT_PREFIX + name: value for name, value in weights.items()}, folder / PEFT_FILE, {"format": "pt"})
    described = {key: value for key, value in config.to_dict().items() if key in ("r", "lora_alpha", "target_modules")}
    described["target_modules"] = sorted(described["target_modules"])
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in described.items()})}
    save_file({f"unet.{name}": value for name, value in weights.items()}, folder / DIFFUSERS_FILE, metadata)


@torch.no_grad()
def merge_into(fresh: nn.Module, network: nn.Module) -> None:
    """Add the adapter of ``network`` to the weights of ``fresh``, the same network without one."""
    for name, layer in adapted(network).items():
        weight: Any = fresh.get_submodule(name).weight
        weight += layer.get_delta_weight(NAME).to(weight)


def _fits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _named(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)
