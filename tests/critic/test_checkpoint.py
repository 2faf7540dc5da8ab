"""Checkpoints as they are published and as users make them: layouts, adapters, precisions, devices, damage.

All are built here from a configuration, in the layout of the real ones; none of the real weights is needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from iqloop.critic import checkpoint as checkpoint_module
from iqloop.critic.checkpoint import Checkpoint, CheckpointSource, load, locate, skeleton
from iqloop.critic.engine import QwenCritic
from iqloop.critic.known import KNOWN
from iqloop.critic.verdicts import Rating
from iqloop.errors import CriticError, IqloopError, PrerequisiteError, UsageError

from ..recipes.helpers import run

PARTS = ("score_degradation", "comparison")

Q_INSIGHT_CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "image_token_id": 151655,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_position_embeddings": 128000,
    "max_window_layers": 28,
    "model_type": "qwen2_5_vl",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.3",
    "use_cache": True,
    "use_sliding_window": False,
    "video_token_id": 151656,
    "vision_config": {
        "depth": 32,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "hidden_act": "silu",
        "hidden_size": 1280,
        "in_channels": 3,
        "in_chans": 3,
        "initializer_range": 0.02,
        "intermediate_size": 3420,
        "model_type": "qwen2_5_vl",
        "num_heads": 16,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "torch_dtype": "bfloat16",
        "window_size": 112,
    },
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
    "vision_token_id": 151654,
    "vocab_size": 152064,
}
"""Qwen2.5-VL-7B's config.json, which the published critics share, in the flat layout of transformers 4.51."""


