"""The engine: equal to stock transformers, deterministic, batched without changing answers."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from iqloop.critic import context as contexts
from iqloop.critic.branches import Tree, branch_log_probs, tree_logits
from iqloop.critic.checkpoint import Checkpoint, CheckpointSource, load
from iqloop.critic.context import see, tokens_of
from iqloop.critic.engine import QwenCritic, Sitting
from iqloop.critic.expected import expected_rating
from iqloop.critic.inputs import collate, encode, question
from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1, VISUALQUALITY_R1_DIRECT
from iqloop.critic.reason import Draw, write
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Preference, Rating, Unparsed
from iqloop.critic.views import ViewPolicy
from iqloop.errors import CriticError, PrerequisiteError, UsageError


@pytest.fixture(scope="module", params=["own", "transformers"])
def checkpoint(request: pytest.FixtureRequest, tiny_folder: Path) -> Checkpoint:
    """By our own forward, and by transformers' with the parts that are swapped."""
    source = CheckpointSource("tiny", str(tiny_folder), max_new_tokens=12)
    return load(source, device="cpu", stock=request.param == "transformers")


@pytest.fixture(scope="module")
def processor(tiny_folder: Path) -> Any:
    return load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True).processor


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


def test_one_frame_of_a_still_image_is_as_good_as_two(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    from iqloop.critic.pixels import pack

    visual = checkpoint.model.model.visual
    (one, grid), (two, _) = pack(images, frames=1), pack(images)
    assert 2 * one.shape[1] == two.shape[1]
    torch.testing.assert_close(visual(one, grid).pooler_output, visual(two, grid).pooler_output, rtol=1e-4, atol=1e-4)


def test_inputs_equal_the_processor(checkpoint: Checkpoint, processor: Any) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (84, 112, 3), dtype=np.uint8))
    text = question(checkpoint, Q_INSIGHT["score"])
    expected = processor(text=[text], images=[picture], return_tensors="pt")
    view = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    ours = collate(checkpoint, [encode(checkpoint, text, [view])], [[view]])
    assert torch.equal(ours.input_ids, expected["input_ids"])
    assert torch.equal(ours.image_grid_thw, expected["image_grid_thw"])
    assert torch.equal(ours.mm_token_type_ids, expected["mm_token_type_ids"].to(torch.int32))
    torch.testing.assert_close(ours.pixel_values, expected["pixel_values"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(300, 500), (768, 1024), (20, 30), (90, 91)])
def test_processor_policy_equals_the_processor_resize(
    checkpoint: Checkpoint, processor: Any, size: tuple[int, int]
) -> None:
    from skimage import data

    from iqloop.critic.pixels import pack
    from iqloop.critic.views import views_of

    photo = Image.fromarray(data.astronaut()).resize(size[::-1], Image.Resampling.BICUBIC)
    limits = processor.image_processor.size
    policy = ViewPolicy("processor", pixels=limits["longest_edge"], min_pixels=limits["shortest_edge"])
    view = views_of(torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255, policy)[0].pixels
    patches, grid = pack([view])
    text = question(checkpoint, Q_INSIGHT["score"])
    expected = processor(text=[text], images=[photo], return_tensors="pt")
    assert torch.equal(grid, expected["image_grid_thw"])
    difference = (patches - expected["pixel_values"]).abs()
    # One grey level is 0.0150; the fixed-point weights of the byte resize may round the other way.
    assert difference.max() < 0.031 and (difference > 1e-4).float().mean() < 0.02


def sit(checkpoint: Checkpoint, images: list[Tensor], **options: Any) -> Sitting:
    return Sitting(checkpoint, [[seen] for seen in see(checkpoint, images)], **options)


def test_a_tree_shares_what_continuations_have_in_common() -> None:
    tree = Tree.of([[5, 6, 7], [5, 6, 8], [9], [5, 6]])
    assert tree.tokens == (5, 6, 7, 8, 9) and tree.parents == (0, 1, 2, 2, 0)
    assert tree.paths == ((1, 2, 3), (1, 2, 4), (5,), (1, 2)) and tree.depths() == [0, 1, 2, 3, 3, 1]
    assert tree.ancestry().tolist()[3] == [True, True, False, True, False]


