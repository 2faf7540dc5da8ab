"""What a run of `iqloop train critic` will do and need, as lines for the terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.errors import UsageError

if TYPE_CHECKING:
    from iqloop.critic.training.examples import Example
    from iqloop.critic.training.grpo import GrpoSettings
    from iqloop.critic.training.memory import Layout

LAUNCH = Path(__file__).resolve().parents[2] / "critic" / "training" / "accelerate"
"""Configurations for accelerate."""
MAX_IMAGE_TOKENS = 16384
"""Where Qwen's processor shrinks an image."""


def steps(
    model: Any, examples: Sequence[Example], settings: GrpoSettings, device: str | None, planned: bool
) -> list[str]:
    """Rows, steps and parameters. ``planned`` is for other machines than this one. Raises `UsageError`."""
    import torch

    from iqloop.critic.training.grpo import grouping, passes, prompts_of, steps_of
    from iqloop.critic.training.memory import parameters

    asked = {example.task for example in examples}
    unknown = asked - set(prompts_of(settings))
    if unknown:
        raise UsageError(f"the prompts of {settings.prompts} have no {', '.join(sorted(unknown))} question")
    count = steps_of(settings, grouping(examples, settings))
    if not planned:
        passes(settings, on_gpu=False if device == "cpu" else torch.cuda.is_available())
    total, trained = parameters(model, settings)
    tower = sum(parameter.numel() for parameter in model.model.visual.parameters())
    rows = Counter((example.dataset, example.task) for example in examples)
    answers = settings.prompts_per_step * settings.generations
    return [
        *(f"{number} rows of {task} from {dataset}" for (dataset, task), number in rows.items()),
        f"{count} steps of {settings.prompts_per_step} questions with {settings.generations} answers ({answers})",
        f"{trained / 1e6:.2f} of {total / 1e6:.2f} million parameters are trained (vision tower: {tower / 1e6:.2f})",
    ]


def memory(
    model: Any,
    examples: Sequence[Example],
    settings: GrpoSettings,
    deepspeed: str | None,
    gpus: int | None,
    nodes: int,
    checkpointing: bool,
    vllm: bool,
) -> list[str]:
    """GiB on each GPU, by part; ``gpus`` None is the processes that there are. Raises `UsageError`."""
    from accelerate import PartialState

    from iqloop.critic.training import memory as needs

    ranks = PartialState().num_processes if gpus is None else gpus
    layout = needs.Layout(ranks, nodes, stage_of(deepspeed), checkpointing, vllm)
    seen = model.config.vision_config
    tokens = image_tokens(examples, seen.patch_size * seen.spatial_merge_size)
    found = needs.memory(model, settings, layout, tokens)

    def gib(size: float) -> str:
        return f"{size / 2**30:.1f}"

    lines = [
        f"memory on each of {layout.ranks} device{'s' * (layout.ranks > 1)}, in GiB (ZeRO stage {layout.stage}, layers "
        f"{'computed again' if checkpointing else 'kept'} for the backward pass, {tokens} visual tokens a question):",
        f"  all the time       {gib(found.states):>6}  weights {gib(found.weights)}, gradients {gib(found.gradients)}, "
        f"optimiser {gib(found.optimiser)}, reference of the KL term {gib(found.reference)}",
        f"  writing answers    {gib(found.writing):>6}  keys and values {gib(found.cache)}"
        + (f", gathered weights {gib(found.gathered)}" if found.gathered else ""),
        f"  learning           {gib(found.learning):>6}  activations {gib(found.activations)}, logits "
        f"{gib(found.logits)}" + (f", a gathered layer {gib(found.layer)}" if found.layer else ""),
        f"  peak               {gib(found.peak):>6}  all the time, the larger of both, {gib(needs.OVERHEAD)} for CUDA",
    ]
    return lines if gpus is None else [*lines, f"start it:  {launch(layout, deepspeed, checkpointing)}"]


def launch(layout: Layout, deepspeed: str | None, checkpointing: bool) -> str:
    """The command, as far as the layout decides it."""
    again = " --gradient-checkpointing" if checkpointing else ""
    ready = {(1, 1, 0): "one-gpu", (8, 1, 3): "eight-gpus", (8, 2, 3): "two-nodes"}
    name = ready.get((layout.gpus, layout.nodes, layout.stage))
    if name is not None:
        place = " --machine_rank RANK --main_process_ip ADDRESS" if layout.nodes > 1 else ""
        return f"accelerate launch --config_file {LAUNCH / (name + '.yaml')}{place} -m iqloop train critic{again} ..."
    nodes = f" --nnodes {layout.nodes} --rdzv-endpoint ADDRESS" if layout.nodes > 1 else ""
    zero = "" if deepspeed is None else f" --deepspeed {deepspeed}"
    return f"torchrun --nproc-per-node {layout.gpus}{nodes} -m iqloop train critic{zero}{again} ..."


def stage_of(deepspeed: str | None) -> Any:
    """The stage of ZeRO in a configuration; 0 without one. Raises `UsageError`."""
    if deepspeed is None:
        return 0
    try:
        stage = json.loads(Path(deepspeed).read_text()).get("zero_optimization", {}).get("stage", 0)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{deepspeed}: expected a DeepSpeed configuration in JSON ({error})") from error
    if stage not in (0, 2, 3):
        raise UsageError(f"{deepspeed}: memory is known for the stages 0, 2 and 3 of ZeRO, got {stage}")
    return stage


def image_tokens(examples: Sequence[Example], unit: int) -> int:
    """Visual tokens, each ``unit`` pixels wide and high, of the question that has most, by the sizes in the files."""
    from PIL import Image

    sizes: dict[Path, int] = {}
    for path in {path for example in examples for path in example.images}:
        with Image.open(path) as image:
            width, height = image.size
        across, down = (max(1, round(side / unit)) for side in (width, height))
        sizes[path] = min(across * down, MAX_IMAGE_TOKENS)
    return max(sum(sizes[path] for path in example.images) for example in examples)
