"""Our own forward of Qwen2.5-VL is transformers', and is left alone where it does not know a checkpoint's kind."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iqloop.critic.checkpoint import Checkpoint, CheckpointSource, load
from iqloop.critic.inputs import collate, encode, question
from iqloop.critic.known import KNOWN, MINI_FOLDER
from iqloop.critic.mini import build_model, build_processor, save
from iqloop.critic.pixels import pack
from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1
from iqloop.critic.qwen import read, text
from iqloop.critic.qwen.model import Qwen
from iqloop.errors import CriticError

Change = Callable[[dict[str, Any]], None]


def both(source: CheckpointSource) -> tuple[Checkpoint, Checkpoint]:
    return load(source, device="cpu"), load(source, device="cpu", stock=True)


@pytest.fixture(scope="module", params=["patches of 14", "patches of 16", "qinsight-mini"])
def pair(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, Checkpoint]:
    """The same weights read here and by transformers: random ones, with patches of two sizes, and the package's."""
    if request.param == "qinsight-mini":
        return both(KNOWN["qinsight-mini"].source)
    folder = tiny_folder
    if request.param == "patches of 16":
        folder = tmp_path_factory.mktemp("larger") / "tiny"
        tiny = load(CheckpointSource("t", str(tiny_folder)), device="cpu", stock=True)
        save(larger(tiny.model, tiny.tokenizer), build_processor(tiny.tokenizer, patch=16), folder)
    return both(CheckpointSource("t", str(folder)))


def larger(model: Any, tokenizer: Any) -> Any:
    """A model of the same sizes with patches of 16, and weights of its own."""
    sizes = ("depth", "hidden_size", "num_heads", "intermediate_size", "fullatt_block_indexes")
    vision = {name: getattr(model.config.vision_config, name) for name in sizes}
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rope_parameters")
    text = {name: getattr(model.config.text_config, name) for name in sizes}
    return build_model(tokenizer, vision={**vision, "patch_size": 16, "window_size": 128}, text=text)


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def test_the_tower_is_transformers(pair: tuple[Checkpoint, Checkpoint]) -> None:
    """Sizes below, at and beyond a window, several at once."""
    unit = pair[0].views.unit
    for sizes in ([(1, 1)], [(4, 4)], [(5, 3), (2, 11), (8, 9)]):
        patches, grid = pack(pictures(*((tall * unit, wide * unit) for tall, wide in sizes)), patch=unit // 2)
        ours, stock = (one.model.model.visual(patches, grid_thw=grid).pooler_output for one in pair)
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-4)


