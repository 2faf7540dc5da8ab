"""One run of ``iqloop train diffusion``: parts loaded, objective made, adapter trained, results written and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iqloop.errors import UsageError
from iqloop.recipes.console import Console
from iqloop.recipes.options import CriticChoice

if TYPE_CHECKING:
    from iqloop.agents.ranking import By
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.train.diffusion_inputs import Inputs
    from iqloop.restorers.diffusers_tool import DiffusersTool
    from iqloop.restorers.diffusion.draft import DraftSettings
    from iqloop.restorers.diffusion.held_out import Judges
    from iqloop.restorers.diffusion.lora import LoraSettings
    from iqloop.restorers.diffusion.models import DiffusionModel
    from iqloop.restorers.diffusion.pairs import PairSettings
    from iqloop.restorers.diffusion.results import Precision
    from iqloop.restorers.diffusion.tune import Objective, Tuned, TuneSettings
    from iqloop.restorers.training.guard import Guard

Method = Literal["dpo", "draft"]


@dataclass(frozen=True)
class Wanted:
    """All that was asked for."""

    folder: Path
    """The pipeline's."""
    run: Path
    method: Method
    choice: CriticChoice
    held_out_critics: tuple[str, ...]
    """The first chooses; the others are only told of."""
    data: Path | None
    photos: tuple[Path, ...]
    prompts: Path | None
    held_out_prompts: Path | None
    patch: int | None
    size: int | None
    guidance: float
    keep_colours: bool
    """Show enlarged images with the colours of the small ones."""
    lora: LoraSettings
    tune: TuneSettings
    patience: int
    psnr_loss: float
    chosen_by: int
    """Held-out images by which the adapter is chosen."""
    side: int
    """Of the middles of held-out photographs, in pixels of the clean image."""
    pairs: PairSettings
    by: By
    margin: float
    beta: float
    draft: DraftSettings
    cap: float | None
    views: int
    precision: Precision
    bf16: bool | None
    dry_run: bool


@dataclass(frozen=True)
class _Parts:
    """What is loaded."""

    tool: DiffusersTool
    model: DiffusionModel
    named: str
    """Class of the pipeline."""
    inputs: Inputs
    critic: Critic
    judges: Judges
    guard: Guard
    layers: int
    """With an adapter."""
    output_side: int


def run(wanted: Wanted, console: Console) -> None:
    """Do it. Raises what the parts raise, each before the run's folder is made if it can be."""
    from iqloop.restorers.training.record import begin

    parts = _load(wanted, console)
    said = _said(wanted, parts)
    _announce(wanted, parts, console)
    objective = None if wanted.method == "dpo" else _reward(wanted, parts)
    if wanted.dry_run:
        return
    begin(wanted.run, said)
    _train(wanted, parts, objective or _preference(wanted, parts, console), said, console)


def _load(wanted: Wanted, console: Console) -> _Parts:
    import torch

    from iqloop.recipes.loading import hushed, load_critic, tool_device
    from iqloop.recipes.train.diffusion_critic import judge_by
    from iqloop.restorers.diffusers_tool import load_pipeline_tool, read_index
    from iqloop.restorers.diffusion.lora import attach
    from iqloop.restorers.diffusion.models import model_of
    from iqloop.restorers.training.guard import Guard

    place = tool_device(wanted.choice.device)
    named = read_index(wanted.folder)["_class_name"]
    with hushed():
        tool = load_pipeline_tool(wanted.folder)
    bf16 = place.startswith("cuda") if wanted.bf16 is None else wanted.bf16
    model = model_of(tool.pipeline, named, wanted.guidance, wanted.size, bf16, wanted.keep_colours)
    critic = load_critic(wanted.choice)
    others = [load_critic(replace(wanted.choice, name=name, more=())) for name in wanted.held_out_critics]
    names = [one.name for one in (critic, *others)]
    if len(set(names)) < len(names):
        raise UsageError(
            "a held-out critic must be another than the one that trains, each of its own name, "
            f"got {', '.join(names)}: choose  --held-out-critic"
        )
    with hushed():
        layers = attach(model.network, wanted.lora, wanted.tune.seed)
    tool.pipeline.to(torch.device(place))
    inputs, side = _inputs(wanted, tool, model, console)
    judges = {one.name: judge_by(one) for one in (critic, *others)}
    guard = Guard(others[0].name, others[0].lower_better, wanted.psnr_loss, wanted.patience)
    return _Parts(tool, model, named, inputs, critic, judges, guard, len(layers), side)


