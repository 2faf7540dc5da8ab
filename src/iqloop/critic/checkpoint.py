"""A critic's weights, ready to ask: model, processor, view policy and prompts, from a folder or a hub id.

A checkpoint may be whole, sharded, in the flat layout that transformers 4 wrote (which the published critics have) or a
LoRA adapter over any of these. Weights are read from safetensors only: a pickle can run code. Nothing is fetched here;
`iqloop.critic.fetch` does that, when it is asked to.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from iqloop.critic.locate import (
    VISION_LANGUAGE,
    as_critic_error,
    check_kind,
    is_out_of_memory,
    locate_adapter,
    one_line,
    read_json,
)
from iqloop.critic.locate import locate as locate  # callers know it by this module
from iqloop.critic.prompts import Q_INSIGHT, Prompt, TaskName
from iqloop.critic.views import ViewPolicy
from iqloop.errors import CriticError, PrerequisiteError, UsageError, missing_extra

Attention = Literal["sdpa", "eager", "flash_attention_2"]
"""Kernels of attention; see `load`."""
Quantization = Literal["4bit", "8bit"]
"""Precision of the language model's matrices; see `load`."""
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
"""Precisions by name."""

_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")
_WHOLE = 64 << 20
"""Files up to this many bytes are read whole for the digest."""


@dataclass(frozen=True)
class CheckpointSource:
    """Where a checkpoint comes from and how it is asked."""

    name: str
    """What users call it."""
    location: str
    """A folder, or a hub id such as ``ByteDance/Q-Insight``; its subfolder may follow: ``.../Q-Insight/comparison``."""
    subfolder: str = ""
    """Folder inside the location."""
    tasks: tuple[TaskName, ...] | None = None
    """What it was trained to answer; None reads ``config.iqloop["tasks"]`` and falls back to score and degradation."""
    prompts: Mapping[TaskName, Prompt] = field(default_factory=lambda: Q_INSIGHT)
    max_new_tokens: int = 1024
    licence: str = "unknown"
    adapter: str | None = None
    """A LoRA adapter laid over the checkpoint: a folder with ``adapter_config.json``, or a hub id."""
    revision: str | None = None
    """Commit, branch or tag of a hub id; None is its main branch. Not for folders, and not the adapter's."""
    tie_band: float | None = None
    """In comparisons the choice is the likelier image, "similar" where its probability is this near to one half; None
    reads ``config.iqloop["tie_band"]``, and without that the choice is what was written."""
    model_type: str = VISION_LANGUAGE
    """What its ``config.json`` says it is; only `VISION_LANGUAGE` can be loaded by `load`."""

    @property
    def is_local(self) -> bool:
        """True for a folder of this machine."""
        return Path(self.location).is_dir()