@pytest.fixture(scope="module")
def published(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with ``score_degradation`` and ``comparison``, each in several shards; two different models."""
    from transformers import AutoProcessor

    from iqloop.critic.mini import build_model

    root = tmp_path_factory.mktemp("hub") / "Q-Insight"
    processor = AutoProcessor.from_pretrained(tiny_folder)
    text: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    vision = {"depth": 2, "hidden_size": 64, "num_heads": 2, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    for seed, part in enumerate(PARTS):
        model = build_model(processor.tokenizer, vision=vision, text=text, seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)  # so that differences show
        del model.config.iqloop  # published ones have no such field
        model.save_pretrained(root / part, max_shard_size="100KB")
        processor.save_pretrained(root / part)
    return root


@pytest.fixture(scope="module")
def score_folder(published: Path) -> Path:
    return published / "score_degradation"


@pytest.fixture
def copied(score_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(score_folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def adapter(score_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """A random LoRA adapter on both towers, and the logits of peft's own forward with it, unmerged."""
    import warnings

    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters") / "mine"
    model = load(CheckpointSource("base", str(score_folder)), "cpu").model
    config = LoraConfig(r=4, lora_alpha=8, target_modules=ADAPTED, init_lora_weights=False)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers by an old name
        laid = get_peft_model(model, config).eval()
        laid.save_pretrained(str(folder))
    inner = load(CheckpointSource("base", str(score_folder)), "cpu")
    inner.model = laid
    return folder, logits(inner)


ADAPTED = r".*\.(q_proj|v_proj|down_proj|attn\.qkv)"


def logits(checkpoint: Checkpoint) -> Tensor:
    """``(1, L, vocabulary)`` of the stock processor and the model's own forward, on a fixed image."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 168, 3), dtype=np.uint8))
    content = [{"type": "image"}, {"type": "text", "text": "What is your overall rating, 3.52?"}]
    text = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = checkpoint.processor(text=[text], images=[picture], return_tensors="pt")
    with torch.no_grad():
        return torch.as_tensor(checkpoint.model(**inputs.to(checkpoint.device)).logits)


def of(folder: Path, **fields: Any) -> CheckpointSource:
    return CheckpointSource("mine", str(folder), **fields)


def write_as_4_51(folder: Path, target: Path, *, mrope: bool) -> None:
    """The same checkpoint in the files that transformers 4.51 wrote, which the published ones are in.

    A flat configuration with ``rope_scaling``, tensors named ``visual.*`` and ``model.*``, the image processor's own
    file, the slow tokenizer's files, and the chat template as JSON.
    """
    target.mkdir(parents=True)
    config = json.loads((folder / "config.json").read_text())
    text, vision = config.pop("text_config"), config.pop("vision_config")
    rope = text.pop("rope_parameters")
    for new in ("layer_types", "model_type", "pad_token_id", "sliding_window", "dtype"):
        text.pop(new, None)
    flat = {**config, **text, "rope_theta": rope["rope_theta"], "torch_dtype": "float32", "sliding_window": 32768}
    kind = {"type": "mrope"} if mrope else {"type": "default", "rope_type": "default"}
    flat["rope_scaling"] = {"mrope_section": rope["mrope_section"], **kind}
    vision = {key: value for key, value in vision.items() if key not in ("dtype", "rope_parameters")}
    flat["vision_config"] = {**vision, "model_type": "qwen2_5_vl", "in_chans": 3, "spatial_patch_size": 14}
    flat |= {"transformers_version": "4.51.3", "use_sliding_window": False, "max_window_layers": 2}
    flat.pop("dtype", None)
    (target / "config.json").write_text(json.dumps(flat))

    index = json.loads((folder / "model.safetensors.index.json").read_text())
    old = {name: name.replace("model.visual.", "visual.") for name in index["weight_map"]}
    old = {name: to.replace("model.language_model.", "model.") for name, to in old.items()}
    for shard in sorted(set(index["weight_map"].values())):
        tensors = {old[name]: tensor for name, tensor in load_file(folder / shard).items()}
        save_file(tensors, target / shard, metadata={"format": "pt"})
    index["weight_map"] = {old[name]: shard for name, shard in index["weight_map"].items()}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))

    image = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    image |= {"processor_class": "Qwen2_5_VLProcessor", "min_pixels": 3136, "max_pixels": image["size"]["longest_edge"]}
    (target / "preprocessor_config.json").write_text(json.dumps(image))
    template = (folder / "chat_template.jinja").read_text()
    (target / "chat_template.json").write_text(json.dumps({"chat_template": template}))

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    others = [token for token in added if token != "<|endoftext|>"]
    (target / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    (target / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (target / "added_tokens.json").write_text(json.dumps(added))
    special = {"additional_special_tokens": others, "eos_token": {"content": "<|im_end|>", **plain}}
    special["pad_token"] = {"content": "<|endoftext|>", **plain}
    (target / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): {"content": t, "special": True, **plain} for t, i in added.items()},
        "additional_special_tokens": others,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen2_5_VLProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copy(folder / "generation_config.json", target)


# -- layouts


def test_a_subfolder_of_shards_loads_and_the_parts_are_different_checkpoints(published: Path) -> None:
    loaded = [load(CheckpointSource("q", str(published), part), "cpu") for part in PARTS]
    assert all(len(list((published / part).glob("*.safetensors"))) > 2 for part in PARTS)
    a, b = (logits(checkpoint) for checkpoint in loaded)
    assert (a - b).abs().max() > 0.1
    assert loaded[0].version != loaded[1].version
    assert loaded[0].views.kind == "processor" and loaded[0].tasks == ("score", "degradation")
    assert loaded[0].tokenizer.padding_side == "left"


@pytest.mark.parametrize("mrope", [True, False])
@pytest.mark.parametrize("fast_tokenizer", [True, False])
def test_the_layout_of_transformers_4_51_loads_equally(
    score_folder: Path, tmp_path: Path, mrope: bool, fast_tokenizer: bool
) -> None:
    write_as_4_51(score_folder, tmp_path / "old", mrope=mrope)
    if fast_tokenizer:
        shutil.copy(score_folder / "tokenizer.json", tmp_path / "old")
    new, old = load(of(score_folder), "cpu"), load(of(tmp_path / "old"), "cpu")
    assert torch.equal(logits(new), logits(old))
    assert new.views == old.views
    assert old.model.config.text_config.rope_parameters["mrope_section"] == [2, 3, 3]


def test_a_root_without_a_checkpoint_names_its_folders(published: Path) -> None:
    with pytest.raises(CriticError, match="in its folders comparison and score_degradation: name one"):
        locate(of(published))


# -- adapters


def test_a_merged_adapter_equals_pefts_own_forward(score_folder: Path, adapter: tuple[Path, Tensor]) -> None:
    folder, expected = adapter
    base = load(of(score_folder), "cpu")
    merged = load(of(score_folder, adapter=str(folder)), "cpu")
    assert (logits(base) - expected).abs().max() > 0.1
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    assert {type(layer) for name, layer in merged.model.named_modules() if name.endswith(("q_proj", "qkv"))} == {
        nn.Linear
    }
    assert not any(parameter.requires_grad for parameter in merged.model.parameters())


def test_the_digest_covers_the_adapters_bytes(score_folder: Path, adapter: tuple[Path, Tensor], tmp_path: Path) -> None:
    other = Path(shutil.copytree(adapter[0], tmp_path / "other"))
    file = other / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[next(iter(tensors))][0, 0] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})
    sources = [of(score_folder), of(score_folder, adapter=str(adapter[0])), of(score_folder, adapter=str(other))]
    assert len({load(source, "cpu").version for source in sources}) == 3
    assert load(sources[1], "cpu").version == load(sources[1], "cpu").version


def test_an_adapter_with_tensors_named_as_transformers_4_51_did(
    score_folder: Path, adapter: tuple[Path, Tensor], tmp_path: Path
) -> None:
    old = Path(shutil.copytree(adapter[0], tmp_path / "old"))
    tensors = load_file(old / "adapter_model.safetensors")
    renamed = {name.replace("model.model.visual.", "model.visual."): tensor for name, tensor in tensors.items()}
    renamed = {name.replace("model.language_model.", "model."): tensor for name, tensor in renamed.items()}
    assert not renamed.keys() & tensors.keys()
    save_file(renamed, old / "adapter_model.safetensors", metadata={"format": "pt"})
    loaded = load(of(score_folder, adapter=str(old)), "cpu")
    torch.testing.assert_close(logits(loaded), adapter[1], rtol=0, atol=1e-5)


def test_the_fast_vision_tower_equals_the_stock_one_after_a_merge(
    score_folder: Path, adapter: tuple[Path, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = load(of(score_folder, adapter=str(adapter[0])), "cpu")
    monkeypatch.setattr("iqloop.critic.fast.speed_up", lambda visual: visual)
    stock = load(of(score_folder, adapter=str(adapter[0])), "cpu")
    assert "forward" in vars(fast.model.model.visual.patch_embed)
    assert "forward" not in vars(stock.model.model.visual.patch_embed)
    torch.testing.assert_close(logits(fast), logits(stock), rtol=0, atol=1e-5)


def test_an_adapter_over_a_published_id_is_found_in_the_hubs_cache(
    published: Path, adapter: tuple[Path, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(tmp_path, published, monkeypatch)
    loaded = load(CheckpointSource("mine", "ByteDance/Q-Insight", PARTS[0], adapter=str(adapter[0])), "cpu")
    torch.testing.assert_close(logits(loaded), adapter[1], rtol=0, atol=1e-5)
    whole = CheckpointSource("mine", f"ByteDance/Q-Insight/{PARTS[0]}", adapter=str(adapter[0]))
    assert load(whole, "cpu").version == loaded.version


def test_adapters_that_do_not_fit_are_refused(score_folder: Path, adapter: tuple[Path, Tensor], tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(adapter[0], tmp_path / "foreign"))
    tensors = load_file(foreign / "adapter_model.safetensors")
    del tensors[next(iter(tensors))]
    save_file(tensors, foreign / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CriticError, match=r"does not fit its base, at .*: give the base it was trained on"):
        load(of(score_folder, adapter=str(foreign)), "cpu")
    settings = json.loads((foreign / "adapter_config.json").read_text())
    for field, value, reason in (
        ("target_modules", "nothing_is_called_so", "does not fit its base"),
        ("peft_type", "PROMPT_TUNING", "expected a LoRA adapter"),
        ("megatron_config", {"a": 1}, "Megatron"),
    ):
        (foreign / "adapter_config.json").write_text(json.dumps(settings | {field: value}))
        with pytest.raises(CriticError, match=reason):
            load(of(score_folder, adapter=str(foreign)), "cpu")


def test_a_pickled_adapter_is_refused(score_folder: Path, adapter: tuple[Path, Tensor], tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(adapter[0], tmp_path / "pickled"))
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(CriticError, match=r"pickled \(adapter_model.bin\)"):
        locate(of(score_folder, adapter=str(pickled)))
    with pytest.raises(PrerequisiteError, match="hf download someone/adapter"):
        locate(of(score_folder, adapter="someone/adapter"))


def test_without_peft_the_pip_line_is_given(
    score_folder: Path, adapter: tuple[Path, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "peft")
    with pytest.raises(PrerequisiteError, match=r"pip install 'iqloop\[train\]'"):
        load(of(score_folder, adapter=str(adapter[0])), "cpu")


# -- how it is loaded


def test_a_device_map_on_a_cpu_changes_nothing(score_folder: Path) -> None:
    plain = load(of(score_folder), "cpu")
    for device_map in ("cpu", *(["auto"] if not torch.cuda.is_available() else [])):
        spread = load(of(score_folder), device_map=device_map)
        assert spread.device == torch.device("cpu")
        assert torch.equal(logits(plain), logits(spread))
        assert plain.version == spread.version


def test_the_device_of_an_offloaded_model_is_where_its_embeddings_compute(
    score_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import cpu_offload

    from iqloop.critic.fast import speed_up

    expected = logits(load(of(score_folder), "cpu"))
    monkeypatch.setattr("iqloop.critic.fast.speed_up", lambda visual: visual)
    checkpoint = load(of(score_folder), "cpu")
    cpu_offload(checkpoint.model, execution_device=torch.device("cpu"))
    assert checkpoint.model.get_input_embeddings().weight.is_meta
    assert checkpoint.device == torch.device("cpu")
    speed_up(checkpoint.model.model.visual)  # leaves alone what it would read past accelerate
    torch.testing.assert_close(logits(checkpoint), expected, rtol=0, atol=1e-5)


def test_eager_attention_equals_sdpa(score_folder: Path) -> None:
    sdpa, eager = load(of(score_folder), "cpu"), load(of(score_folder), "cpu", attention="eager")
    assert eager.model.config.vision_config._attn_implementation == "eager"
    assert "forward" not in vars(eager.model.model.visual.blocks[0].attn)
    torch.testing.assert_close(logits(sdpa), logits(eager), rtol=1e-4, atol=1e-4)


def test_flash_is_for_the_vision_tower_only(score_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrerequisiteError, match="pip install flash-attn"):
        without(monkeypatch, "flash_attn")
        load(of(score_folder), "cpu", attention="flash_attention_2")
    monkeypatch.setattr(checkpoint_module, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="needs a CUDA GPU and bfloat16 or float16, got cpu and float32"):
        load(of(score_folder), "cpu", attention="flash_attention_2")
    made = checkpoint_module._options(torch.device("cuda"), torch.bfloat16, "flash_attention_2", None, None)
    asked = made["attn_implementation"]
    assert asked == {"": "sdpa", "text_config": "sdpa", "vision_config": "flash_attention_2"}
    # What transformers makes of such a mapping, with a kernel that runs here in the place of flash.
    from transformers import AutoModelForImageTextToText

    mixed = AutoModelForImageTextToText.from_pretrained(
        score_folder, attn_implementation=asked | {"vision_config": "eager"}
    )
    assert mixed.model.visual.blocks[0].attn.config._attn_implementation == "eager"
    assert mixed.model.language_model.layers[0].self_attn.config._attn_implementation == "sdpa"


def test_bfloat16_scores_are_near_float32_on_a_photograph(
    photograph: Callable[..., NDArray[np.uint8]], as_tensor: Callable[[NDArray[np.uint8]], Tensor]
) -> None:
    image = as_tensor(photograph("astronaut", 252))
    means = []
    for dtype in ("float32", "bfloat16"):
        critic = QwenCritic(load(KNOWN["qinsight-mini"].source, "cpu", dtype))
        rating = critic.score([image])[0]
        assert isinstance(rating, Rating)
        means.append(rating.mean)
    assert means[0] == pytest.approx(means[1], abs=0.03)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16.*, got 'float8'"),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"device": "quantum"}, "expected a device such as cpu"),
        ({"device_map": "everywhere"}, "or one of auto"),
        ({"attention": "flash"}, "attention must be one of sdpa, eager, flash_attention_2"),
        ({"quantization": "2bit"}, "quantization must be 4bit, 8bit or None, got '2bit'"),
    ],
)
def test_wrong_options_are_named(score_folder: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load(of(score_folder), **options)


def test_a_gpu_that_is_not_there_is_refused(score_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for options in ({"device": "cuda"}, {"device_map": "cuda:0"}):
        with pytest.raises(UsageError, match="no CUDA device"):
            load(of(score_folder), **options)  # type: ignore[arg-type]


def test_a_revision_of_a_folder_is_refused(score_folder: Path) -> None:
    with pytest.raises(UsageError, match="belongs to a hub id"):
        locate(of(score_folder, revision="main"))


# -- quantisation


@pytest.mark.skipif(util.find_spec("bitsandbytes") is None, reason="bitsandbytes is an extra")
@pytest.mark.parametrize(("quantization", "near"), [("8bit", 0.5), ("4bit", 6.0)])
def test_a_quantised_language_model_runs_on_a_cpu(
    score_folder: Path, adapter: tuple[Path, Tensor], quantization: Any, near: float
) -> None:
    plain = load(of(score_folder), "cpu")
    small = load(of(score_folder), "cpu", quantization=quantization)
    kinds = {name: type(layer).__name__ for name, layer in small.model.named_modules()}
    wanted = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[quantization]
    assert kinds["model.language_model.layers.0.mlp.up_proj"] == wanted
    assert kinds["model.visual.blocks.0.attn.qkv"] == kinds["lm_head"] == "Linear"
    assert small.device == torch.device("cpu") and small.version != plain.version
    assert 0 < (logits(small) - logits(plain)).abs().max() < near
    adapted = load(of(score_folder, adapter=str(adapter[0])), "cpu", quantization=quantization)
    assert any("lora_A" in name for name, _ in adapted.model.named_modules())
    assert (logits(adapted) - logits(small)).abs().max() > 0.1
    assert adapted.model.model.visual is not None  # the plain class, not peft's wrapper


@pytest.mark.skipif(util.find_spec("bitsandbytes") is None, reason="bitsandbytes is an extra")
def test_a_quantised_critic_scores_and_its_gradient_is_right_or_refused(
    photograph: Callable[..., NDArray[np.uint8]], as_tensor: Callable[[NDArray[np.uint8]], Tensor]
) -> None:
    image = as_tensor(photograph("astronaut", 112)).requires_grad_(True)
    source = KNOWN["qinsight-mini"].source
    plain = QwenCritic(load(source, "cpu"))
    (expected,) = torch.autograd.grad(plain.expected_scores([image]).sum(), image)
    for quantization, near in (("8bit", 0.1), ("4bit", 0.3)):
        critic = QwenCritic(load(source, "cpu", quantization=quantization))  # type: ignore[arg-type]
        rating, exact = critic.score([image.detach()])[0], plain.score([image.detach()])[0]
        assert isinstance(rating, Rating) and isinstance(exact, Rating)
        assert rating.mean == pytest.approx(exact.mean, abs=near)
        try:
            (found,) = torch.autograd.grad(critic.expected_scores([image]).sum(), image)
        except CriticError as error:
            assert quantization == "4bit" and "4bit has no gradient on this CPU" in str(error)
            continue
        assert torch.cosine_similarity(found.flatten(), expected.flatten(), 0) > 0.9


@pytest.mark.skipif(util.find_spec("bitsandbytes") is None, reason="bitsandbytes is an extra")
def test_a_machine_that_cannot_run_it_is_told(score_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitsandbytes.nn.modules import Linear8bitLt

    def fail(*_: Any, **__: Any) -> Tensor:
        raise NotImplementedError("no such kernel on this machine")

    monkeypatch.setattr(Linear8bitLt, "forward", fail)
    with pytest.raises(CriticError, match=r"cannot run mine in 8bit on cpu \(no such kernel on this machine\)"):
        load(of(score_folder), "cpu", quantization="8bit")


def test_without_bitsandbytes_the_pip_line_is_given(score_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "bitsandbytes")
    with pytest.raises(PrerequisiteError, match=r"pip install 'iqloop\[quantize\]'"):
        load(of(score_folder), "cpu", quantization="4bit")


# -- the 7B's configuration


def test_the_published_7b_has_the_parameters_it_should(tmp_path: Path) -> None:
    """8,292,166,656, counted by hand:

    vision: patches 3*2*14*14*1280; 32 blocks of norms 2*1280, qkv 1280*3840 + 3840, projection 1280*1280 + 1280, MLP
    3*1280*3420 + 2*3420 + 1280; merger 1280 + 5120*5120 + 5120 + 5120*3584 + 3584. Text: 28 layers of q 3584*3584 +
    3584, k and v 3584*512 + 512 each, o 3584*3584, MLP 3*3584*18944, norms 2*3584; a norm 3584; embeddings and head
    152064*3584 each.
    """
    block = 2 * 1280 + 1280 * 3840 + 3840 + 1280 * 1280 + 1280 + 3 * 1280 * 3420 + 2 * 3420 + 1280
    vision = 3 * 2 * 14 * 14 * 1280 + 32 * block + 1280 + 5120 * 5120 + 5120 + 5120 * 3584 + 3584
    layer = 2 * (3584 * 3584) + 3584 + 2 * (3584 * 512 + 512) + 3 * 3584 * 18944 + 2 * 3584
    text = 28 * layer + 3584 + 2 * 152064 * 3584
    assert vision + text == 8_292_166_656
    (tmp_path / "config.json").write_text(json.dumps(Q_INSIGHT_CONFIG))
    model = skeleton(tmp_path)
    assert sum(parameter.numel() for parameter in model.parameters()) == vision + text
    assert sum(parameter.numel() for parameter in model.model.visual.parameters()) == vision
    assert model.config.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert set(model.config.text_config.layer_types) == {"full_attention"}


def test_the_published_7b_runs_shape_only(tmp_path: Path) -> None:
    """Both towers on the meta device, the vision tower as `speed_up` leaves it, the text under a tree mask.

    The model's own forward reads the image grid's values, which that device has not: windows and positions are given.
    """
    from iqloop.critic.fast import speed_up

    (tmp_path / "config.json").write_text(json.dumps(Q_INSIGHT_CONFIG))
    model = skeleton(tmp_path)
    visual, language = speed_up(model.model.visual), model.model.language_model
    patches = torch.empty(320, 1176, device="meta")  # 16 x 20 patches: four windows of 64 and one of 64
    hidden = visual.patch_embed(patches)  # type: ignore[operator]
    rotary = (torch.empty(320, 80, device="meta"), torch.empty(320, 80, device="meta"))
    for i, block in enumerate(visual.blocks):  # type: ignore[arg-type]
        full = i in (7, 15, 23, 31)
        windows = torch.tensor([0, 320] if full else [0, 64, 128, 192, 256, 320])
        hidden = block(hidden, cu_seqlens=windows, position_embeddings=rotary)
    tokens = visual.merger(hidden)  # type: ignore[operator]
    assert tokens.shape == (80, 3584)
    length = 80 + 40
    embedded = torch.cat([tokens, torch.empty(40, 3584, device="meta")])[None]
    mask = torch.zeros(1, 1, length, length, device="meta")
    positions = torch.zeros(3, 1, length, device="meta", dtype=torch.long)
    out = language(inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False)
    assert model.lm_head(out.last_hidden_state[:, -5:]).shape == (1, 5, 152064)


# -- damage


def spoil_cut(folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])


def spoil_garbage(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[0].write_bytes(b"not what it says" * 100)


def spoil_missing(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[1].unlink()


def spoil_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    text = json.loads(index.read_text())
    text["weight_map"] = {name: "../elsewhere.safetensors" for name in text["weight_map"]}
    index.write_text(json.dumps(text))


def spoil_lacking(folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, shard, metadata={"format": "pt"})


def spoil_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 192
    (folder / "config.json").write_text(json.dumps(config))


def spoil_pickled(folder: Path) -> None:
    for shard in folder.glob("*.safetensors*"):
        shard.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def spoil_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen2_vl"}))


def spoil_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def spoil_field(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = "wide"
    (folder / "config.json").write_text(json.dumps(config))


def spoil_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


DAMAGE = [
    (spoil_cut, "damaged or cut short .*: fetch or copy the checkpoint again"),
    (spoil_garbage, "damaged or cut short"),
    (spoil_missing, "a shard of the weights is missing"),
    (spoil_index, "expected the names of files beside it, got '../elsewhere.safetensors'"),
    (spoil_lacking, r"the weights lack \d+ of the model's tensors, the first "),
    (spoil_shape, "weights and configuration disagree on the shape of "),
    (spoil_pickled, r"its weights are pickled \(pytorch_model.bin\)"),
    (spoil_kind, "expected a Qwen2.5-VL checkpoint .*got 'qwen2_vl'"),
    (spoil_config, "expected a JSON file"),
    (spoil_field, "not a usable checkpoint"),
    (spoil_tokenizer, "the tokenizer is not the model's"),
]


@pytest.mark.parametrize(("spoil", "reason"), DAMAGE, ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_one_sentence(copied: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(copied)
    with pytest.raises(CriticError, match=reason) as raised:
        load(of(copied), "cpu")
    assert len(str(raised.value).splitlines()) == 1 and str(copied) in str(raised.value)


@pytest.mark.parametrize("spoil", [spoil_cut, spoil_pickled, spoil_kind])
def test_the_command_line_says_it_in_one_line(copied: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(copied)
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    result = run("score", tmp_path / "photo.png", "--critic", copied, "--device", "cpu")
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and str(copied) in result.stderr


# -- the hub's cache


def fill_cache(
    folder: Path,
    published: Path,
    monkeypatch: pytest.MonkeyPatch,
    parts: tuple[str, ...] = PARTS,
    commit: str = "a" * 40,
) -> Path:
    """A hub cache in which parts of ``ByteDance/Q-Insight`` are as if fetched."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    repository = folder / "models--ByteDance--Q-Insight"
    for part in parts:
        shutil.copytree(published / part, repository / "snapshots" / commit / part)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def test_a_hub_id_is_found_in_the_cache_by_branch_and_commit(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill_cache(tmp_path, published, monkeypatch)
    for revision in (None, "main", "a" * 40):
        source = CheckpointSource("q", "ByteDance/Q-Insight", PARTS[1], revision=revision)
        assert locate(source) == str(root / PARTS[1])
    with pytest.raises(PrerequisiteError, match="--revision v2"):
        locate(CheckpointSource("q", "ByteDance/Q-Insight", PARTS[1], revision="v2"))
    with pytest.raises(CriticError, match="in its folders comparison and score_degradation"):
        locate(CheckpointSource("q", "ByteDance/Q-Insight"))


def test_the_digest_covers_the_commit(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_cache(tmp_path, published, monkeypatch)
    fill_cache(tmp_path, published, monkeypatch, commit="b" * 40)
    versions = {
        load(CheckpointSource("q", "ByteDance/Q-Insight", PARTS[0], revision=commit * 40), "cpu").version
        for commit in "ab"
    }
    assert len(versions) == 2


def test_large_files_are_told_apart_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "_WHOLE", 1000)
    (tmp_path / "config.json").write_text("{}")
    versions = set()
    for value in (0, 1):
        data = bytearray(200_000)
        data[123_456] = value
        (tmp_path / "model.safetensors").write_bytes(data)
        versions.add(checkpoint_module._digest(of(tmp_path), tmp_path, None, None))
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (CheckpointSource("q", "ByteDance/Q-Insight", PARTS[0]), "iqloop models pull qinsight  (or  hf download"),
        (CheckpointSource("q", "ByteDance/Q-Insight/score_degradation"), "iqloop models pull qinsight  (or"),
        (CheckpointSource("v", "TianheWu/VisualQuality-R1-7B"), "iqloop models pull visualquality-r1"),
        (CheckpointSource("o", "some/other", "in/side"), "hf download some/other --include 'in/side/*'  first"),
        (CheckpointSource("o", "/no/such/folder"), "is not on this machine: give its folder, or a hub id"),
        (CheckpointSource("o", "/no/base", adapter="/mine"), "(the base of the adapter /mine) is not on this machine"),
    ],
)
def test_missing_weights_name_the_command(
    source: CheckpointSource, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PrerequisiteError) as raised:
        locate(source)
    assert command in str(raised.value)


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(IqloopError):
        load(of(tmp_path), "cpu")


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if a package were not installed."""
    monkeypatch.setattr(checkpoint_module, "find_spec", lambda name: None if name == package else util.find_spec(name))


def test_a_checkpoint_that_is_saved_again_says_nothing_of_where_it_was_read(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from iqloop.critic.mini import save

    model = AutoModelForImageTextToText.from_pretrained(tiny_folder, local_files_only=True)
    save(model, AutoProcessor.from_pretrained(tiny_folder, local_files_only=True), tmp_path / "again")
    for name in ("tokenizer_config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_folder / name).read_bytes(), name