def test_tree_logits_equal_separate_forwards(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    """Context, stem and tree, batched over images of three sizes, against whole prompts through the stock model."""
    prompt = Q_INSIGHT["score"]
    text = question(checkpoint, prompt) + prompt.answer_prefix
    digits = [tokens_of(checkpoint, str(d))[0] for d in range(6)]
    tails = [[digits[1], digits[2]], [digits[3]], [digits[1], digits[5], digits[0]]]
    tree = Tree.of(tails)
    plain = stock(checkpoint)
    for asked in (False, True):
        sitting = sit(checkpoint, images)
        if asked:
            sitting.ask(prompt)
        context, stem = sitting.stem(prompt, prompt.answer_prefix)
        packed = tree_logits(checkpoint, context, [stem] * len(images), tree)
        for row, image in enumerate(images):
            for tail, path in zip(tails, tree.paths, strict=True):
                inputs = collate(checkpoint, [encode(checkpoint, text, [image]) + tail], [[image]])
                plain.model.rope_deltas = None
                with torch.no_grad():
                    alone = plain(**inputs.as_dict()).logits[0, -len(tail) - 1 :]
                torch.testing.assert_close(packed[row, [0, *path]], alone, rtol=1e-3, atol=2e-4)


def test_prompts_of_several_images_and_text_first_equal_separate_forwards(
    checkpoint: Checkpoint, images: list[Tensor]
) -> None:
    plain = stock(checkpoint)
    seen = see(checkpoint, images)
    for prompt, count, text_first in ((Q_INSIGHT["compare-reference"], 3, False), (Q_INSIGHT["score"], 1, True)):
        sitting = Sitting(checkpoint, [seen[:count], seen[::-1][:count]], text_first)
        context, stem = sitting.stem(prompt, prompt.answer_prefix)
        packed = tree_logits(checkpoint, context, [stem] * 2, Tree((), (), ()))
        text = question(checkpoint, prompt, text_first) + prompt.answer_prefix
        for row, views in enumerate((images[:count], images[::-1][:count])):
            inputs = collate(checkpoint, [encode(checkpoint, text, views)], [views])
            plain.model.rope_deltas = None
            with torch.no_grad():
                alone = plain(**inputs.as_dict()).logits[0, -1]
            torch.testing.assert_close(packed[row, 0], alone, rtol=1e-3, atol=2e-4)


def test_the_text_before_the_image_is_read_anew_when_the_weights_change(
    tiny_folder: Path, images: list[Tensor]
) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    before = QwenCritic(checkpoint).score(images[:1])[0]
    again = QwenCritic(checkpoint).score(images[:1])[0]
    with torch.no_grad():
        for parameter in checkpoint.model.model.language_model.parameters():
            parameter.mul_(1.1)
    changed = QwenCritic(checkpoint).score(images[:1])[0]
    path = tiny_folder.parent / "changed"
    checkpoint.model.save_pretrained(path)
    checkpoint.processor.save_pretrained(path)
    fresh = QwenCritic(load(CheckpointSource("changed", str(path)), device="cpu")).score(images[:1])[0]
    assert isinstance(before, Rating) and isinstance(changed, Rating) and isinstance(fresh, Rating)
    assert again == before and changed.mean == pytest.approx(fresh.mean, abs=1e-4) != before.mean


def test_expected_rating_is_the_sum_over_written_ratings(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    """Golden by definition: the probabilities of 1.0, 1.1, ... 4.9 and 5 multiplied out, one forward each."""
    prompt = Q_INSIGHT["score"]
    context, stem = sit(checkpoint, images[:1]).stem(prompt, prompt.answer_prefix)
    out = expected_rating(checkpoint, context, [stem])

    def log_prob(continuations: list[str]) -> Tensor:
        rows = [tokens_of(checkpoint, text) for text in continuations]
        return torch.stack([branch_log_probs(checkpoint, context, [stem], [row])[0, 0] for row in rows])

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


def test_expected_scores_are_equal_to_the_bit(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    assert QwenCritic(checkpoint).score(images) == QwenCritic(checkpoint).score(images)


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.3}, {"begin_suppress_tokens": list(range(300))}])
def test_greedy_answers_equal_stock_generate(
    checkpoint: Checkpoint, images: list[Tensor], settings: dict[str, Any]
) -> None:
    prompt = Q_INSIGHT["degradation"]
    text = question(checkpoint, prompt)
    plain = stock(checkpoint)
    for model in (plain, checkpoint.model):
        model.generation_config = copy.deepcopy(model.generation_config)
        for name, value in ({"repetition_penalty": 1.0, "begin_suppress_tokens": None} | settings).items():
            setattr(model.generation_config, name, value)
    context, stem = sit(checkpoint, images).stem(prompt, "")
    ours = write(checkpoint, context, [stem] * 3, [Draw()] * 3, max_new_tokens=8)
    for answer, image in zip(ours, images, strict=True):
        inputs = collate(checkpoint, [encode(checkpoint, text, [image])], [[image]])
        plain.model.rope_deltas = None
        out = plain.generate(**inputs.as_dict(), max_new_tokens=8, do_sample=False)
        alone = checkpoint.processor.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)[0]
        assert answer == alone