@dataclass
class Checkpoint:
    """A loaded checkpoint."""

    source: CheckpointSource
    model: Any
    processor: Any
    views: ViewPolicy
    tasks: tuple[TaskName, ...]
    version: str
    """Digest of the weights, the adapter, the hub's commit and the quantisation."""
    tie_band: float | None = None
    """See `CheckpointSource.tie_band`."""
    answer_begin: str = ""
    """What a reasoned answer is made to begin with (``config.iqloop["answer_begin"]``); published ones need nothing."""

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the input embeddings, also for a model that is spread over several."""
        embeddings = self.model.get_input_embeddings()
        # accelerate keeps the weights of an offloaded layer elsewhere and says where they compute.
        place = getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None)
        return torch.device(embeddings.weight.device if place is None else place)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer


def load(
    source: CheckpointSource,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    *,
    attention: Attention = "sdpa",
    device_map: str | None = None,
    quantization: Quantization | None = None,
    stock: bool = False,
) -> Checkpoint:
    """Load a checkpoint for inference.

    By ``from_pretrained`` of transformers; on a CPU, where nothing else is asked for, the same weights go into
    `iqloop.critic.qwen`, whose answers are the same and which is there in a fraction of a second.

    An adapter is merged into weights that are not quantised, so that everything else sees plain layers; over quantised
    weights it stays a layer of its own.

    Args:
        source: where it is.
        device: ``"cpu"``, ``"cuda"``, ...; None takes a GPU when there is one.
        dtype: a name of `DTYPES`; None is float32 on a CPU and bfloat16 on a GPU. float64 is for checking gradients.
        attention: ``"sdpa"``, ``"eager"``, or ``"flash_attention_2"``, which is flash in the vision tower only
            (transformers 5 takes one implementation per part of the model): the language model stays with sdpa,
            because read-outs pass it a tree mask and flash kernels take none. Needs the package flash-attn and a GPU.
        device_map: ``"auto"`` (and accelerate's other policies) spreads the model over the machine's devices, a
            device's name puts it there while it is read; excludes ``device``. Needs the extra ``quantize``.
        quantization: ``"4bit"`` (nf4 with double quantisation, computed in bfloat16) or ``"8bit"``, by bitsandbytes,
            of the language model's matrices; vision tower, embeddings and ``lm_head`` stay as they are. Needs the
            extra ``quantize``. Tried with one forward, since not every machine has the kernels. On a CPU, 4bit has no
            gradient where bitsandbytes has a fast kernel (AVX-512), and takes widths that are multiples of 64 there.
        stock: transformers' own model and processor whatever the device: to train, to save, or to generate with.

    Raises:
        UsageError: an argument is not one of those above, or excludes another.
        PrerequisiteError: a package, or the weights, are not on this machine; says how to get them.
        CriticError: the folder is not a checkpoint of the kind that is understood, or is damaged.
    """
    place, kind = _placement(device, dtype, device_map)
    options = _options(place, kind, attention, device_map, quantization)
    folder, adapter = Path(locate(source)), locate_adapter(source)
    config = read_json(folder / "config.json")
    if "quantization_config" in config:
        if quantization is not None:
            raise UsageError(f"{source.location}: the checkpoint is quantised already; leave quantization out")
        options.setdefault("device_map", {"": str(place)})  # such layers cannot be moved afterwards
    plain = not stock and place.type == "cpu" and options == _options(place, kind, "sdpa", None, None)
    if plain and adapter is None and _reads_itself(folder):
        return _own(source, folder, kind)
    with as_critic_error(source.location, "not a usable checkpoint"):
        processor, model = _read(folder, options)
    quantised = "quantization_config" in config or quantization is not None
    if adapter is not None:
        model = _lay(model, Path(adapter), merge=not quantised)
    model.requires_grad_(False).eval()
    if "device_map" not in options:
        model.to(place)
    if quantization is not None:
        _try_quantised(model, source, quantization, place)
    if next(model.model.visual.parameters()).device.type == "cpu":
        from iqloop.critic.fast import speed_up
        from iqloop.critic.linear import widen

        speed_up(model.model.visual)
        widen(model)
    return _checkpoint(source, model, processor, _digest(source, folder, adapter, quantization))


def _checkpoint(source: CheckpointSource, model: Any, processor: Any, version: str) -> Checkpoint:
    """What the configuration says beside the weights, or what is the custom where it is silent."""
    own: Mapping[str, Any] = getattr(model.config, "iqloop", None) or {}
    tasks = source.tasks or tuple(own.get("tasks", ("score", "degradation")))
    views = ViewPolicy.from_dict(own["views"]) if "views" in own else _processor_views(processor)
    seen = model.config.vision_config
    if views.unit != seen.patch_size * seen.spatial_merge_size:
        raise CriticError(
            f"{source.location}: its views are of tokens of {views.unit} pixels, its patches of {seen.patch_size}: "
            f"expected iqloop.views.unit {seen.patch_size * seen.spatial_merge_size} in its config.json"
        )
    band = tie_band_of(source, own)
    return Checkpoint(source, model, processor, views, tasks, version, band, str(own.get("answer_begin", "")))


def tie_band_of(source: CheckpointSource, own: Mapping[str, Any]) -> float | None:
    """`CheckpointSource.tie_band`, or what ``config.iqloop`` says of it; raises `CriticError` where that is no band."""
    band = own.get("tie_band") if source.tie_band is None else source.tie_band
    if band is not None and (not isinstance(band, (int, float)) or not 0 <= band < 0.5):
        raise CriticError(f"{source.location}: expected a tie_band in [0, 0.5) in its configuration, got {band!r}")
    return band


def _reads_itself(folder: Path) -> bool:
    """Whether all that the folder says is known here."""
    from iqloop.critic.qwen import read, text

    has_views = "views" in (read_json(folder / "config.json").get("iqloop") or {})
    return has_views and read.understands(folder) and text.understands(folder)


def _own(source: CheckpointSource, folder: Path, kind: torch.dtype) -> Checkpoint:
    """The checkpoint without transformers, on the CPU."""
    from iqloop.critic.qwen.read import read
    from iqloop.critic.qwen.text import TextSide

    with as_critic_error(source.location, "not a usable checkpoint"):
        model, words = read(folder, kind), TextSide(folder)
    model.requires_grad_(False)
    _check_tokenizer(folder, words.tokenizer, model.config.image_token_id)
    return _checkpoint(source, model, words, _digest(source, folder, None, None))


def skeleton(folder: Path) -> Any:
    """The model of a checkpoint folder without its weights, on the meta device; raises `CriticError`."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    check_kind(folder)
    with as_critic_error(str(folder), "not a usable configuration"), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return AutoModelForImageTextToText.from_config(config).eval()


def _placement(
    device: str | torch.device | None, dtype: str | None, device_map: str | None
) -> tuple[torch.device, torch.dtype]:
    """Device and precision; of a model that is spread, the device that most of it is meant for."""
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if device is not None and device_map is not None:
        raise UsageError(f"device ({device}) and device_map ({device_map}) exclude each other: give one")
    best = "cuda" if torch.cuda.is_available() else "cpu"
    asked = best if device_map in _SPREAD else (device or device_map or best)
    try:
        place = torch.device(asked)
    except RuntimeError as error:
        more = f", or one of {', '.join(_SPREAD)}" if device_map is not None else ""
        raise UsageError(f"expected a device such as cpu, cuda or cuda:1{more}; got {asked!r}") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device is usable on this machine, got {asked!r}: use device='cpu'")
    return place, DTYPES[dtype] if dtype else (torch.float32 if place.type == "cpu" else torch.bfloat16)


def _options(
    place: torch.device,
    kind: torch.dtype,
    attention: Attention,
    device_map: str | None,
    quantization: Quantization | None,
) -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained``; ``device_map`` is among them where the model must not be moved."""
    if attention not in get_args(Attention):
        raise UsageError(f"attention must be one of {', '.join(get_args(Attention))}, got {attention!r}")
    if quantization not in (None, *get_args(Quantization)):
        raise UsageError(f"quantization must be 4bit, 8bit or None, got {quantization!r}")
    options: dict[str, Any] = {"dtype": kind, "attn_implementation": attention}
    if attention == "flash_attention_2":
        _require_flash(place, kind)
        options["attn_implementation"] = {"": "sdpa", "text_config": "sdpa", "vision_config": attention}
    if device_map is not None:
        if find_spec("accelerate") is None:
            raise missing_extra("accelerate", "quantize")
        options["device_map"] = device_map
    if quantization is not None:
        for package in ("bitsandbytes", "accelerate"):
            if find_spec(package) is None:
                raise missing_extra(package, "quantize")
        options["quantization_config"] = _bitsandbytes(quantization)
        options.setdefault("device_map", {"": str(place)})
    return options


def _require_flash(place: torch.device, kind: torch.dtype) -> None:
    # Without the package transformers would take a kernel from the hub, and nothing is fetched here.
    if find_spec("flash_attn") is None:
        raise PrerequisiteError(
            "flash-attn is not installed: run  pip install flash-attn --no-build-isolation  or use attention='sdpa'"
        )
    if place.type != "cuda" or kind == torch.float32:
        name = next(name for name, value in DTYPES.items() if value == kind)
        raise UsageError(
            f"flash_attention_2 needs a CUDA GPU and bfloat16 or float16, got {place} and {name}: use attention='sdpa'"
        )


def _bitsandbytes(quantization: Quantization) -> Any:
    from transformers import BitsAndBytesConfig

    _quiet_bitsandbytes()
    # Read-outs differentiate through the vision tower and compare single logits: both stay at full precision.
    kept = ["model.visual", "lm_head"]
    make: Any = BitsAndBytesConfig
    if quantization == "8bit":
        return make(load_in_8bit=True, llm_int8_skip_modules=kept)
    return make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=kept,
    )


def _quiet_bitsandbytes() -> None:
    """Its logger tells of every cast, and of a faster kernel that it would fetch from the hub."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _read(folder: Path, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Processor and model; refuses weights that leave a part of the model as it was initialised."""
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    offline = {"local_files_only": True, "trust_remote_code": False}
    processor = AutoProcessor.from_pretrained(folder, padding_side="left", **offline)
    read: Any = AutoModelForImageTextToText.from_pretrained  # annotated without the report that it returns
    model, told = read(
        folder, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **offline, **options
    )
    missing = sorted(told["missing_keys"])
    if missing:
        raise CriticError(f"{folder}: the weights lack {len(missing)} of the model's tensors, the first {missing[0]}")
    if told["mismatched_keys"]:
        name, *shapes = sorted(told["mismatched_keys"])[0]
        found = " and ".join(str(tuple(shape)) for shape in shapes)
        raise CriticError(f"{folder}: weights and configuration disagree on the shape of {name}: {found}")
    _check_tokenizer(folder, processor.tokenizer, model.config.image_token_id)
    return processor, model


def _check_tokenizer(folder: Path, tokenizer: Any, wanted: int) -> None:
    # A tokenizer without its files is made silently, of special tokens alone.
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    if image != wanted:
        raise CriticError(
            f"{folder}: the tokenizer is not the model's (its image token is {image}, the model's "
            f"{wanted}): fetch or copy the checkpoint again"
        )


def _lay(model: Any, folder: Path, *, merge: bool) -> Any:
    """The model with a LoRA adapter: merged into its weights, or as layers of its own; raises `CriticError`."""
    if find_spec("peft") is None:
        raise missing_extra("peft", "train")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise CriticError(
            f"{folder}: an adapter needs the whole base in memory: give quantization='4bit' or one device"
        )
    _quiet_bitsandbytes()  # peft imports it
    from peft import PeftConfig, PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    with as_critic_error(str(folder), "the adapter does not fit its base"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft only warns of is checked below
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        laid = PeftModel(model, config)
        tensors = load_file(folder / "adapter_model.safetensors")
        told: Any = set_peft_model_state_dict(laid, {_present_name(name): tensor for name, tensor in tensors.items()})
        lacking = [name for name in told.missing_keys if "lora_" in name or "modules_to_save" in name]
        if lacking or told.unexpected_keys:
            name = (lacking or told.unexpected_keys)[0]
            raise CriticError(
                f"{folder}: the adapter does not fit its base, at {name}: give the base it was trained on"
            )
        return laid.merge_and_unload(safe_merge=True) if merge else laid.get_base_model()


def _present_name(name: str) -> str:
    """A tensor's name in an adapter, from how transformers 4.51 and earlier nested the model to how 5 does."""
    name = re.sub(r"^base_model\.model\.visual\.", "base_model.model.model.visual.", name)
    return re.sub(
        r"^base_model\.model\.model\.(?!visual\.|language_model\.)", "base_model.model.model.language_model.", name
    )


def _try_quantised(model: Any, source: CheckpointSource, quantization: str, place: torch.device) -> None:
    """One forward of two tokens: some machines lack the kernels, and some kernels the shapes."""
    embeddings = model.get_input_embeddings().weight
    try:
        with torch.no_grad():
            model.model.language_model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=embeddings.device))
    except Exception as error:  # whatever a missing kernel raises
        if is_out_of_memory(error):
            raise
        raise CriticError(
            f"bitsandbytes cannot run {source.name} in {quantization} on {place.type} ({one_line(error)}): "
            "use another quantization, a CUDA GPU, or none"
        ) from error
    for layer in model.modules():
        # Packed for the CPU's fast kernel, which autograd does not see: gradients would be wrong, not absent.
        if getattr(getattr(getattr(layer, "weight", None), "quant_state", None), "packing_format_for_cpu", False):
            layer.register_forward_pre_hook(_refuse_gradient)


