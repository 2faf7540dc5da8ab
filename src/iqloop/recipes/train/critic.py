"""``iqloop train critic``: GRPO on labelled images, with the settings of the papers as presets."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iqloop.errors import UsageError
from iqloop.recipes import failures
from iqloop.recipes.console import Console

if TYPE_CHECKING:
    from iqloop.critic.training.examples import Example
    from iqloop.critic.training.grpo import GrpoSettings

_LABELS = click.Path(path_type=Path)
_PRESETS = ("q-insight", "q-insight-comparison", "visualquality-r1")
CONFIGS = Path(__file__).resolve().parents[2] / "critic" / "training" / "deepspeed"
"""DeepSpeed configurations that a name stands for."""


@click.command("critic")
@click.option(
    "--preset", type=click.Choice(_PRESETS), default="q-insight", show_default=True, help="A paper's settings."
)
@click.option(
    "--model",
    required=True,
    help="What to start from: a critic's name (qinsight, qinsight-mini, ...), a checkpoint folder, or a hub id that is "
    "on this machine (Qwen/Qwen2.5-VL-7B-Instruct).",
)
@click.option("--scores", type=_LABELS, multiple=True, help="Label file with mean opinions; may be given again.")
@click.option("--degradations", type=_LABELS, multiple=True, help="Label file with distortion classes and severities.")
@click.option("--comparisons", type=_LABELS, multiple=True, help="Label file with pairs.")
@click.option(
    "--images", type=_LABELS, help="Folder that the label files' names start from. Default: beside each file."
)
@click.option(
    "--missing",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do about a row whose image is missing or unreadable.",
)
@click.option("-o", "--output", type=_LABELS, required=True, help="Folder of the run: checkpoints, TensorBoard, final.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps, instead of --epochs.")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--generations", type=click.IntRange(2), help="Answers to each question (N; K in VisualQuality-R1).")
@click.option("--prompts-per-step", type=click.IntRange(1), help="Questions per optimiser step, of all processes.")
@click.option("--prompts-per-device", type=click.IntRange(1), help="Questions per pass on one device.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Learning rate.")
@click.option("--final-rate", type=click.FloatRange(0), help="The rate falls linearly to this.")
@click.option("--warm-up", type=click.IntRange(0), help="Steps in which the rate rises to --rate first.")
@click.option("--beta", type=click.FloatRange(0), help="Weight of the KL term.")
@click.option("--clip", type=click.FloatRange(0, min_open=True), help="Clip range of the probability ratio.")
@click.option("--epsilon", type=click.FloatRange(0, min_open=True), help="How near a score must come to be right.")
@click.option("--class-weight", type=click.FloatRange(0), help="Worth of the right class.")
@click.option("--level-weight", type=click.FloatRange(0), help="Worth of the right severity, if the class is right.")
@click.option("--score-by", type=click.Choice(["threshold", "ranking"]), help="How scores are rewarded.")
@click.option(
    "--variant",
    type=click.Choice(["fidelity", "binary", "probability-average", "fixed-variance"]),
    help="Of the ranking reward.",
)
@click.option("--temperature", type=click.FloatRange(0, min_open=True))
@click.option("--max-new-tokens", type=click.IntRange(8), help="Longest answer.")
@click.option("--lora", type=click.IntRange(0), help="Rank of adapters on the language model; 0 trains all weights.")
@click.option("--freeze-vision", is_flag=True, default=None, help="Leave the vision tower as it is.")
@click.option("--save-every", type=click.IntRange(1), help="Steps between checkpoints.")
@click.option("--seed", type=int)
@click.option(
    "--share-vision/--no-share-vision", default=True, show_default=True, help="Encode the copies of an image once."
)
@click.option("--device", type=click.Choice(["cpu"]), help="Keep to the processor where there is a GPU.")
@click.option("--bf16/--no-bf16", default=None, help="Autocast to bfloat16. Default: on a GPU.")
@click.option("--gradient-checkpointing", is_flag=True, help="Trade time for memory.")
@click.option(
    "--deepspeed", help="zero2, zero3 or a DeepSpeed configuration file; start it with accelerate or torchrun."
)
@click.option("--vllm", type=click.Choice(["server", "colocate"]), help="Generate with vLLM (a GPU, its package).")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Data processes.")
@click.option("--dry-run", is_flag=True, help="Check everything, say steps and memory, and train nothing.")
@click.option("--gpus", type=click.IntRange(1), help="With --dry-run: plan for so many GPUs in each machine.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="With --gpus: machines.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    preset: str,
    model: str,
    scores: tuple[Path, ...],
    degradations: tuple[Path, ...],
    comparisons: tuple[Path, ...],
    images: Path | None,
    missing: Any,
    output: Path,
    share_vision: bool,
    device: str | None,
    bf16: bool | None,
    gradient_checkpointing: bool,
    deepspeed: str | None,
    vllm: Any,
    workers: int,
    dry_run: bool,
    gpus: int | None,
    nodes: int,
    verbose: bool,
    **changed: Any,
) -> int:
    """Train a critic by reinforcement: Q-Insight's multi-task GRPO, or VisualQuality-R1's ranking.

    Presets carry the papers' hyper-parameters; every option replaces one. Started again with the same options, a run
    goes on from its last checkpoint, exactly. Several processes: torchrun --nproc-per-node N -m iqloop train critic ...
    """
    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        from iqloop.critic.training.grpo import PRESETS, Machine, train_grpo, trainer
        from iqloop.recipes.train.critic_plan import memory, steps

        settings = replace(PRESETS[preset], **{name: value for name, value in changed.items() if value is not None})
        if gpus is None and nodes > 1:
            raise UsageError("--nodes is how many machines --gpus are in: give both, with --dry-run")
        if gpus is not None and not dry_run:
            raise UsageError("--gpus plans a run: give it with --dry-run; a run is told by accelerate or torchrun")
        examples = _examples(scores, degradations, comparisons, images, missing, console)
        where = _deepspeed(deepspeed, needed=not dry_run)
        planned = gpus is not None
        skeleton = _skeleton(model, may_be_elsewhere=dry_run, say=console.notice)
        plan = steps(skeleton, examples, settings, device, planned)
        plan += memory(skeleton, examples, settings, where, gpus, nodes, gradient_checkpointing, vllm is not None)
        first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks and writes
        for line in plan if first else ():
            console.line(line)
        if dry_run:
            return failures.DONE
        folder = folder_of(model)
        if first:
            _begin(output, model, settings, examples)
        machine = Machine(device, bf16, gradient_checkpointing, where, vllm, share_vision=share_vision, workers=workers)
        hush(verbose)
        made = trainer(folder, output, examples, settings, machine)
        train_grpo(made, output, console.line)
    if first:
        console.line(f"{output / 'final'}: a checkpoint, for  --critic {output / 'final'}")
    return failures.DONE


def folder_of(model: str) -> Path:
    """The checkpoint's folder on this machine."""
    from iqloop.critic.checkpoint import CheckpointSource
    from iqloop.critic.known import KNOWN, source_of
    from iqloop.critic.locate import locate

    is_hub_id = "/" in model and model not in KNOWN and not Path(model).expanduser().is_dir()
    source = CheckpointSource(model, model) if is_hub_id else source_of(model)
    if source.adapter is not None:
        raise UsageError(f"{model} is an adapter: merge it into its base, or start from the base with --lora")
    return Path(locate(source))