def test_rows_that_have_ended_leave_the_others_unchanged(tiny_folder: Path, images: list[Tensor]) -> None:
    """A quarter of the vocabulary ends an answer, so rows end at different steps."""
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu")
    checkpoint.model.generation_config.eos_token_id = list(range(0, 600, 4))
    context, stem = sit(checkpoint, images).stem(Q_INSIGHT["describe"], "")
    draws = [Draw(1.0, (k,)) for k in range(12)]
    rows = torch.arange(12) % 3
    together = write(checkpoint, context.rows(rows), [stem] * 12, draws, 12)
    alone = [write(checkpoint, context.rows(rows[k : k + 1]), [stem], [draws[k]], 12)[0] for k in range(12)]
    assert together == alone and len({len(tokens_of(checkpoint, text)) for text in together}) > 2


def test_drawn_answers_repeat_and_do_not_depend_on_the_batch(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    prompt = Q_INSIGHT["describe"]
    context, stem = sit(checkpoint, images).stem(prompt, "")
    draws = [Draw(1.0, (3, k, 0)) for k in range(3)]
    together = write(checkpoint, context, [stem] * 3, draws, max_new_tokens=10)
    assert together == write(checkpoint, context, [stem] * 3, draws, max_new_tokens=10)
    alone = [write(checkpoint, context.rows(torch.tensor([i])), [stem], [draws[i]], 10)[0] for i in range(3)]
    assert together == alone
    assert together != write(checkpoint, context, [stem] * 3, [Draw(1.0, (4, k, 0)) for k in range(3)], 10)


def test_draws_follow_the_distribution(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    """First tokens of 2,000 draws against the model's own probabilities."""
    prompt = Q_INSIGHT["describe"]
    context, stem = sit(checkpoint, images[:1]).stem(prompt, "")
    p = tree_logits(checkpoint, context, [stem], Tree((), (), ()))[0, 0].double().softmax(-1)
    from iqloop.critic.reason import _choose

    chances = np.random.default_rng(0).random(2000)
    drawn = _choose(p.log().expand(2000, -1), [1.0] * 2000, chances)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(p)) / 2000
    assert float((counts - p).abs().max()) < 0.04


def test_a_runaway_answer_is_unparsed_and_counted(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    verdict = QwenCritic(checkpoint, "reason").score(images[:1])[0]
    assert isinstance(verdict, Unparsed) and "<think>" in verdict.reason and verdict.unparsed == 3
    verdict = QwenCritic(checkpoint, "reason", samples=2).score(images[:1])[0]
    assert isinstance(verdict, Unparsed) and verdict.unparsed == 6


def script(monkeypatch: pytest.MonkeyPatch, say: Any) -> list[Draw]:
    """Answers come from ``say(draw)``; returns the draws that were asked for."""
    asked: list[Draw] = []

    def scripted(_checkpoint: Any, _context: Any, _stems: Any, draws: list[Draw], *_: Any) -> list[str]:
        asked.extend(draws)
        return [say(draw) for draw in draws]

    monkeypatch.setattr("iqloop.critic.reason.write", scripted)
    return asked


def rated(value: object) -> str:
    return f'<think> grain </think><answer> {{"rating": {value}}} </answer>'


BROKEN = ["", "garbage", rated(1) + rated(2), rated(9.9), rated("null"), '<answer> {"rating": 3} </answer>']


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("decoding", ["reason", "reason+expected"])
def test_a_broken_answer_is_never_a_score(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch, broken: str, decoding: Any
) -> None:
    asked = script(monkeypatch, lambda _: broken)
    verdicts = QwenCritic(checkpoint, decoding).score(images[:2])
    assert all(isinstance(v, Unparsed) and v.raw == broken and v.unparsed == 3 for v in verdicts)
    assert sorted(draw.temperature for draw in asked) == [0, 0, 1, 1, 1, 1]


def test_a_fenced_answer_is_read(checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = '<think> x </think><answer> ```json\n{"rating": 2.25}\n``` </answer>'
    script(monkeypatch, lambda _: fenced)
    rating = QwenCritic(checkpoint, "reason").score(images[:1])[0]
    assert isinstance(rating, Rating) and rating.mean == 2.25 and rating.raw == fenced and rating.unparsed == 0


def test_samples_give_mean_deviation_and_all_answers(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three draws say 2, 3 and nonsense; the retry of the third says 4."""
    said = {(7, 0, 0): rated(2), (7, 1, 0): rated(3), (7, 2, 0): "nonsense", (7, 2, 1): rated(4)}
    asked = script(monkeypatch, lambda draw: said[draw.seed])
    rating = QwenCritic(checkpoint, "reason", samples=3, temperature=0.7, seed=7).score(images[:1])[0]
    assert isinstance(rating, Rating)
    assert rating.mean == 3 and rating.std == pytest.approx(1.0) and rating.unparsed == 1
    assert rating.answers == (rated(2), rated(3), rated(4)) and {draw.temperature for draw in asked} == {0.7}
    assert "3 samples" in rating.provenance.decoding


def test_reasoned_expectations_are_taken_at_each_answer(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden: the same thought as fixed text in the prompt, through the stock model."""
    said = {(0, 0, 0): rated(2).replace("grain", "much grain"), (0, 1, 0): rated(3)}
    script(monkeypatch, lambda draw: said[draw.seed])
    rating = QwenCritic(checkpoint, "reason+expected", samples=2).score(images[:1])[0]
    assert isinstance(rating, Rating) and rating.digit_mass is not None
    prompt = Q_INSIGHT["score"]
    means = []
    for answer in said.values():
        context, stem = sit(checkpoint, images[:1]).stem(prompt, answer.split("{")[0] + '{"rating": ')
        means.append(float(expected_rating(checkpoint, context, [stem]).mean))
    assert rating.mean == pytest.approx(sum(means) / 2, abs=1e-4)


def count_views(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many views each call encodes, from now on."""
    encoded: list[int] = []
    encode_views = contexts._encode

    def counted(checkpoint: Any, views: Any) -> Any:
        encoded.append(len(views))
        return encode_views(checkpoint, views)

    monkeypatch.setattr(contexts, "_encode", counted)
    return encoded


def test_several_questions_encode_and_read_an_image_once(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = count_views(monkeypatch)
    looked: list[str] = []

    def watched(checkpoint: Any, text: str, rows: Any) -> Any:
        looked.append(text)
        return contexts.look(checkpoint, text, rows)

    monkeypatch.setattr("iqloop.critic.engine.look", watched)
    checkpoint = copy.copy(checkpoint)
    checkpoint.tasks = ("score", "degradation", "describe")
    critic = QwenCritic(checkpoint)
    together = critic.ask(images[:1], ["score", "perceive", "describe"], written=False)[0]
    assert encoded == [1] and len(looked) == 1
    assert together.score == critic.score(images[:1])[0]
    assert together.description == critic.describe(images[:1])[0]
    alone = critic.label_probabilities(images[:1])[0]
    assert isinstance(together.degradation, Degradation)
    assert together.degradation.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_a_written_answer_goes_on_from_the_question_that_was_read(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    """Whatever an answer begins with, even with nothing: what is left to read never includes the question again."""
    prompt = Q_INSIGHT["degradation"]
    sitting = sit(checkpoint, images)
    free = write(checkpoint, *_with_stem(sitting, "", 3), [Draw()] * 3, max_new_tokens=6)
    asked = sitting.ask(prompt)
    for begun in ("", "<think>", prompt.answer_prefix):
        context, stem = sitting.stem(prompt, begun)
        assert context is asked and 1 <= len(stem) <= len(tokens_of(checkpoint, begun)) + 1
    assert write(checkpoint, *_with_stem(sitting, "", 3), [Draw()] * 3, max_new_tokens=6) == free


def _with_stem(sitting: Sitting, begun: str, rows: int) -> tuple[contexts.Context, list[list[int]]]:
    context, stem = sitting.stem(Q_INSIGHT["degradation"], begun)
    return context, [stem] * rows


def test_visualquality_r1_with_and_without_thinking(
    tiny_folder: Path, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {True: "<think> fine </think><answer> 3.5 </answer>", False: "<answer>3.50</answer>"}
    for thinks, prompts in ((True, VISUALQUALITY_R1), (False, VISUALQUALITY_R1_DIRECT)):
        source = CheckpointSource("vq", str(tiny_folder), tasks=("score", "describe"), prompts=prompts)
        checkpoint = load(source, device="cpu")
        assert isinstance(QwenCritic(checkpoint).score(images[:1])[0], Rating)
        script(monkeypatch, lambda _, said=answers[thinks]: said)
        rating = QwenCritic(checkpoint, "reason").score(images[:1])[0]
        assert isinstance(rating, Rating) and rating.mean == 3.5
        script(monkeypatch, lambda _: answers[False])
        direct = QwenCritic(checkpoint, "reason").score(images[:1])[0]
        assert isinstance(direct, Unparsed if thinks else Rating)


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
    asked = script(monkeypatch, lambda draw: good if draw.temperature else "nonsense")
    seen = QwenCritic(checkpoint).perceive(images[:1])[0]
    assert isinstance(seen, Degradation)
    assert (seen.distortion_class, seen.severity, seen.reasoning, seen.raw) == ("blur", "serious", "soft edges", good)
    assert [draw.temperature for draw in asked] == [0.0, 1.0] and seen.unparsed == 1


def test_a_begun_answer_is_completed(tiny_folder: Path, images: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu")
    checkpoint.answer_begin = "<think>"
    begun = tokens_of(checkpoint, "<think>")

    def scripted(_checkpoint: Any, _context: Any, stems: Any, draws: Any, *_: Any) -> list[str]:
        assert all(stem[-len(begun) :] == begun for stem in stems)
        return [' grain </think><answer> {"rating": 2.5} </answer>'] * len(draws)

    monkeypatch.setattr("iqloop.critic.reason.write", scripted)
    rating = QwenCritic(checkpoint, "reason").score(images[:1])[0]
    assert isinstance(rating, Rating) and rating.mean == 2.5 and rating.raw.startswith("<think> grain")


def test_large_images_are_seen_in_several_views_and_get_one_verdict(tiny_folder: Path) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu")
    checkpoint.views = ViewPolicy("native", pixels=112 * 112, crop=84, crops=4, whole_weight=0.5)
    critic = QwenCritic(checkpoint)
    verdicts = critic.score([torch.rand(3, 300, 400), torch.rand(3, 84, 84)])
    assert len(verdicts) == 2 and all(isinstance(v, Rating) for v in verdicts)


@pytest.mark.parametrize("count", [2, 4])
def test_a_small_image_is_perceived_in_its_mirror_images_too(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    plain, twice = (load(CheckpointSource("tiny", str(tiny_folder)), device="cpu") for _ in range(2))
    plain.views = ViewPolicy("native", pixels=112 * 112, crop=84, crops=2)
    twice.views = replace(plain.views, reflections=count)
    small, large = torch.rand(3, 84, 56), torch.rand(3, 200, 150)
    turns = [small, small.flip(-1), small.flip(-2), small.flip(-1, -2)][:count]
    here, there, beyond = (one.probabilities for one in QwenCritic(twice).label_probabilities([*turns[:2], large]))
    *alone, single = (one.probabilities for one in QwenCritic(plain).label_probabilities([*turns, large]))
    for kind in CLASSES:
        assert here[kind] == pytest.approx(there[kind], rel=1e-3), "left and right are one"
        assert beyond[kind] == pytest.approx(single[kind], rel=1e-3), "several views are enough"
    odds = [one["noise"] / one["blur"] for one in alone]
    assert min(odds) < here["noise"] / here["blur"] < max(odds)
    assert QwenCritic(twice).score([small]) == QwenCritic(plain).score([small])
    script(
        monkeypatch, lambda _: '<think> x </think><answer> {"distortion_class": "blur", "severity": "slight"} </answer>'
    )
    encoded = count_views(monkeypatch)
    (said,) = QwenCritic(twice).ask([small], ["score", "perceive"])
    assert isinstance(said.degradation, Degradation) and said.degradation.severity == "slight"
    assert sum(encoded) == count, "the score is of the image alone"
    encoded.clear()
    QwenCritic(twice).score([small])
    assert sum(encoded) == 1


@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (2000, 10), (28, 28)])
def test_odd_sizes_are_scored(checkpoint: Checkpoint, shape: tuple[int, int]) -> None:
    assert isinstance(QwenCritic(checkpoint).score([torch.rand(3, *shape)])[0], Rating)


def test_compare_asks_both_orders(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, lambda _: "<think> x </think><answer> Image A </answer>")
    for reference in (None, images[2:]):
        said = QwenCritic(checkpoint).compare(images[:1], images[1:2], reference)[0]
        assert isinstance(said, Preference)
        assert said.choice == "similar" and 0 <= said.probability <= 1 and len(said.raw) == 2
        assert said.position_bias is not None and -0.5 <= said.position_bias <= 0.5


def test_swapping_a_comparison_mirrors_it(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    source = copy.copy(checkpoint)
    critic = QwenCritic(source)
    monkey = {"A": "B", "B": "A", "similar": "similar"}
    with pytest.MonkeyPatch.context() as patch:
        script(patch, lambda _: "<think> x </think><answer> Similar </answer>")
        there = critic.compare(images[:1], images[1:2])[0]
        back = critic.compare(images[1:2], images[:1])[0]
    assert isinstance(there, Preference) and isinstance(back, Preference)
    assert there.probability == pytest.approx(1 - back.probability, abs=1e-5)
    assert there.choice == monkey[back.choice] and there.position_bias == pytest.approx(back.position_bias, abs=1e-5)


def test_a_tournament_encodes_each_image_once(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = count_views(monkeypatch)
    script(monkeypatch, lambda _: "<think> x </think><answer> Image B </answer>")
    pairs = [(0, 1), (0, 2), (1, 2), (2, 0)]
    critic = QwenCritic(checkpoint, batch_size=2)
    said = critic.compare([images[i] for i, _ in pairs], [images[j] for _, j in pairs])
    assert sum(encoded) == 3
    alone = [critic.compare([images[i]], [images[j]])[0] for i, j in pairs]
    for one, other in zip(said, alone, strict=True):
        assert isinstance(one, Preference) and isinstance(other, Preference)
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


def test_large_images_are_compared_crop_by_crop(
    checkpoint: Checkpoint, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops are votes; the same as asking about each, and encoded once for all pairs."""
    views = ViewPolicy("native", pixels=112 * 112, crop=84, crops=4, pair_pixels=56 * 56, pair_crops=2)
    large = [torch.rand(3, 56, 112, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    encoded = count_views(monkeypatch)
    script(monkeypatch, lambda _: "<think> x </think><answer> Image A </answer>")
    critic = QwenCritic(replace(checkpoint, views=views))
    first, second = critic.compare([large[0], large[1]], [large[1], large[2]])
    assert sum(encoded) == 6
    halves = [[image[..., :56] for image in large], [image[..., 56:] for image in large]]
    alone = [critic.compare([half[0]], [half[1]])[0] for half in halves]
    assert isinstance(first, Preference) and isinstance(second, Preference) and len(first.raw) == 2
    for name in ("probability", "position_bias"):
        expected = sum(getattr(one, name) for one in alone) / 2
        assert getattr(first, name) == pytest.approx(expected, abs=1e-5)


def test_another_checkpoint_compares_given_a_reference(checkpoint: Checkpoint, images: list[Tensor]) -> None:
    """Made at the first comparison with a reference, once; without one the critic's own checkpoint answers."""
    scorer = copy.copy(checkpoint)
    scorer.tasks = ("score", "degradation")
    made: list[QwenCritic] = []

    def make() -> QwenCritic:
        made.append(QwenCritic(checkpoint))
        return made[-1]

    critic = QwenCritic(scorer, comparison=make)
    assert "compare" in critic.capabilities
    without = critic.compare(images[:1], images[1:2])[0]
    assert not made and isinstance(without, Preference) and without.method == "thurstone"
    with pytest.MonkeyPatch.context() as patch:
        script(patch, lambda _: "<think> x </think><answer> Image B </answer>")
        for _ in range(2):
            given = critic.compare(images[:1], images[1:2], images[2:])[0]
            assert isinstance(given, Preference) and given.method == "comparison"
    assert len(made) == 1


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
    with pytest.raises(CriticError, match=r"expected a Qwen2\.5-VL checkpoint"):
        create_critic(str(tmp_path))


def test_bad_options_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="decoding"):
        QwenCritic(checkpoint, "sampled")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_size"):
        QwenCritic(checkpoint, batch_size=0)
    with pytest.raises(UsageError, match="samples are written answers"):
        QwenCritic(checkpoint, samples=4)
    with pytest.raises(UsageError, match="temperature"):
        QwenCritic(checkpoint, "reason", samples=4, temperature=0)