def _refuse_gradient(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    if torch.is_grad_enabled() and inputs[0].requires_grad:
        raise CriticError("4bit has no gradient on this CPU: load the critic with quantization='8bit', or without")


def _processor_views(processor: Any) -> ViewPolicy:
    images = processor.image_processor
    longest, shortest = (int(images.size[name]) for name in ("longest_edge", "shortest_edge"))
    return ViewPolicy("processor", images.patch_size * images.merge_size, pixels=longest, min_pixels=shortest)


def _digest(source: CheckpointSource, folder: Path, adapter: str | None, quantization: str | None) -> str:
    """First 16 hex digits over what determines the answers.

    The weights' bytes and the configuration; of files over 64 MiB the size and 256 blocks spread over the file, which
    tells two fine-tunings of one model apart. The adapter's bytes whole. A hub's commit and the quantisation by name.
    """
    digest = hashlib.sha256()
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        digest.update(file.name.encode())
        for block in _blocks(file):
            digest.update(block)
    if adapter is not None:
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            digest.update(name.encode())
            with (Path(adapter) / name).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    if not source.is_local:
        commit = folder.parts[folder.parts.index("snapshots") + 1] if "snapshots" in folder.parts else ""
        digest.update(f"revision {commit or source.revision}".encode())
    if quantization is not None:
        digest.update(f"quantization {quantization}".encode())
    return digest.hexdigest()[:16]


def _blocks(file: Path, count: int = 256, size: int = 1 << 16) -> Iterator[bytes]:
    length = file.stat().st_size
    if length <= _WHOLE:
        yield file.read_bytes()
        return
    yield str(length).encode()
    with file.open("rb") as stream:
        for i in range(count):
            stream.seek(i * (length - size) // (count - 1))
            yield stream.read(size)
