"""A `trl.GRPOTrainer` for critics.

Three things differ from plain trl. The N copies of an image are encoded once (`share_vision`). The reference model is
the state at the start, so the KL term begins at 0 (trl reads it again from wherever the configuration says). And a
prompt is never cut: trl has no limit on prompts any more, and none is set here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Sampler

from iqloop.critic.fast import speed_up
from iqloop.critic.training.examples import Example
from iqloop.critic.training.grpo.batches import Batches, grouping, steps_of
from iqloop.critic.training.grpo.graded import reward_functions
from iqloop.critic.training.grpo.journal import answers_into
from iqloop.critic.training.grpo.rows import rows
from iqloop.critic.training.grpo.settings import GrpoSettings, prompts_of
from iqloop.critic.training.share_prompt import plant, share_prefill
from iqloop.critic.training.share_vision import core_of, share_vision
from iqloop.errors import PrerequisiteError, UsageError

LORA_TARGETS = r"model\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Where adapters go: the language model's matrices. The vision tower stays as it is."""


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
    """Read the prompt of N answers once: where they are written, in the loss and for the reference."""
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
        reward_funcs=reward_functions(settings, [example.task for example in examples], answers_into(output)),
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
    if made.shares_prompts:
        share_prefill(models[0])
    return made


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
        warmup_steps=settings.warm_up,
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
