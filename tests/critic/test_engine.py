"""The engine: equal to stock transformers, deterministic, batched without changing answers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from iqloop.critic.branches import branch_log_probs, tree_logits
from iqloop.critic.checkpoint import Checkpoint, CheckpointSource, load
from iqloop.critic.engine import QwenCritic, thurstone
from iqloop.critic.expected import expected_rating
from iqloop.critic.inputs import collate, encode, question
from iqloop.critic.prompts import Q_INSIGHT
from iqloop.critic.reason import write
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Preference, Rating, Unparsed
from iqloop.critic.views import ViewPolicy
from iqloop.errors import CriticError, PrerequisiteError, UsageError


@pytest.fixture(scope="module")
def checkpoint(tiny_folder: Path) -> Checkpoint:
    return load(CheckpointSource("tiny", str(tiny_folder), max_new_tokens=12), device="cpu")


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, h, w, generator=generator) for h, w in ((84, 140), (112, 112), (56, 196))]


def stock(checkpoint: Checkpoint) -> Any:
    """A fresh copy of the model without any speed-up."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(checkpoint.source.location, dtype=torch.float32).eval()


def test_fast_vision_equals_the_stock_forward_and_gradient(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    from iqloop.critic.pixels import pack

    plain = stock(checkpoint).model.visual
    results = []
    for visual in (plain, checkpoint.model.model.visual):
        visual = copy.deepcopy(visual).requires_grad_(True)
        patches, grid = pack(images)
        patches.requires_grad_(True)
        out = visual(patches, grid).pooler_output
        tokens = torch.cat(list(out)) if isinstance(out, (tuple, list)) else out
        tokens.square().mean().backward()
        results.append((tokens.detach(), patches.grad, visual.patch_embed.proj.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_inputs_equal_the_processor(checkpoint: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (84, 112, 3), dtype=np.uint8))
    text = question(checkpoint, Q_INSIGHT["score"])
    expected = checkpoint.processor(text=[text], images=[picture], return_tensors="pt")
    view = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    ours = collate(checkpoint, [encode(checkpoint, text, [view])], [[view]])
    assert torch.equal(ours.input_ids, expected["input_ids"])
    assert torch.equal(ours.image_grid_thw, expected["image_grid_thw"])
    assert torch.equal(ours.mm_token_type_ids, expected["mm_token_type_ids"].to(torch.int32))
    torch.testing.assert_close(ours.pixel_values, expected["pixel_values"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(300, 500), (768, 1024), (20, 30), (90, 91)])
def test_processor_policy_equals_the_processor_resize(checkpoint: Checkpoint, size: tuple[int, int]) -> None:
    from iqloop.critic.pixels import pack
    from iqloop.critic.views import views_of

    from skimage import data

    photo = Image.fromarray(data.astronaut()).resize(size[::-1], Image.Resampling.BICUBIC)
    limits = checkpoint.processor.image_processor.size
    policy = ViewPolicy("processor", pixels=limits["longest_edge"], min_pixels=limits["shortest_edge"])
    view = views_of(torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255, policy)[0].pixels
    patches, grid = pack([view])
    text = question(checkpoint, Q_INSIGHT["score"])
    expected = checkpoint.processor(text=[text], images=[photo], return_tensors="pt")
    assert torch.equal(grid, expected["image_grid_thw"])
    difference = (patches - expected["pixel_values"]).abs()
    # One grey level is 0.0150; the fixed-point weights of the byte resize may round the other way.
    assert difference.max() < 0.031 and (difference > 1e-4).float().mean() < 0.02


def test_tree_logits_equal_separate_forwards(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    text = question(checkpoint, Q_INSIGHT["score"]) + Q_INSIGHT["score"].answer_prefix
    digits = [checkpoint.tokenizer(str(d), add_special_tokens=False)["input_ids"][0] for d in range(6)]
    tails = [[digits[1], digits[2]], [digits[3]], [digits[4], digits[5], digits[0]]]
    views = [[image] for image in images]
    packed = tree_logits(checkpoint, collate(checkpoint, [encode(checkpoint, text, v) for v in views], views), tails)
    plain = stock(checkpoint)
    for row, view in enumerate(views):
        for tail, logits in zip(tails, packed, strict=True):
            inputs = collate(checkpoint, [encode(checkpoint, text, view) + tail], [view])
            plain.model.rope_deltas = None
            with torch.no_grad():
                alone = plain(**inputs.as_dict()).logits[0, -len(tail) - 1 :]
            torch.testing.assert_close(logits[row], alone, rtol=1e-3, atol=2e-4)


def test_expected_rating_is_the_sum_over_written_ratings(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    """Golden by definition: the probabilities of 1.0, 1.1, ... 4.9 and 5 multiplied out, one forward each."""
    text = question(checkpoint, Q_INSIGHT["score"]) + Q_INSIGHT["score"].answer_prefix
    out = expected_rating(checkpoint, text, [[images[0]]])

    def log_prob(continuations: list[str]) -> Tensor:
        return torch.stack([branch_log_probs(checkpoint, text, [[images[0]]], [c, "x"])[0, 0] for c in continuations])

    integers = log_prob([str(d) for d in range(1, 6)]).exp()
    assert float(out.digit_mass) == pytest.approx(float(integers.sum()), rel=1e-3)
    mean = 0.0
    for d in range(1, 6):
        p = float(integers[d - 1] / integers.sum())
        if d == 5:
            mean += p * 5
            continue
        point = float((log_prob([f"{d}."]) - log_prob([f"{d}"])).exp())
        tenths = log_prob([f"{d}.{t}" for t in range(10)]).exp()
        fraction = float((tenths / tenths.sum() * (torch.arange(10) + 0.45) / 10).sum())
        mean += p * (d + point * fraction)
    assert float(out.mean) == pytest.approx(mean, abs=1e-3)


def test_expected_rating_is_inside_the_range_and_has_a_gradient(checkpoint: Checkpoint) -> None:
    image = torch.rand(3, 84, 84, requires_grad=True)
    critic = QwenCritic(checkpoint)
    score = critic.expected_scores([image])
    assert score.shape == (1,) and 1 <= score.item() <= 5
    score.sum().backward()
    assert image.grad is not None and torch.isfinite(image.grad).all() and (image.grad != 0).float().mean() > 0.9


def test_gradient_equals_a_finite_difference(tiny_folder: Path) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", dtype="float64")
    critic = QwenCritic(checkpoint)
    torch.manual_seed(1)
    image = (torch.rand(3, 56, 56, dtype=torch.float64) * 0.8 + 0.1).requires_grad_(True)
    direction = torch.randn(3, 56, 56, dtype=torch.float64)
    critic.expected_scores([image]).sum().backward()
    assert image.grad is not None
    slope = float((image.grad * direction).sum())
    with torch.no_grad():
        step = 2e-3
        up, down = (critic.expected_scores([image + s * step * direction]) for s in (1, -1))
    assert slope == pytest.approx(float(up - down) / (2 * step), rel=2e-2, abs=1e-6)


@pytest.mark.parametrize("decoding", ["expected", "reason", "reason+expected"])
def test_scores_do_not_depend_on_the_batch(checkpoint: Checkpoint, images: list[Tensor], decoding: Any) -> None:
    together = QwenCritic(checkpoint, decoding, batch_size=3).score(images)
    alone = [QwenCritic(checkpoint, decoding, batch_size=1).score([image])[0] for image in images]
    for a, b in zip(together, alone, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Rating) and isinstance(b, Rating):
            assert a.mean == pytest.approx(b.mean, abs=1e-3) and 1 <= a.mean <= 5 and a.std >= 0


def test_greedy_answers_equal_stock_generate(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    text = question(checkpoint, Q_INSIGHT["degradation"])
    views = [[image] for image in images]
    ours = write(checkpoint, text, views, max_new_tokens=8)
    plain = stock(checkpoint)
    for answer, view in zip(ours, views, strict=True):
        inputs = collate(checkpoint, [encode(checkpoint, text, view)], [view])
        plain.model.rope_deltas = None
        out = plain.generate(**inputs.as_dict(), max_new_tokens=8, do_sample=False)
        alone = checkpoint.processor.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)[0]
        assert answer == alone


def test_a_runaway_answer_is_unparsed(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    verdict = QwenCritic(checkpoint, "reason").score(images[:1])[0]
    assert isinstance(verdict, Unparsed) and "<think>" in verdict.reason


def test_label_probabilities_sum_to_one(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    for seen in QwenCritic(checkpoint).label_probabilities(images):
        assert set(seen.probabilities) == set(CLASSES)
        assert sum(seen.probabilities.values()) == pytest.approx(1, abs=1e-5)
        for row in seen.severity_probabilities.values():
            assert set(row) == set(SEVERITIES) and sum(row.values()) == pytest.approx(1, abs=1e-5)
        assert (seen.severity == "null") == (seen.distortion_class == "null")


def test_scripted_answers_become_verdicts(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is broken, the retry is good: the verdict is the retry's."""
    good = '<think> soft edges </think><answer> {"distortion_class": "blur", "severity": "serious"} </answer>'
    calls: list[float] = []

    def scripted(_c: Any, _t: str, views: Any, *, temperature: float = 0.0, **_: Any) -> list[str]:
        calls.append(temperature)
        return ["nonsense" if temperature == 0 else good] * len(views)

    monkeypatch.setattr("iqloop.critic.reason.write", scripted)
    seen = QwenCritic(checkpoint).perceive(images[:1])[0]
    assert isinstance(seen, Degradation)
    assert (seen.distortion_class, seen.severity, seen.reasoning, seen.raw) == ("blur", "serious", "soft edges", good)
    assert calls == [0.0, 1.0]


def test_a_begun_answer_is_completed(
    tiny_folder: Path, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu")
    checkpoint.answer_begin = "<think>"

    def scripted(_c: Any, text: str, views: Any, **_: Any) -> list[str]:
        assert text.endswith("assistant\n<think>")
        return [' grain </think><answer> {"rating": 2.5} </answer>'] * len(views)

    monkeypatch.setattr("iqloop.critic.reason.write", scripted)
    rating = QwenCritic(checkpoint, "reason").score(images[:1])[0]
    assert isinstance(rating, Rating) and rating.mean == 2.5 and rating.raw.startswith("<think> grain")


def test_large_images_are_seen_in_several_views_and_get_one_verdict(tiny_folder: Path) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu")
    checkpoint.views = ViewPolicy("native", pixels=112 * 112, crop=84, crops=4, whole_weight=0.5)
    critic = QwenCritic(checkpoint)
    verdicts = critic.score([torch.rand(3, 300, 400), torch.rand(3, 84, 84)])
    assert len(verdicts) == 2 and all(isinstance(v, Rating) for v in verdicts)


@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (2000, 10), (28, 28)])
def test_odd_sizes_are_scored(checkpoint: Checkpoint, shape: tuple[int, int]) -> None:
    assert isinstance(QwenCritic(checkpoint).score([torch.rand(3, *shape)])[0], Rating)


def test_compare_asks_both_orders(checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    def always_a(_c: Any, _t: str, views: Any, **_: Any) -> list[str]:
        return ["<think> x </think><answer> Image A </answer>"] * len(views)

    monkeypatch.setattr("iqloop.critic.reason.write", always_a)
    for reference in (None, images[2:]):
        said = QwenCritic(checkpoint).compare(images[:1], images[1:2], reference)[0]
        assert isinstance(said, Preference)
        assert said.choice == "similar" and 0 <= said.probability <= 1 and len(said.raw) == 2


def test_swapping_a_comparison_mirrors_its_probability(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    critic = QwenCritic(checkpoint)
    prompt = Q_INSIGHT["compare"]
    there, back = (critic._choice_probabilities(prompt, [pair]) for pair in (images[:2], images[:2][::-1]))
    mirrored = critic._choice_probabilities(prompt, [images[:2]])
    assert there == mirrored and 0 <= there[0] <= 1 and 0 <= back[0] <= 1


def test_thurstone() -> None:
    verdicts = thurstone([Rating(3.0, 0.5), Rating(3.0, 1.0)], [Rating(2.0, 0.5), Rating(3.0, 1.0)], "m")
    first, second = verdicts
    assert isinstance(first, Preference) and isinstance(second, Preference)
    assert first.choice == "A" and first.probability == pytest.approx(0.9214, abs=1e-3)  # Phi(1 / sqrt(0.5))
    assert second.choice == "similar" and second.probability == pytest.approx(0.5)
    assert first.method == "thurstone"
    assert isinstance(thurstone([Unparsed("x", "y")], [Rating(1, 0)], "m")[0], Unparsed)


def test_asking_for_an_untrained_task_is_refused(tiny_folder: Path) -> None:
    source = CheckpointSource("tiny", str(tiny_folder), tasks=("score",))
    critic = QwenCritic(load(source, device="cpu"))
    assert critic.capabilities == {"score"}
    with pytest.raises(CriticError, match="not trained to answer 'degradation'"):
        critic.perceive([torch.rand(3, 56, 56)])
    answer = critic.compare([torch.rand(3, 56, 56)], [torch.rand(3, 56, 56)])[0]
    assert isinstance(answer, Preference) and answer.method == "thurstone"


def test_missing_weights_say_how_to_get_them() -> None:
    from iqloop.critic.known import create_critic

    with pytest.raises(PrerequisiteError, match="hf download ByteDance/Q-Insight"):
        create_critic("qinsight")
    with pytest.raises(UsageError, match="did you mean qinsight"):
        create_critic("qinsigth")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    from iqloop.critic.known import create_critic

    with pytest.raises(CriticError, match=r"config\.json"):
        create_critic(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CriticError, match="not a usable checkpoint"):
        create_critic(str(tmp_path))


def test_bad_options_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="decoding"):
        QwenCritic(checkpoint, "sampled")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_size"):
        QwenCritic(checkpoint, batch_size=0)
