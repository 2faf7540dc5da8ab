"""Train `qinsight-mini`, the embedded critic: `iqloop train mini --stage STAGE|all --data DATA --run RUN`.

    vision      the vision tower learns to perceive distortions (`iqloop.critic.training.vision`)
    warmstart   the whole model learns to reason, to answer and to compare, supervised (`...training.warmstart`)
    grpo        multi-task reinforcement on score and degradation (`...training.grpo`, `...training.synthetic`)
    comparison  reinforcement on pairs, with the other tasks among them
    export      half precision, into a checkpoint folder

``DATA`` holds ``photos/train`` and ``photos/val`` (clean photographs) and, if human scores are to be learned,
``rated/*.csv`` with columns ``file`` and ``mos_1_5``. Stages resume from ``RUN`` when they are started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click

from iqloop.critic.prompts import TaskName
from iqloop.errors import UsageError
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console

Stage = Literal["vision", "warmstart", "grpo", "comparison", "export"]
STAGES: tuple[Stage, ...] = ("vision", "warmstart", "grpo", "comparison", "export")
GRPO_RATE = 6e-5
"""Of a model a thousand times smaller than the one that the papers' 1e-6 is for (docs/benchmarks/reinforcement.md)."""
GRPO_WARM_UP = 20
"""Steps on which that rate is reached: Adam's first steps, of few answers each, are as long as any."""
CONTINUED = 0.4
"""Fraction of the peak rates for a warm start that goes on from trained weights."""
CONTINUED_VISION = 0.2
"""The same for the vision stage: at 0.4 the tower loses more than thousands of steps bring back (docs/log.md)."""
HEADS_FIRST = 150
"""Steps on which the new heads of a vision stage that goes on from trained weights learn alone."""


@dataclass(frozen=True)
class MiniRun:
    """Where a run reads and writes, and how long it is."""

    data: Path
    run: Path
    vision_steps: int = 3400
    warmstart_steps: int = 900
    grpo_steps: int = 150
    comparison_steps: int = 100
    seed: int = 0
    width: int = 256
    """Of the tower and of the language model; only where the run starts from random weights."""
    fold: int | None = 0
    """Every fifth rated photograph, starting at this one, is kept for measuring; None trains on all."""
    begin: str | None = None
    """Checkpoint folder, or ``qinsight-mini``, that the run goes on from; None starts from random weights."""
    towers: tuple[Path, ...] = ()
    """Vision stages' results, averaged: what the vision stage goes on from, or the warm start sees with; none takes
    that of the run's own."""
    freeze_vision: bool = False
    """The warm start leaves the tower as it is: what the vision stage taught is kept whole."""
    clean_share: float | None = None
    """Of the warm start's crops; None is `WarmstartSettings.clean_share`."""
    workers: int = 1
    threads: int = 1
    bf16: bool | None = None
    """Of the stages of reinforcement; the others always autocast."""


_DEFAULT = MiniRun(Path(), Path())