def _inputs(wanted: Wanted, tool: DiffusersTool, model: Any, console: Console) -> tuple[Inputs, int]:
    """With the side of the images that are drawn in training."""
    from iqloop.recipes.train.diffusion_inputs import photographs, prompts
    from iqloop.restorers.diffusion.models import TextToImage

    batch, seed = wanted.tune.batch, wanted.tune.seed
    if isinstance(model, TextToImage):
        if wanted.prompts is None:
            raise UsageError(f"{wanted.folder.name} draws from text: give  --prompts FILE, with a prompt a line")
        if wanted.data is not None or wanted.photos or wanted.patch is not None:
            raise UsageError("--data, --photos and --patch are for super-resolution: leave them out")
        found = prompts(wanted.prompts, wanted.held_out_prompts, model, batch, wanted.chosen_by, seed)
        return found, model.size
    if wanted.data is None:
        raise UsageError(f"{wanted.folder.name} enlarges: give  --data FOLDER, with photos/train and photos/val in it")
    if wanted.prompts is not None or wanted.held_out_prompts is not None:
        raise UsageError("--prompts and --held-out-prompts are for text to image: leave them out")
    config = tool.pipeline.unet.config
    multiple = 2 ** (len(config.block_out_channels) - 1)
    patch, scale = wanted.patch or config.sample_size, tool.info.scale
    if patch % multiple:
        raise UsageError(f"patch must be a multiple of {multiple} for this pipeline, got {patch}")
    found = photographs(
        wanted.data, wanted.photos, scale, patch, batch, wanted.side, wanted.chosen_by, seed, console.notice
    )
    return found, patch * scale


def _said(wanted: Wanted, parts: _Parts) -> dict[str, Any]:
    """What decides the result: a run goes on only if all of it is as it was."""
    critics = {"critic": f"{parts.critic.name} {parts.critic.version}", "held_out_critic": wanted.held_out_critics[0]}
    said: dict[str, Any] = {"method": wanted.method, "pipeline": parts.tool.info.version, **critics}
    said |= {"inputs": parts.inputs.fingerprint, "guidance": wanted.guidance, "output_side": parts.output_side}
    said |= {"keep_colours": wanted.keep_colours}
    said |= {
        "lora": asdict(wanted.lora),
        "chosen_by": wanted.chosen_by,
        "side": wanted.side,
        "guard": asdict(parts.guard),
    }
    said |= {"critic_options": [wanted.choice.dtype, *wanted.choice.more], **asdict(wanted.tune)}
    if wanted.method == "dpo":
        pairs = asdict(wanted.pairs)
        return said | {"pairs": pairs, "by": wanted.by, "margin": wanted.margin, "beta": wanted.beta}
    return said | {"draft": asdict(wanted.draft), "cap": wanted.cap, "views": wanted.views}


def _announce(wanted: Wanted, parts: _Parts, console: Console) -> None:
    from iqloop.restorers.diffusion.lora import trained
    from iqloop.restorers.diffusion.parts import parameters

    network = parts.model.network
    new = sum(value.numel() for value in trained(network).values())
    console.line(
        f"{parts.named}: {type(network).__name__} of {(parameters(network) - new) / 1e6:.4g} million parameters; "
        f"{new / 1e6:.4g} million trained, of rank {wanted.lora.rank} on {parts.layers} layers"
    )
    console.line(
        f"{wanted.method}: {wanted.tune.steps} steps of {wanted.tune.batch}; {parts.inputs.summary}, "
        f"{len(parts.inputs.chosen_by)} of them to choose by, {len(parts.inputs.reported)} to report; "
        f"critic {parts.critic.name}, held-out critic {parts.guard.figure}"
    )
    if wanted.method == "dpo":
        drawn = wanted.pairs.inputs * wanted.pairs.candidates
        console.line(f"pairs from {wanted.pairs.inputs} inputs, {drawn} images of {wanted.pairs.sample_steps} steps")
    else:
        draft = wanted.draft
        console.line(f"the gradient of {draft.gradient_steps} of {draft.sample_steps} sampling steps")


