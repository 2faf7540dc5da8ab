"""Train a critic by reinforcement: group relative policy optimisation on trl, as Q-Insight and VisualQuality-R1 did.

    GrpoSettings, PRESETS   the papers' hyper-parameters, each overridable
    rows                    examples as trl's data set, images read when they are needed
    reward_functions        `iqloop.critic.rewards` behind trl's signature, over the whole gathered batch
    Batches                 which rows make a step: whole groups, and for ranking one data set at a time
    train_grpo              the run: checkpoints, exact resume, TensorBoard

Three things differ from plain trl. The N copies of an image are encoded once (`share_vision`). The reference model is
the state at the start, so the KL term begins at 0 (trl reads it again from wherever the configuration says). And a
prompt is never cut: trl has no limit on prompts any more, and none is set here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from iqloop.critic.answers import parse_choice, parse_degradation, parse_rating
from iqloop.critic.fast import speed_up
from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1, Prompt, TaskName
from iqloop.critic.rewards import (
    Variant,
    comparison_reward,
    degradation_reward,
    format_reward,
    ranking_rewards,
    score_reward,
)
from iqloop.critic.rewards.perception import CLASS_WEIGHT, EPSILON, LEVEL_WEIGHT
from iqloop.critic.training.examples import Example, load
from iqloop.critic.training.share_prompt import plant
from iqloop.critic.training.share_vision import core_of, share_vision
from iqloop.critic.verdicts import Unparsed
from iqloop.critic.views import single_view
from iqloop.errors import PrerequisiteError, UsageError

Say = Callable[[str], None]
Column = Sequence[Any]
Reward = Callable[..., list[float | None]]

ANSWERED: tuple[TaskName, ...] = ("score", "degradation", "compare", "compare-reference")
"""Tasks whose answers can be checked."""
LORA_TARGETS = r"model\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Where adapters go: the language model's matrices. The vision tower stays as it is."""


@dataclass(frozen=True)
class GrpoSettings:
    """Hyper-parameters; the defaults are those of Q-Insight's score and degradation training (section 4.1)."""

    prompts: Literal["q-insight", "visualquality-r1"] = "q-insight"
    score_by: Literal["threshold", "ranking"] = "threshold"
    """Scores are rewarded for being near people's (Q-Insight), or for their order (VisualQuality-R1)."""
    variant: Variant = "fidelity"
    """Of the ranking reward."""
    epsilon: float = EPSILON
    """How near a score must come."""
    class_weight: float = CLASS_WEIGHT
    level_weight: float = LEVEL_WEIGHT
    generations: int = 8
    """N (K in VisualQuality-R1): answers to each question."""
    prompts_per_step: int = 16
    """Questions per optimiser step, of all processes together; times N is the papers' total batch (128)."""
    prompts_per_device: int = 2
    """Questions of one forward and backward pass on one device."""
    epochs: int = 10
    steps: int | None = None
    """Optimiser steps, instead of epochs."""
    rate: float = 1e-6
    final_rate: float = 1e-9
    """The rate falls linearly to this."""
    beta: float = 1e-3
    """Weight of the KL term."""
    clip: float = 0.2
    temperature: float = 1.0
    max_new_tokens: int = 256
    lora: int = 0
    """Rank of adapters on the language model's matrices; 0 trains all weights."""
    freeze_vision: bool = False
    seed: int = 0
    save_every: int = 100
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        counts = {
            "generations": (self.generations, 2),
            "prompts_per_step": (self.prompts_per_step, 1),
            "prompts_per_device": (self.prompts_per_device, 1),
            "epochs": (self.epochs, 1),
            "max_new_tokens": (self.max_new_tokens, 8),
            "save_every": (self.save_every, 1),
        }
        for name, (value, least) in counts.items():
            if value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps must be at least 1, got {self.steps}")
        if self.rate <= 0 or not 0 <= self.final_rate <= self.rate or self.beta < 0 or self.epsilon <= 0:
            raise UsageError("expected rate > 0, 0 <= final_rate <= rate, beta >= 0 and epsilon > 0")
        if self.score_by == "ranking" and self.prompts_per_step < 2:
            raise UsageError("ranking needs at least 2 prompts_per_step: an image is ranked against the others")