@click.command("mini")
@click.option("--stage", type=click.Choice([*STAGES, "all"]), default="all", show_default=True, help="What to run.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with photos/train and photos/val, and rated/*.csv if human scores are to be learned.",
)
@click.option(
    "--run", "run", type=click.Path(path_type=Path), required=True, help="Folder of the run: log, checkpoints, export."
)
@click.option("--vision-steps", type=click.IntRange(1), default=_DEFAULT.vision_steps, show_default=True)
@click.option("--warmstart-steps", type=click.IntRange(1), default=_DEFAULT.warmstart_steps, show_default=True)
@click.option("--grpo-steps", type=click.IntRange(1), default=_DEFAULT.grpo_steps, show_default=True)
@click.option("--comparison-steps", type=click.IntRange(1), default=_DEFAULT.comparison_steps, show_default=True)
@options.seeded
@click.option(
    "--width",
    type=click.IntRange(64),
    default=_DEFAULT.width,
    show_default=True,
    help="Of a critic of random weights: a multiple of 64. A second critic, to hold against the first, has another.",
)
@click.option(
    "--fold",
    type=click.IntRange(-1, 4),
    default=_DEFAULT.fold,
    show_default=True,
    help="Every fifth rated photograph, starting at this one, is kept for measuring; -1 trains on all.",
)
@click.option(
    "--from",
    "begin",
    help="Checkpoint folder to go on from, or qinsight-mini: the weights of the package. Default: random weights.",
)
@click.option(
    "--tower",
    "towers",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="tower.safetensors of another run: the vision stage goes on from it, the warm start sees with it. "
    "Repeatable: the mean of their weights. Default: this run's own.",
)
@click.option(
    "--freeze-vision", is_flag=True, help="The warm start leaves the vision tower as the vision stage made it."
)
@click.option(
    "--clean-share",
    type=click.FloatRange(0, 1),
    help="Fraction of the warm start's crops that are clean: the longer a tower was trained, the more.  [default: 0.3]",
)
@click.option("--workers", type=click.IntRange(0), default=_DEFAULT.workers, show_default=True, help="Data processes.")
@click.option("--threads", type=click.IntRange(1), default=_DEFAULT.threads, show_default=True, help="CPU threads.")
@click.option("--bf16/--no-bf16", default=None, help="Autocast of grpo and comparison. Default: on a GPU.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def command(
    ctx: click.Context,
    stage: str,
    data: Path,
    run: Path,
    vision_steps: int,
    warmstart_steps: int,
    grpo_steps: int,
    comparison_steps: int,
    seed: int,
    width: int,
    fold: int,
    begin: str | None,
    towers: tuple[Path, ...],
    freeze_vision: bool,
    clean_share: float | None,
    workers: int,
    threads: int,
    bf16: bool | None,
    verbose: bool,
) -> int:
    """Train qinsight-mini, the embedded critic, from nothing. Started again, it resumes from the run's folder."""
    ctx.find_root().obj.verbose = verbose
    console = Console(verbose=verbose)
    if width % 64:
        raise UsageError(f"--width must be a multiple of 64, got {width}")
    if begin is not None and width != _DEFAULT.width:
        raise UsageError(f"--width is for random weights, and {begin} has its own: leave one of them out")
    settings = MiniRun(
        data,
        run,
        vision_steps=vision_steps,
        warmstart_steps=warmstart_steps,
        grpo_steps=grpo_steps,
        comparison_steps=comparison_steps,
        seed=seed,
        width=width,
        fold=None if fold < 0 else fold,
        begin=begin,
        towers=towers,
        freeze_vision=freeze_vision,
        clean_share=clean_share,
        workers=workers,
        threads=threads,
        bf16=bf16,
    )
    stages: tuple[Stage, ...] = STAGES if stage == "all" else tuple(name for name in STAGES if name == stage)
    for name in stages:
        run_stage(name, settings, console.line)
    return failures.DONE


def run_stage(stage: Stage, run: MiniRun, say: Callable[[str], None]) -> None:
    """Run one stage; raises `UsageError` when its input is missing."""
    stages = {"vision": _vision, "warmstart": _warmstart, "grpo": _grpo, "comparison": _comparison, "export": _export}
    stages[stage](run, say)


def _model(run: MiniRun) -> tuple[Any, Any]:
    """Model, in float32 and trainable, and processor that a run starts from."""
    if run.begin is not None:
        from iqloop.critic.checkpoint import CheckpointSource, load
        from iqloop.critic.known import DEFAULT, MINI_FOLDER

        folder = MINI_FOLDER if run.begin == DEFAULT else Path(run.begin)
        if not folder.is_dir():
            raise UsageError(f"{run.begin}: expected a checkpoint folder to go on from, or {DEFAULT}")
        checkpoint = load(CheckpointSource(run.begin, str(folder)), device="cpu", dtype="float32", stock=True)
        return checkpoint.model.requires_grad_(True), checkpoint.processor
    return _new_model(run.seed, run.width)


