"""The packed loss equals the loss of separate sequences; the stream of crops is a function of its seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iqloop.critic.answers import parse_degradation, parse_rating
from iqloop.critic.checkpoint import CheckpointSource, load
from iqloop.critic.inputs import collate, encode, question
from iqloop.critic.training.crops import Crops, Plan, load_rated
from iqloop.critic.training.opinion import CLEAN, FUNCTIONS, mean_opinion
from iqloop.critic.training.pairs import PairPlan, severity_pair
from iqloop.critic.training.share_vision import share_vision
from iqloop.critic.training.vision import Heads
from iqloop.critic.training.warmstart import (
    QUESTIONS,
    WarmstartSettings,
    answer_loss,
    closings,
    pack_pairs,
    pack_questions,
    train_warmstart,
)
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Unparsed
from iqloop.errors import UsageError
from tests.conftest import Photograph


def crops(photograph: Photograph, side: int = 56, count: int = 4) -> Crops:
    image = photograph("astronaut", 300)
    return Crops([image], [(image, 3.3)], [Plan(side, count)] * 3, seed=5)


def test_packed_loss_equals_separate_sequences(tiny_folder: Path, photograph: Photograph) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    batch = crops(photograph, count=6).batch(0)
    packed = pack_questions(checkpoint, batch, np.random.default_rng(0))
    together = answer_loss(checkpoint, packed).item()
    rng, losses = np.random.default_rng(0), []
    for pixels, label in zip(batch.pixels, batch.labels, strict=True):
        view = pixels.permute(2, 0, 1).float() / 255
        for asked in QUESTIONS:
            if label.distortion_class is None and not asked.rated_too:
                continue
            opening = encode(checkpoint, question(checkpoint, asked.prompt), [view])
            answer = checkpoint.tokenizer(asked.answer(label, rng) + "<|im_end|>", add_special_tokens=False)[
                "input_ids"
            ]
            inputs = collate(checkpoint, [opening + answer], [[view]])
            checkpoint.model.model.rope_deltas = None
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = checkpoint.model(**inputs.as_dict()).logits[0, len(opening) - 1 : -1]
            losses.append(F.cross_entropy(logits.float(), torch.tensor(answer), reduction="none"))
    assert together == pytest.approx(torch.cat(losses).mean().item(), rel=5e-3)


def test_templated_answers_parse_to_their_label(photograph: Photograph) -> None:
    rng = np.random.default_rng(0)
    for step in range(3):
        for label in crops(photograph, count=24).batch(step).labels:
            rating = parse_rating(QUESTIONS[0].answer(label, rng))
            assert not isinstance(rating, Unparsed) and rating == pytest.approx(label.score, abs=0.006)
            if label.distortion_class is None:
                continue
            seen = parse_degradation(QUESTIONS[1].answer(label, rng))
            assert not isinstance(seen, Unparsed)
            assert seen.distortion_class == CLASSES[label.distortion_class]
            assert seen.severity == ("null" if label.severity is None else SEVERITIES[label.severity - 1])


def test_a_batch_depends_on_seed_and_step_only(photograph: Photograph) -> None:
    first, again = crops(photograph), crops(photograph)
    assert torch.equal(first.batch(1).pixels, again.batch(1).pixels) and first.batch(1).labels == again.batch(1).labels
    assert not torch.equal(first.batch(0).pixels, first.batch(1).pixels)
    assert [len(batch.labels) for batch in first] == [4, 4, 4]


def test_opinions_fall_with_severity_and_stay_in_range() -> None:
    for name in FUNCTIONS:
        ladder = [mean_opinion(name, s) for s in (0, 1, 1.5, 2, 3, 4, 5)]
        assert ladder == sorted(ladder, reverse=True) and ladder[0] == CLEAN and ladder[-1] > 1


def test_a_missing_rated_photograph_is_an_error(tmp_path: Path) -> None:
    table = tmp_path / "rated.csv"
    table.write_text("file,mos_1_5\nlost.jpg,3.0\n")
    with pytest.raises(UsageError, match=r"lost\.jpg"):
        load_rated(table)
    table.write_text("file,mos\nlost.jpg,61.0\n")
    with pytest.raises(UsageError, match="columns file and mos_1_5"):
        load_rated(table)


def test_candidates_are_the_last_two_images() -> None:
    rows = torch.tensor([[0, 7, 1, 7, 1, 7, 2], [7, 0, 0, 1, 7, 1, 1]])
    first, second = closings(rows, closing=7, count=2)
    assert first.tolist() == [3, 0] and second.tolist() == [5, 4]
    assert closings(rows, closing=7, count=1)[0].tolist() == [5, 4]


def test_worth_is_read_from_each_image_alone(tiny_folder: Path, photograph: Photograph) -> None:
    """The token that closes A cannot know B: its worth does not change with it."""
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    rng = np.random.default_rng(1)
    pair = severity_pair(photograph("astronaut", 200), 56, rng)
    other = dataclasses.replace(pair, b=255 - pair.b)
    told: list[torch.Tensor] = []

    class Told(Heads):
        def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
            told.append(tokens)
            return super().forward(tokens)

    heads = Told(64)
    for one in (pair, other):
        packed = pack_pairs(checkpoint, [one], np.random.default_rng(0))
        alone, beside = answer_loss(checkpoint, packed).item(), answer_loss(checkpoint, packed, heads).item()
        assert beside > alone, "what the images are worth has a loss of its own"
    # Two rows a pair, the second in the other order; called for the images shown first, then for those shown second.
    (a, b), (second_b, second_a), (again, _), (_, again_swapped) = told
    assert a.allclose(again, atol=1e-5)
    assert not second_b.allclose(b, atol=1e-2) and not second_a.allclose(again_swapped, atol=1e-2)


def test_both_orders_are_shown(tiny_folder: Path, photograph: Photograph) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    pair = severity_pair(photograph("astronaut", 200), 56, np.random.default_rng(1))
    packed = pack_pairs(checkpoint, [pair], np.random.default_rng(0))
    first, second = packed.pairs
    assert first is pair and {first.choice, second.choice} == {"A", "B"} and first.difference == -second.difference
    assert np.array_equal(first.a, second.b) and np.array_equal(first.b, second.a)
    before = answer_loss(checkpoint, packed).item()
    undo = share_vision(checkpoint.model)
    assert answer_loss(checkpoint, packed).item() == pytest.approx(before, rel=1e-4), "encoded once, the same loss"
    undo()


class Killed(Exception):
    pass


def test_resume_is_exact(tiny_folder: Path, photograph: Photograph, tmp_path: Path) -> None:
    plans = (Plan(56, 2), PairPlan(56, 2))
    settings = WarmstartSettings(steps=4, plans=plans, rate=1e-3, embed_rate=1e-3, save_every=2)
    images = [photograph("astronaut", 200), photograph("coffee", 200)]

    def train(folder: Path, stop: bool = False) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)

        def log(row: dict[str, float]) -> None:
            assert row["step"] % 2 or row["held_out_pairs_loss"] > 0
            if stop and row["step"] == 4:
                raise Killed

        train_warmstart(checkpoint, images, [(images[0], 3.0)], images, (), settings, folder, log, workers=0)
        return dict(checkpoint.model.state_dict())

    unbroken = train(tmp_path / "a")
    with pytest.raises(Killed):
        train(tmp_path / "b", stop=True)
    assert torch.load(tmp_path / "b" / "warmstart.pt", weights_only=True)["step"] == 2
    resumed = train(tmp_path / "b")
    assert all(torch.equal(unbroken[key], resumed[key]) for key in unbroken)


def test_a_frozen_tower_stays_as_it_is(tiny_folder: Path, photograph: Photograph, tmp_path: Path) -> None:
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    image = photograph("astronaut", 200)
    plans = (Plan(56, 2), PairPlan(56, 2))
    settings = WarmstartSettings(steps=2, plans=plans, rate=1e-3, embed_rate=1e-3, vision_rate=0)
    heads = Heads(64).state_dict()
    train_warmstart(checkpoint, [image], [(image, 3.0)], [image], (), settings, tmp_path, lambda _: None, 0, heads)
    changed = {name for name, value in checkpoint.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any("visual" in name for name in changed)
    saved = torch.load(tmp_path / "warmstart.pt", weights_only=True)["heads"]
    # A step moves them a little: they went on from those that were given.
    assert all(0 < (saved[name] - heads[name]).abs().max() < 0.01 for name in ("out.weight", "out.bias"))