PRESETS: dict[str, GrpoSettings] = {
    "q-insight": GrpoSettings(),
    "q-insight-comparison": GrpoSettings(prompts_per_step=4, prompts_per_device=1, epochs=8),
    "visualquality-r1": GrpoSettings(
        prompts="visualquality-r1",
        score_by="ranking",
        generations=6,
        prompts_per_step=8,
        prompts_per_device=8,
        beta=0.04,
        final_rate=0.0,
    ),
}
"""Q-Insight section 4.1 (score and degradation: batch 128, 10 epochs; comparison: batch 32, 8 epochs) and
VisualQuality-R1's released script (K = 6, 48 answers a device, its beta)."""


# -- data --------------------------------------------------------------------------------------------------------------


def rows(examples: Sequence[Example], prompts: Mapping[TaskName, Prompt], views: Any = None) -> Any:
    """Examples as a `datasets.Dataset` of trl's columns; images are read when a row is asked for.

    Args:
        examples: what to train on.
        prompts: the questions' words.
        views: a `ViewPolicy` of the critic; one that looks at native pixels gets them here as it does when it is used.

    Raises:
        UsageError: an example's task has no prompt or no checkable answer.
    """
    from datasets import Dataset

    for example in examples:
        if example.task not in prompts or example.task not in ANSWERED:
            raise UsageError(f"the task {example.task} cannot be trained with these prompts: {', '.join(prompts)}")
    messages = {task: prompt.messages() for task, prompt in prompts.items()}

    def row(batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        chosen = [examples[i] for i in batch["index"]]
        return {
            "prompt": [messages[example.task] for example in chosen],
            "images": [[seen(load(path), views) for path in example.images] for example in chosen],
            "index": list(batch["index"]),
            "task": [example.task for example in chosen],
            "dataset": [example.dataset for example in chosen],
            "opinion": [example.opinion for example in chosen],
            "distortion_class": [example.distortion_class for example in chosen],
            "severity": [example.severity for example in chosen],
            "choice": [example.choice for example in chosen],
        }

    return Dataset.from_dict({"index": list(range(len(examples)))}).with_transform(row)


def seen(image: Any, views: Any) -> Any:
    """The PIL image as the critic looks at it in one view."""
    if views is None or views.kind == "processor":
        return image
    from PIL import Image

    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    view = single_view(pixels, views).mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(view.permute(1, 2, 0).numpy())


class Batches(Sampler[int]):
    """Indices of all steps of a run: each question ``copies`` times in a row, ``prompts`` questions a step.

    The order of an epoch depends on the seed and the epoch alone, and all epochs are one pass, so that a resumed run
    goes on in the order of an unbroken one. Questions that do not fill a step are left over until the next epoch draws.
    """

    def __init__(
        self,
        groups: Sequence[str],
        prompts: int,
        copies: int,
        steps: int,
        seed: int,
        repeats: int = 1,
    ) -> None:
        """Args:

        groups: of each row, what may share a step (equal for all, or the data set).
        prompts: questions per step.
        copies: answers per question.
        steps: how many steps.
        seed: of the order.
        repeats: how often trl asks for a step's questions (its gradient accumulation).
        """
        sizes = {group: groups.count(group) for group in dict.fromkeys(groups)}
        small = [f"{size}{f' of {group}' if group else ''}" for group, size in sizes.items() if size < prompts]
        if small:
            raise UsageError(
                f"expected at least {prompts} rows to fill a step (prompts_per_step), got {', '.join(small)}: "
                "add rows, or lower prompts_per_step"
            )
        self.groups, self.prompts, self.copies = groups, prompts, copies
        self.steps, self.seed, self.repeats = steps, seed, repeats

    def __len__(self) -> int:
        return self.steps * self.prompts * self.copies * self.repeats

    def __iter__(self) -> Iterator[int]:
        for questions in self.questions():
            for _ in range(self.repeats):
                for index in questions:
                    yield from [index] * self.copies

    def questions(self) -> Iterator[list[int]]:
        """The rows of each step."""
        done, epoch = 0, 0
        while True:
            for chunk in self._epoch(epoch):
                if done == self.steps:
                    return
                yield chunk
                done += 1
            epoch += 1

    def per_epoch(self) -> int:
        """Steps of one epoch."""
        return sum(self.groups.count(group) // self.prompts for group in dict.fromkeys(self.groups))

    def _epoch(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, epoch])
        members: dict[str, list[int]] = {}
        for index, group in enumerate(self.groups):
            members.setdefault(group, []).append(index)
        chunks = []
        for indices in members.values():
            order = [indices[i] for i in rng.permutation(len(indices))]
            chunks += [order[i : i + self.prompts] for i in range(0, len(order) - self.prompts + 1, self.prompts)]
        return [chunks[i] for i in rng.permutation(len(chunks))]


def grouping(examples: Sequence[Example], settings: GrpoSettings) -> list[str]:
    """What may share a step: anything, or one data set where scores are ranked."""
    return [example.dataset if settings.score_by == "ranking" else "" for example in examples]


# -- rewards -----------------------------------------------------------------------------------------------------------


def reward_functions(
    settings: GrpoSettings,
    tasks: Sequence[TaskName] = ANSWERED,
    sample: Callable[[dict[str, Any]], None] | None = None,
) -> list[Reward]:
    """The rewards of a run, named as TensorBoard shows them; each answers None for rows of other tasks.

    Args:
        settings: which rewards, and their constants.
        tasks: the tasks of the run; rewards of others are left out.
        sample: takes the first answer of each batch.
    """

    def format(completions: Column, task: Column, **columns: Any) -> list[float | None]:
        texts = [_text(completion) for completion in completions]
        _tell(columns, texts, task)
        if sample is not None and texts:
            sample({"task": task[0], "text": texts[0], "answer": _truth(columns, 0)})
        # VisualQuality-R1 asks for the number alone, so any words between the tags are of its form.
        form: list[TaskName] = [name if settings.prompts == "q-insight" else "describe" for name in task]
        return [format_reward(text, name) for text, name in zip(texts, form, strict=True)]

    def score(completions: Column, task: Column, opinion: Column, **columns: Any) -> list[float | None]:
        texts = [_text(completion) for completion in completions]
        if settings.score_by == "ranking":
            return _ranked(texts, task, opinion, columns["dataset"], settings)
        return [
            score_reward(text, value, settings.epsilon) if name == "score" else None
            for text, name, value in zip(texts, task, opinion, strict=True)
        ]

    def degradation(completions: Column, task: Column, **columns: Any) -> list[float | None]:
        labels = zip(task, columns["distortion_class"], columns["severity"], strict=True)
        return [
            degradation_reward(_text(completion), kind, severity, settings.class_weight, settings.level_weight)
            if name == "degradation"
            else None
            for completion, (name, kind, severity) in zip(completions, labels, strict=True)
        ]

    def comparison(completions: Column, task: Column, choice: Column, **_: Any) -> list[float | None]:
        return [
            comparison_reward(_text(completion), truth) if name.startswith("compare") else None
            for completion, name, truth in zip(completions, task, choice, strict=True)
        ]

    wanted: dict[str, Reward] = {"score": score, "degradation": degradation}
    chosen = [wanted[name] for name in wanted if name in tasks]
    return [format, *chosen, *([comparison] if any(name.startswith("compare") for name in tasks) else [])]


def _truth(columns: Mapping[str, Any], i: int) -> dict[str, Any]:
    names = ("opinion", "distortion_class", "severity", "choice")
    return {name: columns[name][i] for name in names if columns[name][i] is not None}


def _text(completion: Any) -> str:
    return str(completion if isinstance(completion, str) else completion[0]["content"])


def _tell(columns: Mapping[str, Any], texts: Sequence[str], task: Column) -> None:
    """Share of answers that do not parse, and the spread of the scores within a question."""
    log = columns.get("log_metric")
    if log is None:
        return
    log(
        "answers/unparsed",
        float(np.mean([isinstance(_parsed(*pair), Unparsed) for pair in zip(texts, task, strict=True)])),
    )
    spread: dict[Any, list[float]] = {}
    for text, name, index in zip(texts, task, columns["index"], strict=True):
        value = _parsed(text, name)
        if name == "score" and isinstance(value, float):
            spread.setdefault(index, []).append(value)
    spreads = [float(np.std(values, ddof=1)) for values in spread.values() if len(values) > 1]
    log("answers/score_spread", float(np.mean(spreads)) if spreads else float("nan"))


def _parsed(text: str, task: TaskName) -> Any:
    if task == "score":
        return parse_rating(text)
    return parse_degradation(text) if task == "degradation" else parse_choice(text)


def _ranked(
    texts: Sequence[str], task: Column, opinion: Column, dataset: Column, settings: GrpoSettings
) -> list[float | None]:
    """Ranking rewards of this process's answers, ranked within the whole batch of all processes.

    Every process comes here once a batch, also without a score to rank, so that none waits for another.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    mine: list[tuple[Any, ...]] = []
    for text, name, value, group in zip(texts, task, opinion, dataset, strict=True):
        said = parse_rating(text) if name == "score" else None
        mine.append((name, said if isinstance(said, float) else None, value, group))
    state = PartialState()
    counts = gather_object([len(mine)])
    everyone = gather_object(mine)
    start = sum(counts[: state.process_index])
    n = settings.generations
    questions = [everyone[i : i + n] for i in range(0, len(everyone), n)]
    worth: list[float | None] = [None] * len(everyone)
    scored = [i for i, question in enumerate(questions) if question[0][0] == "score"]
    rewards = ranking_rewards(
        [[answer[1] for answer in questions[i]] for i in scored],
        [questions[i][0][2] for i in scored],
        [questions[i][0][3] for i in scored],
        settings.variant,
    )
    for i, earned in zip(scored, rewards, strict=True):
        worth[i * n : i * n + len(earned)] = earned
    return worth[start : start + len(mine)]


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """How a run uses what it runs on."""

    device: str | None = None
    """``"cpu"`` keeps to the processor where there is a GPU."""
    bf16: bool | None = None
    """Autocast to bfloat16; None does so on a GPU."""
    gradient_checkpointing: bool = False
    deepspeed: str | None = None
    """A DeepSpeed configuration file."""
    vllm: Literal["server", "colocate"] | None = None
    """Generate with vLLM."""
    share_vision: bool = True
    """Encode the copies of an image once."""
    share_prompts: bool = True
    """Read the prompt of N answers once, in the loss and for the reference."""
    fast_vision: bool = True
    """On a processor, the tower's fast forward (`iqloop.critic.fast`)."""
    workers: int = 0


def trainer(
    folder: Path,
    output: Path,
    examples: Sequence[Example],
    settings: GrpoSettings,
    machine: Machine | None = None,
    dataset: Any = None,
    callbacks: Sequence[Any] = (),
) -> Any:
    """A `trl.GRPOTrainer` that is ready to train.

    Args:
        folder: the checkpoint to start from, on this machine. It is also the reference of the KL term.
        output: folder of the run.
        examples: what to train on; see `iqloop.critic.training.examples`.
        settings: hyper-parameters.
        machine: how to use the machine.
        dataset: rows made elsewhere, with the columns of `rows`, one for each example.
        callbacks: of transformers.

    Raises:
        UsageError: settings that do not fit together, or too few rows.
        PrerequisiteError: a package of the extra ``train`` is missing.
    """
    try:
        import accelerate  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise PrerequisiteError(f"training needs the extra train: pip install 'iqloop[train]' ({error})") from error
    machine = machine or Machine()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    on_gpu = machine.device != "cpu" and torch.cuda.is_available()
    if machine.vllm is not None:
        _need_vllm()
    config = _config(output, settings, machine, grouping(examples, settings), on_gpu)
    # Full training keeps float32 weights under autocast: steps of 1e-6 are lost in bfloat16's eight bits.
    dtype = torch.bfloat16 if settings.lora and on_gpu else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
    own = getattr(model.config, "iqloop", None) or {}
    processor = AutoProcessor.from_pretrained(folder, padding_side="left", local_files_only=True)
    if settings.freeze_vision:
        model.model.visual.requires_grad_(False)
    if dataset is None:
        dataset = rows(examples, prompts_of(settings), _views(own))
    made = _trainer_class()(
        model=model,
        processing_class=processor,
        args=config,
        train_dataset=dataset,
        reward_funcs=reward_functions(settings, [example.task for example in examples], _sampler(output)),
        peft_config=_lora(settings.lora) if settings.lora else None,
        callbacks=[*callbacks],
    )
    from transformers import PrinterCallback

    made.remove_callback(PrinterCallback)
    made.batches = Batches(
        grouping(examples, settings),
        settings.prompts_per_step,
        settings.generations,
        config.max_steps,
        settings.seed,
        config.gradient_accumulation_steps,
    )
    if made.ref_model is not None and not made.is_deepspeed_enabled:
        made.ref_model.load_state_dict(made.accelerator.unwrap_model(made.model).state_dict())
    # Flash kernels take no tree mask.
    made.shares_prompts = machine.share_prompts and "flash" not in str(made.model.config._attn_implementation)
    models = [made.accelerator.unwrap_model(model) for model in (made.model, made.ref_model) if model is not None]
    for part in models:
        if not on_gpu and machine.fast_vision:
            speed_up(core_of(part).visual)
        if machine.share_vision:
            share_vision(part)
    return made


def train_grpo(made: Any, output: Path, say: Say) -> dict[str, float]:
    """Train from the newest checkpoint in ``output``, or from the start; writes ``output/final``. Returns the last
    step's figures."""
    checkpoint = newest(output)
    if checkpoint is not None:
        say(f"resuming from {checkpoint}")
    made.add_callback(_told(say))
    made.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    final = output / "final"
    made.save_model(str(final))
    if made.is_world_process_zero():
        made.processing_class.save_pretrained(str(final))
        (final / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nothing here reads
    steps = [row for row in made.state.log_history if "reward" in row]
    return {key: float(value) for key, value in (steps[-1] if steps else {}).items() if isinstance(value, int | float)}


def newest(output: Path) -> Path | None:
    """The last checkpoint of a run that was written to its end."""
    found = [
        folder
        for folder in output.glob("checkpoint-*")
        if folder.name.removeprefix("checkpoint-").isdigit() and (folder / "trainer_state.json").is_file()
    ]
    return max(found, key=lambda folder: int(folder.name.removeprefix("checkpoint-")), default=None)


def prompts_of(settings: GrpoSettings) -> Mapping[TaskName, Prompt]:
    """The words that a run asks with."""
    return VISUALQUALITY_R1 if settings.prompts == "visualquality-r1" else Q_INSIGHT


def steps_of(settings: GrpoSettings, groups: Sequence[str]) -> int:
    """Optimiser steps of a run; ``groups`` as for `Batches`. Raises `UsageError` for too few rows."""
    batches = Batches(groups, settings.prompts_per_step, settings.generations, 1, settings.seed)
    return settings.steps or batches.per_epoch() * settings.epochs


def passes(settings: GrpoSettings, on_gpu: bool) -> int:
    """Forward and backward passes of each process for a step. Raises `UsageError` when the questions do not divide."""
    from accelerate import PartialState

    world = PartialState(cpu=not on_gpu).num_processes
    share = settings.prompts_per_device * world
    if settings.prompts_per_step % share:
        raise UsageError(
            f"prompts_per_step ({settings.prompts_per_step}) must be a multiple of prompts_per_device "
            f"({settings.prompts_per_device}) times the number of processes ({world})"
        )
    return settings.prompts_per_step // int(share)


def _config(output: Path, settings: GrpoSettings, machine: Machine, groups: Sequence[str], on_gpu: bool) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    options: dict[str, Any] = {}
    if machine.vllm is not None:
        options |= {"use_vllm": True, "vllm_mode": machine.vllm}
    if machine.deepspeed is not None:
        options["deepspeed"] = machine.deepspeed
    return GRPOConfig(
        output_dir=str(output),
        max_steps=steps_of(settings, groups),
        per_device_train_batch_size=settings.prompts_per_device * settings.generations,
        gradient_accumulation_steps=passes(settings, on_gpu),
        num_generations=settings.generations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        learning_rate=settings.rate,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"lr_end": settings.final_rate, "power": 1.0},
        beta=settings.beta,
        epsilon=settings.clip,
        loss_type="grpo",
        scale_rewards="group",
        use_bias_correction_kl=False,
        bf16=on_gpu if machine.bf16 is None else machine.bf16,
        use_cpu=not on_gpu,
        gradient_checkpointing=machine.gradient_checkpointing,
        disable_dropout=True,
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=1,
        save_steps=settings.save_every,
        save_total_limit=2,
        report_to=["tensorboard"],
        log_completions=False,
        log_multimodal=False,
        remove_unused_columns=False,
        dataloader_num_workers=machine.workers,
        disable_tqdm=True,
        **options,
    )


def _trainer_class() -> type:
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

    class CriticTrainer(GRPOTrainer):
        """trl's trainer with our order of questions, weights that are read back, and no model card of its own."""

        batches: Batches
        shares_prompts: bool

        def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
            return self.batches

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            """Answers of a step, in parts; trl shuffles them first, which parts the answers to a question.

            All parts go into one step of the optimiser, so that their order changes nothing.
            """
            me: Any = self  # trl's annotations know less than its code
            if not me.model.training:
                return super()._prepare_inputs(generation_batch)
            parts = me.args.steps_per_generation
            if self._step % (parts * self.num_iterations) == 0 or me._buffered_inputs is None:
                made: Any = split_pixel_values_by_grid(self._generate_and_score_completions(generation_batch))
                pieces: Any = split_tensor_dict(made, parts)
                me._buffered_inputs = [unsplit_pixel_values_by_grid(piece) for piece in pieces]
            return me._buffered_inputs[self._step % parts]

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, **options: Any
        ) -> tuple[Tensor, Tensor | None, Tensor | None]:
            """Log probabilities ``(B, T)`` of the answers' tokens, and entropies, each question read once."""
            names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
            pixels, grid, counts, kinds = (options.get(name) for name in names)
            if not self.shares_prompts or pixels is None or grid is None or counts is None or kinds is None:
                ask: Any = super()._get_per_token_logps_and_entropies
                return ask(model, input_ids, attention_mask, logits_to_keep, **options)  # type: ignore[no-any-return]
            bare = self.accelerator.unwrap_model(model)
            tree = plant(bare, input_ids, attention_mask, logits_to_keep, pixels, grid, counts, kinds)
            with self.accelerator.autocast():
                said = model(**tree.inputs, shift_labels=tree.labels, fused_lm_head=True)
            entropy = said.entropy[tree.row, tree.place] if options.get("compute_entropy") else None
            return said.log_probs[tree.row, tree.place], entropy, None

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            """Weights of a checkpoint by the model's own reader.

            transformers writes Qwen2.5-VL under its published names and the trainer reads them back as they stand: none
            fits, which it only warns of, and training would start again from the first weights.
            """
            ours = self.accelerator.unwrap_model(model or self.model)
            if hasattr(ours, "peft_config") or self.is_deepspeed_enabled:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
                return
            weights = type(ours).from_pretrained(resume_from_checkpoint, dtype=ours.dtype, local_files_only=True)
            ours.load_state_dict(weights.state_dict())

        def create_model_card(self, *_: Any, **__: Any) -> None:
            return None

    return CriticTrainer