def test_a_narrower_mini_is_one_too(tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = load(CheckpointSource("t", str(tiny_folder)), device="cpu", stock=True).tokenizer
    widths = (64, 128)
    sizes = []
    for width in widths:
        model = build_model(tokenizer, width=width, seed=1)
        sizes.append(sum(one.numel() for one in model.parameters()))
        save(model, build_processor(tokenizer), tmp_path / str(width))
        ours, stock = both(CheckpointSource("t", str(tmp_path / str(width))))
        patches, grid = pack(pictures((112, 84)), patch=14)
        tokens = [one.model.model.visual(patches, grid_thw=grid).pooler_output for one in (ours, stock)]
        assert tokens[0].shape[-1] == width
        torch.testing.assert_close(*tokens, rtol=1e-4, atol=1e-4)
    assert sizes[0] < sizes[1] / 2


def test_reading_whole_prompts_is_transformers(pair: tuple[Checkpoint, Checkpoint]) -> None:
    """Rows of different lengths, so that some are padded; one to three images."""
    ours, stock = pair
    unit = ours.views.unit
    images = [pictures((3 * unit, 4 * unit)), pictures((2 * unit, 2 * unit))]
    prompt = Q_INSIGHT["score"]
    made = collate(ours, [encode(ours, question(ours, prompt), row) for row in images], images)
    positions, after = ours.model.model.get_rope_index(
        made.input_ids, made.mm_token_type_ids, made.image_grid_thw, made.attention_mask
    )
    wanted, delta = stock.model.model.get_rope_index(
        made.input_ids,
        mm_token_type_ids=made.mm_token_type_ids,
        image_grid_thw=made.image_grid_thw,
        attention_mask=made.attention_mask,
    )
    assert torch.equal(positions, wanted) and torch.equal(after, delta)
    stock.model.model.rope_deltas = None
    logits = stock.model(**made.as_dict()).logits
    body = ours.model.model
    embedded = body.language_model.embed_tokens(made.input_ids)
    tokens = body.visual(made.pixel_values, made.image_grid_thw).pooler_output
    embedded = embedded.masked_scatter(made.mm_token_type_ids.bool()[..., None], tokens)
    mask = made.attention_mask.bool()
    hidden = body.language_model(embedded, positions, mask, ours.model.empty_cache()).last_hidden_state
    torch.testing.assert_close(ours.model.lm_head(hidden)[mask], logits[mask], rtol=1e-3, atol=1e-3)


def test_positions_of_several_images(pair: tuple[Checkpoint, Checkpoint]) -> None:
    ours, stock = pair
    unit = ours.views.unit
    images = [pictures((3 * unit, 4 * unit), (2 * unit, 7 * unit), (4 * unit, 2 * unit))]
    made = collate(ours, [encode(ours, question(ours, Q_INSIGHT["compare-reference"]), row) for row in images], images)
    given = {"mm_token_type_ids": made.mm_token_type_ids, "image_grid_thw": made.image_grid_thw}
    found = [
        one.model.model.get_rope_index(made.input_ids, attention_mask=made.attention_mask, **given)
        for one in (ours, stock)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_text_side_is_the_processor(pair: tuple[Checkpoint, Checkpoint]) -> None:
    ours, stock = pair
    for prompt in [*Q_INSIGHT.values(), *VISUALQUALITY_R1.values()]:
        for text_first in (False, True):
            asked = question(ours, prompt, text_first)
            assert asked == question(stock, prompt, text_first)
            ids = ours.tokenizer(asked, add_special_tokens=False)["input_ids"]
            assert ids == stock.tokenizer(asked, add_special_tokens=False)["input_ids"]
    rows = [[5, 300, 420, 7], ids[:40]]
    for skip in (True, False):
        assert ours.processor.batch_decode(rows, skip_special_tokens=skip) == stock.processor.batch_decode(
            rows, skip_special_tokens=skip
        )
    assert ours.tokenizer.pad_token_id == stock.tokenizer.pad_token_id
    assert (ours.version, ours.views, ours.tasks, ours.answer_begin) == (
        stock.version,
        stock.views,
        stock.tasks,
        stock.answer_begin,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_precisions(tiny_folder: Path, dtype: str) -> None:
    source = CheckpointSource("tiny", str(tiny_folder))
    patches, grid = pack(pictures((84, 112)))
    found = [load(source, "cpu", dtype, stock=stock).model for stock in (False, True)]
    assert isinstance(found[0], Qwen) and not isinstance(found[1], Qwen)
    ours, stock = (one.model.visual(patches.to(one.dtype), grid_thw=grid).pooler_output for one in found)
    assert ours.dtype == stock.dtype
    tolerance = 0.05 if dtype == "bfloat16" else 1e-4
    torch.testing.assert_close(ours, stock, rtol=tolerance, atol=tolerance)


def test_a_copy_answers_the_same_on_its_own(tiny_folder: Path) -> None:
    """What metrics that are copied or sent to another process need."""
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), "cpu")
    model = checkpoint.model
    asked = question(copy.deepcopy(checkpoint), Q_INSIGHT["score"])
    assert asked == question(pickle.loads(pickle.dumps(checkpoint)), Q_INSIGHT["score"])
    patches, grid = pack(pictures((84, 112)))
    before = model.model.visual(patches, grid).pooler_output
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.lm_head.weight is copied.get_input_embeddings().weight
        with torch.no_grad():
            model.model.visual.merger.ln_q.weight.mul_(2)
        assert torch.equal(copied.model.visual(patches, grid).pooler_output, before)
        with torch.no_grad():
            model.model.visual.merger.ln_q.weight.div_(2)


def edited(folder: Path, tmp_path: Path, change: Change) -> Path:
    copied = Path(shutil.copytree(folder, tmp_path / "edited"))
    config = json.loads((copied / "config.json").read_text())
    change(config)
    (copied / "config.json").write_text(json.dumps(config))
    return copied


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["text_config"].update(hidden_act="gelu"),
        lambda config: config["text_config"].update(use_sliding_window=True),
        lambda config: config["text_config"].update(rope_parameters={"rope_type": "yarn", "factor": 4.0}),
        lambda config: config["text_config"].update(head_dim=24),
        lambda config: config["vision_config"].update(spatial_merge_size=4),
        lambda config: config.update(quantization_config={"quant_method": "bitsandbytes"}),
        lambda config: config.pop("text_config"),
    ],
    ids=["activation", "sliding", "yarn", "heads", "patches", "quantised", "flat"],
)
def test_what_is_not_known_is_left_to_transformers(tiny_folder: Path, tmp_path: Path, change: Change) -> None:
    assert read.understands(tiny_folder) and text.understands(tiny_folder)
    assert not read.understands(edited(tiny_folder, tmp_path, change))