def _new_model(seed: int, width: int) -> tuple[Any, Any]:
    from iqloop.critic.fast import speed_up
    from iqloop.critic.mini import build_model, build_processor, build_tokenizer
    from iqloop.critic.training.reasoning import corpus

    processor = build_processor(build_tokenizer(corpus()))
    model = build_model(processor.tokenizer, width=width, seed=seed)
    speed_up(model.model.visual)
    return model, processor


def _data(run: MiniRun) -> tuple[list[Any], list[Any], list[Any]]:
    from iqloop.critic.training.crops import load_photographs, load_rated, well_rated

    for part in ("photos/train", "photos/val"):
        if not (run.data / part).is_dir():
            raise UsageError(f"{run.data / part} is missing: expected clean photographs there")
    rated = [row for table in sorted((run.data / "rated").glob("*.csv")) for row in load_rated(table, run.fold)]
    photographs = [*load_photographs(run.data / "photos/train"), *well_rated(rated)]
    return photographs, rated, load_photographs(run.data / "photos/val")


def _logger(run: MiniRun, stage: str, say: Callable[[str], None]) -> Callable[[dict[str, float]], None]:
    run.run.mkdir(parents=True, exist_ok=True)

    def log(row: dict[str, float]) -> None:
        with (run.run / "log.jsonl").open("a") as handle:
            handle.write(json.dumps({"stage": stage, **row}) + "\n")
        say(f"{stage} " + " ".join(f"{key}={value:.4g}" for key, value in row.items()))

    return log


def _vision(run: MiniRun, say: Callable[[str], None]) -> None:
    import torch

    from iqloop.critic.training.vision import VisionSettings, load_tower, train_vision
    from iqloop.restorers.registry import package_tools

    torch.set_num_threads(run.threads)
    model, _ = _model(run)
    photographs, rated, held_out = _data(run)
    settings = VisionSettings(steps=run.vision_steps, seed=run.seed)
    if run.begin is not None or run.towers:
        settings = replace(settings, fresh=False, small_share=0.0, heads_first=HEADS_FIRST)
        settings = replace(settings, rate=settings.rate * CONTINUED_VISION, embed_rate=settings.embed_rate / 2)
    log = _logger(run, "vision", say)
    tower = model.model.visual
    if run.towers:
        tower.load_state_dict(load_tower(*run.towers)[0])
    train_vision(tower, photographs, rated, held_out, package_tools(), settings, run.run, log, run.workers)


def _warmstart(run: MiniRun, say: Callable[[str], None]) -> None:
    import torch

    from iqloop.critic.training.vision import TOWER, load_tower
    from iqloop.critic.training.warmstart import WarmstartSettings, train_warmstart
    from iqloop.restorers.registry import package_tools

    torch.set_num_threads(run.threads)
    own = run.run / TOWER
    towers = run.towers or ((own,) if own.exists() else ())
    if not towers and run.begin is None:
        raise UsageError(f"{own} is missing: run  iqloop train mini --stage vision --run {run.run}  first")
    checkpoint = _as_checkpoint(*_model(run))
    heads = None
    if towers:
        visual, heads = load_tower(*towers)
        checkpoint.model.model.visual.load_state_dict(visual)
    photographs, rated, held_out = _data(run)
    settings = WarmstartSettings(steps=run.warmstart_steps, seed=run.seed)
    if run.begin is not None:
        rates = {name: getattr(settings, name) * CONTINUED for name in ("rate", "embed_rate", "vision_rate")}
        settings = replace(settings, **rates)
    if run.freeze_vision:
        settings = replace(settings, vision_rate=0.0)
    if run.clean_share is not None:
        settings = replace(settings, clean_share=run.clean_share)
    log = _logger(run, "warmstart", say)
    tools = package_tools()
    train_warmstart(checkpoint, photographs, rated, held_out, tools, settings, run.run, log, run.workers, heads)