def _told(say: Say) -> Any:
    """One line for each step, and all figures into ``log.jsonl``."""
    from transformers import TrainerCallback

    shown = ("reward", "reward_std", "kl", "answers/unparsed", "frac_reward_zero_std", "completions/mean_length")

    class Told(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if not state.is_world_process_zero or logs is None or "reward" not in logs:
                return
            row = {key: value for key, value in logs.items() if isinstance(value, int | float)}
            with (Path(args.output_dir) / "log.jsonl").open("a") as handle:
                handle.write(json.dumps({"step": state.global_step, **row}) + "\n")
            figures = " ".join(f"{key.split('/')[-1]}={row[key]:.4g}" for key in shown if key in row)
            tasks = " ".join(
                f"{key.split('/')[1]}={row[key]:.3f}" for key in row if key.startswith("rewards/") and "mean" in key
            )
            say(f"step {state.global_step}/{state.max_steps} {figures} {tasks} seconds={row.get('step_time', 0):.1f}")

    return Told()


def _views(own: Mapping[str, Any]) -> Any:
    from iqloop.critic.views import ViewPolicy

    return ViewPolicy.from_dict(own["views"]) if "views" in own else None


def _lora(rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=LORA_TARGETS,
        task_type="CAUSAL_LM",
    )


def _need_vllm() -> None:
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise PrerequisiteError("generating with vLLM needs the package vllm, and a GPU: pip install vllm") from error


def _sampler(output: Path) -> Callable[[dict[str, Any]], None]:
    """Writes an answer of each batch to ``completions.jsonl``."""
    from accelerate import PartialState

    def write(row: dict[str, Any]) -> None:
        if PartialState().is_main_process:
            output.mkdir(parents=True, exist_ok=True)
            with (output / "completions.jsonl").open("a") as handle:
                handle.write(json.dumps(row) + "\n")

    return write