@pytest.mark.parametrize("gone", ["tokenizer.json", "chat_template.jinja"])
def test_a_folder_without_its_text_files_is_left_to_transformers(tiny_folder: Path, tmp_path: Path, gone: str) -> None:
    copied = Path(shutil.copytree(tiny_folder, tmp_path / "copied"))
    (copied / gone).unlink()
    assert not text.understands(copied)


def test_weights_that_do_not_fit_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    def wider(config: dict[str, Any]) -> None:
        config["text_config"]["intermediate_size"] += 8

    with pytest.raises(CriticError, match=r"disagree on the shape of model.language_model.layers.0.mlp.down_proj"):
        load(CheckpointSource("wider", str(edited(tiny_folder, tmp_path, wider))), device="cpu")


def test_a_template_cannot_reach_out_of_its_sandbox(tiny_folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_folder, tmp_path / "copied"))
    (copied / "chat_template.jinja").write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(CriticError, match="chat template"):
        question(load(CheckpointSource("sly", str(copied)), device="cpu"), Q_INSIGHT["score"])


def test_the_embedded_critic_scores_without_importing_transformers() -> None:
    """Their import takes longer than everything else that a first score needs."""
    program = (
        "import sys, torch, iqloop;"
        "iqloop.create_metric('qinsight-mini', device='cpu')(torch.rand(1, 3, 64, 64));"
        "print(sorted({'transformers', 'torch._dynamo', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_mini_is_a_checkpoint_like_any_other() -> None:
    """The package's folder loads by ``from_pretrained``, as its users' checkpoints do."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(MINI_FOLDER, dtype=torch.float32)
    assert AutoProcessor.from_pretrained(MINI_FOLDER).tokenizer.pad_token_id == 801
    mine = dict(load(KNOWN["qinsight-mini"].source, "cpu").model.state_dict())
    assert set(mine) == set(model.state_dict()) and all(torch.equal(mine[k], v) for k, v in model.state_dict().items())


def test_views_must_be_of_the_patches_that_are_there(tiny_folder: Path, tmp_path: Path) -> None:
    folder = edited(tiny_folder, tmp_path, lambda config: config["iqloop"]["views"].update(unit=32))
    for stock in (False, True):
        with pytest.raises(CriticError, match=r"expected iqloop.views.unit 28 in its config.json"):
            load(CheckpointSource("t", str(folder)), "cpu", stock=stock)