def _grpo(run: MiniRun, say: Callable[[str], None]) -> None:
    _reinforce(run, say, "grpo", ("score", "degradation"), run.grpo_steps, _warm(run))


def _comparison(run: MiniRun, say: Callable[[str], None]) -> None:
    before = run.run / "grpo" / "final"
    if not before.is_dir():
        raise UsageError(f"{before} is missing: run  iqloop train mini --stage grpo --run {run.run}  first")
    # The other tasks stay in the mix: what is not asked any more is forgotten.
    tasks: tuple[TaskName, ...] = ("compare-reference", "score", "compare-reference", "degradation")
    _reinforce(run, say, "comparison", tasks, run.comparison_steps, before)


def _reinforce(
    run: MiniRun,
    say: Callable[[str], None],
    name: str,
    tasks: tuple[TaskName, ...],
    steps: int,
    begin: Path,
) -> None:
    """One stage of reinforcement, from a checkpoint folder to ``RUN/name/final``."""
    import torch

    from iqloop.critic.training.grpo import PRESETS, Machine, train_grpo, trainer
    from iqloop.critic.training.synthetic import Source, examples, rows
    from iqloop.restorers.registry import package_tools

    torch.set_num_threads(run.threads)
    photographs, rated, _ = _data(run)
    settings = replace(
        PRESETS["q-insight"],
        steps=steps,
        prompts_per_device=PRESETS["q-insight"].prompts_per_step // 2,
        rate=GRPO_RATE,
        final_rate=GRPO_RATE / 1000,
        warm_up=min(GRPO_WARM_UP, steps // 2),
        max_new_tokens=80,
        seed=run.seed,
        save_every=25,
    )
    questions = examples(tasks, steps * settings.prompts_per_step)
    source = Source(photographs, rated, package_tools(), seed=run.seed + 1000)
    output = run.run / name
    output.mkdir(parents=True, exist_ok=True)
    made = trainer(begin, output, questions, settings, Machine(bf16=run.bf16), rows(source, questions))
    train_grpo(made, output, lambda line: say(f"{name} {line}"))


def _warm(run: MiniRun) -> Path:
    """The warm start's weights as a checkpoint folder, in float32."""
    from iqloop.critic.mini import TASKS, TIE_BAND, VIEWS, save

    state, folder = run.run / "warmstart.pt", run.run / "warmstart"
    if not state.exists():
        raise UsageError(f"{state} is missing: run  iqloop train mini --stage warmstart --run {run.run}  first")
    model, processor = _model(run)
    import torch

    model.load_state_dict(torch.load(state, weights_only=True)["model"])
    known = {"views": VIEWS.to_dict(), "tasks": list(TASKS), "tie_band": TIE_BAND}
    model.config.iqloop = {**model.config.iqloop, **known}
    save(model, processor, folder)
    return folder


def _export(run: MiniRun, say: Callable[[str], None]) -> None:
    """The weights of the last stage that was run, in half precision."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from iqloop.critic.mini import save

    finals = [run.run / name / "final" for name in ("comparison", "grpo")]
    last = next((folder for folder in finals if folder.is_dir()), None) or _warm(run)
    model = AutoModelForImageTextToText.from_pretrained(last, dtype=torch.float16, local_files_only=True)
    folder = run.run / "qinsight-mini"
    save(model, AutoProcessor.from_pretrained(last, local_files_only=True), folder)
    say(f"export {folder} from {last} bytes={sum(file.stat().st_size for file in folder.iterdir())}")


def _as_checkpoint(model: Any, processor: Any) -> Any:
    from iqloop.critic.checkpoint import Checkpoint, CheckpointSource
    from iqloop.critic.mini import TASKS, VIEWS

    return Checkpoint(CheckpointSource("qinsight-mini", "", tasks=TASKS), model, processor, VIEWS, TASKS, "training")