def _skeleton(model: str, may_be_elsewhere: bool, say: Callable[[str], object]) -> Any:
    """The model without its weights; a published one may be planned with before it is here."""
    from iqloop.critic.checkpoint import skeleton
    from iqloop.critic.known import KNOWN
    from iqloop.critic.training.architectures import BASE, qwen2_5_vl_7b
    from iqloop.errors import PrerequisiteError

    hub = {name: known.source.location for name, known in KNOWN.items() if known.source.location.count("/") == 1}
    try:
        return skeleton(folder_of(model))
    except PrerequisiteError:
        if not may_be_elsewhere or model not in (BASE, *hub, *hub.values()):
            raise
        say(f"{model} is not on this machine: planned with the published architecture, Qwen2.5-VL-7B")
        return qwen2_5_vl_7b()


def _deepspeed(name: str | None, needed: bool) -> str | None:
    """The configuration's file; ``needed`` asks whether DeepSpeed is there too."""
    if name is None:
        return None
    path = CONFIGS / f"{name}.json" if name in ("zero2", "zero3") else Path(name)
    if not path.is_file():
        raise UsageError(f"{name}: expected zero2, zero3 or a DeepSpeed configuration file")
    if not needed:
        return str(path)
    try:
        import deepspeed  # noqa: F401
    except ImportError as error:
        from iqloop.errors import PrerequisiteError

        raise PrerequisiteError("--deepspeed needs the package deepspeed, and GPUs: pip install deepspeed") from error
    return str(path)


def _examples(
    scores: Sequence[Path],
    degradations: Sequence[Path],
    comparisons: Sequence[Path],
    images: Path | None,
    missing: Any,
    console: Console,
) -> list[Example]:
    from iqloop.critic.training.examples import balanced, read_distorted, read_pairs, read_scores, readable

    found: list[Example] = []
    for tables, read in ((scores, read_scores), (degradations, read_distorted), (comparisons, read_pairs)):
        for table in tables:
            found += read(table, images)
    if not found:
        raise UsageError("nothing to train on: name label files with --scores, --degradations or --comparisons")
    return readable(balanced(found), missing, console.line)


def _begin(output: Path, model: str, settings: GrpoSettings, examples: Sequence[Example]) -> None:
    """Write what the run is, or check that it is the one that was begun here."""
    import hashlib

    rows = hashlib.sha256("\n".join(map(repr, examples)).encode()).hexdigest()[:16]
    said = {"model": model, "rows": len(examples), "rows_hash": rows, **asdict(settings)}
    file = output / "settings.json"
    if file.is_file():
        try:
            before = json.loads(file.read_text())
        except ValueError as error:
            raise UsageError(f"{file}: cannot be read ({error}): start in another folder") from error
        ours = json.loads(json.dumps(said))
        other = [key for key in ours if key != "save_every" and before.get(key) != ours[key]]
        if other:
            changes = ", ".join(f"{key} was {before.get(key)}, is {ours[key]}" for key in other)
            raise UsageError(f"{output} holds a run with other settings ({changes}): start in another folder")
        return
    if output.is_dir() and any(output.iterdir()):
        raise UsageError(f"{output}: expected an empty folder, or one of a run that was begun by this command")
    output.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(said, indent=2) + "\n")
    partial.replace(file)


def hush(verbose: bool) -> None:
    """Keep the libraries' progress bars and notes off the terminal."""
    if verbose:
        return
    import datasets
    import transformers

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, whether it is used or not

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