def _reward(wanted: Wanted, parts: _Parts) -> Objective:
    from iqloop.recipes.train.diffusion_critic import reward_of
    from iqloop.restorers.diffusion.draft import RewardObjective

    seed = wanted.tune.seed
    reward = reward_of(parts.critic, wanted.cap, wanted.views, parts.output_side, seed)
    return RewardObjective(parts.model, parts.inputs.batch, reward, wanted.draft, seed)


def _preference(wanted: Wanted, parts: _Parts, console: Console) -> Objective:
    from iqloop.recipes.train.diffusion_critic import prefer_by
    from iqloop.restorers.diffusion.lora import without
    from iqloop.restorers.diffusion.pairs import make_pairs
    from iqloop.restorers.diffusion.preference import PreferenceObjective

    seed, model = wanted.tune.seed, parts.model
    prefer = prefer_by(parts.critic, wanted.by, wanted.margin, seed)
    place = next(model.network.parameters()).device
    with without(model.network):
        pairs = make_pairs(model, parts.inputs.one, prefer, wanted.pairs, wanted.run / "pairs", place, console.line)
    console.line(f"{len(pairs)} pairs, margin {sum(pairs.margins) / len(pairs):.3g} on average")
    return PreferenceObjective(model, pairs, wanted.tune.batch, wanted.beta, seed)


def _train(wanted: Wanted, parts: _Parts, objective: Objective, said: Mapping[str, Any], console: Console) -> None:
    from functools import partial

    from iqloop.io import write_bytes_atomic
    from iqloop.recipes.train.diffusion_figures import changes, document
    from iqloop.restorers.diffusion import results
    from iqloop.restorers.diffusion.held_out import means, measure
    from iqloop.restorers.diffusion.lora import without
    from iqloop.restorers.diffusion.tune import tune

    steps = wanted.draft.sample_steps
    look = partial(measure, parts.model, judges=parts.judges, sample_steps=steps)
    choose = partial(look, parts.inputs.chosen_by)
    tuned = tune(parts.model.network, objective, choose, wanted.tune, parts.guard, wanted.run, console.line)
    with without(parts.model.network):
        before = look(parts.inputs.reported)
    # An adapter that was never trained changes nothing.
    found = changes(before, look(parts.inputs.reported) if tuned.best.step else before, wanted.tune.seed)
    results.write_adapter(parts.model.network, wanted.run / "adapter")
    merged = wanted.run / "pipeline"
    results.write_pipeline(wanted.folder, parts.model.network, merged, wanted.precision)
    outcome = {
        "settings": said,
        "kept_step": tuned.best.step,
        "steps": tuned.steps,
        "stopped": tuned.stopped,
        "chosen_by": {"before": means(tuned.first), "after": means(tuned.best.measured)},
        "images": len(before["drift"]),
    }
    write_bytes_atomic(wanted.run / "result.json", document(outcome, found), overwrite=True)
    _show(tuned, found, len(before["drift"]), console)
    colours = " --keep-colours" if wanted.keep_colours else ""
    console.line(f"{merged}: for  iqloop rerank FILE --pipeline {merged}{colours}  or  --tool NAME={merged}")


def _show(tuned: Tuned, found: Mapping[str, Any], count: int, console: Console) -> None:
    with console.table("figure", "before", "after", "change"):
        for name, row in found.items():
            console.row(
                {"figure": name, **row._asdict()},
                name,
                f"{row.before:.4g}",
                f"{row.after:.4g}",
                str(row),
            )
    why = "the best by the held-out critic" if tuned.best.step else "no adapter was better by the held-out critic"
    console.line(
        f"kept: step {tuned.best.step} of {tuned.steps}, {why}; "
        f"{count} held-out images; in brackets 95 % by a bootstrap over them"
    )
