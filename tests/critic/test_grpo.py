"""GRPO on a tiny critic: what stock trl computes, the reference, resuming, two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from iqloop.critic.checkpoint import CheckpointSource, load
from iqloop.critic.inputs import collate, encode, question
from iqloop.critic.prompts import Q_INSIGHT, TaskName
from iqloop.critic.rewards import ranking_rewards
from iqloop.critic.training import synthetic
from iqloop.critic.training.examples import Example
from iqloop.critic.training.grpo import PRESETS, Batches, Machine, newest, reward_functions, train_grpo, trainer
from iqloop.critic.training.share_prompt import plant, share_prefill
from iqloop.critic.training.share_vision import distinct, shared_vision
from iqloop.errors import UsageError
from iqloop.restorers.classical import classical_tools
from tests.conftest import Photograph

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's and transformers' notes of deprecation

SETTINGS = replace(
    PRESETS["q-insight"],
    steps=4,
    generations=4,
    prompts_per_step=4,
    prompts_per_device=2,
    max_new_tokens=12,
    rate=1e-3,
    beta=0.04,
    save_every=2,
)
CPU = Machine(device="cpu")


@pytest.fixture(scope="module")
def examples(photograph: Photograph, tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = tmp_path_factory.mktemp("images")
    names = ("astronaut", "coffee", "chelsea", "rocket")
    for i, name in enumerate(names):
        Image.fromarray(photograph(name, 56 + 28 * (i % 2), 30, 60)).save(folder / f"{i}.png")
    found = [Example("score", (folder / f"{i}.png",), "rated", opinion=1.0 + i) for i in range(4)]
    found += [
        Example("degradation", (folder / f"{i}.png",), "made", distortion_class="blur", severity="slight")
        for i in range(2)
    ]
    files = tuple(folder / f"{i}.png" for i in (0, 1, 2))
    return [*found, Example("compare-reference", files, "pairs", choice="A")] * 2


class Stop(Exception):
    pass


def format_of_length(completions: list[Any], **_: Any) -> list[float]:
    """A reward that a random model can earn: without differences there is nothing to learn."""
    return [float(sum(map(ord, completion[0]["content"])) % 7) for completion in completions]


def make(folder: Path, output: Path, examples: list[Example], machine: Machine = CPU, **changed: Any) -> Any:
    made = trainer(folder, output, examples, replace(SETTINGS, **changed), machine)
    made.reward_funcs[0] = format_of_length
    return made


def losses(made: Any) -> list[tuple[float, float, float]]:
    return [(row["loss"], row["grad_norm"], row["kl"]) for row in made.state.log_history if "kl" in row]


@pytest.fixture(scope="module")
def unbroken(tiny_folder: Path, examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = make(tiny_folder, tmp_path_factory.mktemp("unbroken"), examples)
    made.train()
    return made


def test_the_reference_is_the_start(unbroken: Any) -> None:
    kl = [row[2] for row in losses(unbroken)]
    assert len(kl) == 4
    assert kl[0] == pytest.approx(0, abs=1e-7)
    assert kl[-1] > 1e-5


def test_the_reference_is_the_start_also_when_the_file_has_changed(
    tiny_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    """trl reads the reference from the path in the configuration; ours is what was loaded."""
    made = make(tiny_folder, tmp_path, examples, steps=1)
    for name, parameter in made.ref_model.named_parameters():
        assert torch.equal(parameter, dict(made.model.named_parameters())[name])


def test_encoding_copies_once_changes_no_figure(
    unbroken: Any, tiny_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    plain = make(
        tiny_folder, tmp_path, examples, replace(CPU, share_vision=False, share_prompts=False, fast_vision=False)
    )
    plain.train()
    np.testing.assert_allclose(losses(unbroken), losses(plain), rtol=2e-3, atol=2e-6)


def test_resume_is_exact(unbroken: Any, tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    """A process that is killed in its third step leaves the checkpoint of the second, from which the rest is equal."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import torch; torch.set_num_threads(1)
from pathlib import Path
from transformers import TrainerCallback
from iqloop.critic.training.examples import Example
from tests.critic.test_grpo import make

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

import json
rows = json.loads(sys.stdin.read())
examples = [Example(**{{**row, "images": tuple(map(Path, row["images"]))}}) for row in rows]
made = make(Path({str(tiny_folder)!r}), Path({str(tmp_path)!r}), examples)
made.add_callback(Kill())
made.train()
"""
    rows = json.dumps([{**vars(example), "images": [str(path) for path in example.images]} for example in examples])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], input=rows, text=True, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert newest(tmp_path) == tmp_path / "checkpoint-2"
    resumed = make(tiny_folder, tmp_path, examples)
    resumed.train(resume_from_checkpoint=str(newest(tmp_path)))
    assert losses(resumed)[2:] == losses(unbroken)[2:]
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("warm_up", [0, 2])
def test_the_rate_rises_then_falls(tiny_folder: Path, examples: list[Example], tmp_path: Path, warm_up: int) -> None:
    made = make(tiny_folder, tmp_path, examples, warm_up=warm_up, final_rate=0.0)
    made.train()
    rates = [row["learning_rate"] for row in made.state.log_history if "learning_rate" in row]
    expected = [1.0, 0.75, 0.5, 0.25] if warm_up == 0 else [0.0, 0.5, 1.0, 0.5]
    assert rates == pytest.approx([SETTINGS.rate * share for share in expected])


def test_a_frozen_tower_stays_as_it_was(tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    made = make(tiny_folder, tmp_path, examples, freeze_vision=True, steps=1)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.train()
    moved = {name for name, value in made.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not any(".visual." in name for name in moved)


def test_adapters_leave_the_rest_alone(tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    made = make(tiny_folder, tmp_path, examples, lora=2, steps=2)
    made.train()
    assert losses(made)[0][2] == pytest.approx(0, abs=1e-7)
    trained = [name for name, parameter in made.model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora" in name and "visual" not in name for name in trained)


def test_equal_images_are_found(tiny_folder: Path) -> None:
    a, b = torch.rand(4, 6), torch.rand(4, 6)
    grid = torch.tensor([[1, 2, 2]] * 4)
    assert distinct(torch.cat([a, b, a, b]), grid) == ([0, 1], [0, 1, 0, 1])
    near = a.clone()
    near[0, 1] += 1e-7  # not equal, though every sum may be
    assert len(distinct(torch.cat([a, near]), grid[:2])[0]) == (1 if torch.equal(a, near) else 2)


def test_sharing_keeps_the_gradient(tiny_folder: Path) -> None:
    model = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True).model.requires_grad_(True)
    a, b = torch.rand(16, 1176), torch.rand(16, 1176)
    pixels, grid = torch.cat([a, b, a]), torch.tensor([[1, 4, 4]] * 3)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        tokens = torch.cat(list(model.model.get_image_features(pixels, grid, return_dict=True).pooler_output))
        (tokens * torch.arange(tokens.numel()).reshape(tokens.shape)).sum().backward()
        return tokens.detach(), model.model.visual.patch_embed.proj.weight.grad.clone()

    plain, gradient = run()
    with shared_vision(model):
        shared, added = run()
    torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(added, gradient, rtol=1e-3, atol=1e-2 * float(gradient.abs().max()))


@pytest.mark.parametrize("pixels", [(56, 84), (84, 56)])
def test_a_tree_predicts_what_single_rows_do(
    tiny_folder: Path, photograph: Photograph, pixels: tuple[int, int]
) -> None:
    """Two questions of different length, one with three images, and answers of different length, in any order."""
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    images = [torch.from_numpy(photograph("astronaut", side)).permute(2, 0, 1) / 255 for side in (*pixels, 56)]
    asked = [("score", images[:1]), ("compare-reference", images), ("score", images[1:2])]
    openings = [encode(checkpoint, question(checkpoint, Q_INSIGHT[task]), views) for task, views in asked]  # type: ignore[index]
    order, lengths = [1, 0, 2, 0, 1, 0], [5, 3, 1, 6, 2, 4]
    answers = [[20 + 7 * i + k for k in range(length)] for i, length in enumerate(lengths)]
    made = collate(checkpoint, [openings[i] for i in order], [asked[i][1] for i in order])
    width = max(lengths)
    behind = torch.tensor([answer + [0] * (width - len(answer)) for answer in answers])
    kept = torch.tensor([[1] * len(answer) + [0] * (width - len(answer)) for answer in answers])
    ids, mask = torch.cat([made.input_ids, behind], 1), torch.cat([made.attention_mask, kept], 1)
    counts = [len(asked[i][1]) for i in order]
    tree = plant(
        checkpoint.model, ids, mask, width, made.pixel_values, made.image_grid_thw, counts, made.mm_token_type_ids
    )
    assert tree.inputs["input_ids"].shape[0] == 3
    logits = checkpoint.model(**tree.inputs).logits.log_softmax(-1)[tree.row, tree.place]
    ours = logits.gather(-1, behind[..., None])[..., 0]
    for i, (which, answer) in enumerate(zip(order, answers, strict=True)):
        alone = collate(checkpoint, [openings[which] + answer], [asked[which][1]])
        checkpoint.model.model.rope_deltas = None
        row = checkpoint.model(**alone.as_dict()).logits[0].log_softmax(-1)[-len(answer) - 1 : -1]
        theirs = row.gather(-1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(ours[i, : len(answer)], theirs, rtol=1e-4, atol=2e-4)


def test_answers_are_the_same_with_their_prompt_read_once(tiny_folder: Path, photograph: Photograph) -> None:
    """Prompts of different length, one with three images, in any order; the drawn tokens are equal."""
    checkpoint = load(CheckpointSource("tiny", str(tiny_folder)), device="cpu", stock=True)
    images = [torch.from_numpy(photograph("astronaut", side)).permute(2, 0, 1) / 255 for side in (56, 84, 56)]
    asked = [("score", images[:1]), ("compare-reference", images), ("score", images[1:2])]
    openings = [encode(checkpoint, question(checkpoint, Q_INSIGHT[task]), views) for task, views in asked]  # type: ignore[index]
    order = [1, 0, 2, 0, 1, 0]
    made = collate(checkpoint, [openings[i] for i in order], [asked[i][1] for i in order]).as_dict()
    model, read = checkpoint.model, []
    forward = model.model.language_model.forward

    def counted(*args: Any, **options: Any) -> Any:
        read.append(tuple(options["inputs_embeds"].shape[:2]))
        return forward(*args, **options)

    model.model.language_model.forward = counted

    def written() -> torch.Tensor:
        torch.manual_seed(3)
        return torch.as_tensor(model.generate(**made, max_new_tokens=9, do_sample=True))

    plain = written()
    assert read[0][0] == 6
    read.clear()
    share_prefill(model)
    assert torch.equal(written(), plain) and len(plain.unique(dim=0)) > 3
    assert read[0][0] == 3 and all(rows == 6 for rows, _ in read[1:]), "three prompts, then six answers"


def test_made_rows_depend_on_seed_and_index_only(photograph: Photograph) -> None:
    tasks: tuple[TaskName, ...] = ("score", "degradation", "compare-reference")
    asked = synthetic.examples(tasks, 9)
    source = synthetic.Source(
        [photograph("astronaut", 300)], [(photograph("coffee", 300), 2.2)], classical_tools(), side=112
    )
    one, other = synthetic.rows(source, asked), synthetic.rows(source, asked)
    backwards = [other[i] for i in reversed(range(9))][::-1]
    for i, (row, again) in enumerate(zip((one[i] for i in range(9)), backwards, strict=True)):
        assert row["task"] == tasks[i % 3] and row["index"] == i
        assert all(np.array_equal(a, b) for a, b in zip(row["images"], again["images"], strict=True))
        assert len(row["images"]) == (3 if i % 3 == 2 else 1)
        known = [row[name] is not None for name in ("opinion", "distortion_class", "choice")]
        assert known == [i % 3 == 0, i % 3 == 1, i % 3 == 2]


def test_a_run_on_made_rows(tiny_folder: Path, photograph: Photograph, tmp_path: Path) -> None:
    asked = synthetic.examples(("compare-reference", "score"), 4)
    source = synthetic.Source([photograph("astronaut", 300)], [], classical_tools(), side=112)
    settings = replace(SETTINGS, steps=1)
    made = trainer(tiny_folder, tmp_path, asked, settings, CPU, synthetic.rows(source, asked))
    said: list[str] = []
    figures = train_grpo(made, tmp_path, said.append)
    assert figures["answers/unparsed"] == 1 and figures["rewards/format/mean"] == 0  # a random model
    assert said[0].startswith("step 1/1")
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["step"] == 1
    assert load(CheckpointSource("final", str(tmp_path / "final")), device="cpu").version


# -- which rows make a step --------------------------------------------------------------------------------------------


def test_a_step_is_whole_groups_of_one_data_set() -> None:
    groups = ["a"] * 7 + ["b"] * 5
    batches = Batches(groups, prompts=3, copies=2, steps=8, seed=1)
    indices = list(batches)
    assert len(indices) == len(batches) == 8 * 3 * 2
    assert batches.per_epoch() == 3
    for i in range(0, len(indices), 6):
        step = indices[i : i + 6]
        assert step[::2] == step[1::2] and len(set(step)) == 3
        assert len({groups[index] for index in step}) == 1
    first, second = list(batches.questions())[:3], list(batches.questions())[3:6]
    assert first != second  # another order each epoch


def test_a_data_set_that_cannot_fill_a_step_is_named() -> None:
    with pytest.raises(UsageError, match=r"at least 4 rows to fill a step .* got 2 of small"):
        Batches(["large"] * 8 + ["small"] * 2, prompts=4, copies=2, steps=1, seed=0)


# -- rewards -----------------------------------------------------------------------------------------------------------

ANSWER = "<think> a </think><answer> {} </answer>"


def columns(**changed: Any) -> dict[str, Any]:
    empty = [None, None, None]
    names = ("opinion", "distortion_class", "severity", "choice")
    return {**{name: empty for name in names}, "dataset": ["x"] * 3, "index": [0, 1, 2], **changed}


def test_each_reward_answers_for_its_own_task() -> None:
    texts = ['{"rating": 3.2}', '{"distortion_class": "blur", "severity": "serious"}', "Image A"]
    completions = [[{"role": "assistant", "content": ANSWER.format(text)}] for text in texts]
    said = columns(
        task=["score", "degradation", "compare-reference"],
        opinion=[3.0, None, None],
        distortion_class=[None, "blur", None],
        severity=[None, "slight", None],
        choice=[None, None, "A"],
    )
    rewards = {f.__name__: f(completions=completions, **said) for f in reward_functions(SETTINGS)}
    assert rewards == {
        "format": [1, 1, 1],
        "score": [1, None, None],
        "degradation": [None, 0.25, None],
        "comparison": [None, None, 1],
    }
    assert [f.__name__ for f in reward_functions(SETTINGS, ["score"])] == ["format", "score"]


def test_every_trained_task_has_words() -> None:
    assert {"score", "degradation", "compare", "compare-reference"} <= set(Q_INSIGHT)


def test_two_processes_rank_as_one(tmp_path: Path) -> None:
    """Four images of two data sets, two answers each, cut between two processes."""
    scores: list[list[float | None]] = [[1.0, 2.0], [3.0, None], [2.5, 4.0], [5.0, 4.5]]
    opinions, groups = [1.0, 4.0, 2.0, 5.0], ["x", "x", "y", "y"]
    script = tmp_path / "rank.py"
    script.write_text(
        f"""
import json, os, sys
from dataclasses import replace
from pathlib import Path
from accelerate import PartialState
from iqloop.critic.training.grpo import PRESETS, reward_functions
state = PartialState(cpu=True)
scores, opinions, groups = {scores!r}, {opinions!r}, {groups!r}
said = [(s, o, g, i) for i, (row, o, g) in enumerate(zip(scores, opinions, groups)) for s in row]
half = len(said) // state.num_processes
mine = said[state.process_index * half : (state.process_index + 1) * half]
texts = ["no answer" if s is None else f"<think> a </think><answer> {{s}} </answer>" for s, *_ in mine]
function = reward_functions(replace(PRESETS["visualquality-r1"], generations=2), ["score"])[1]
rewards = function(completions=texts, task=["score"] * len(mine), opinion=[o for _, o, _, _ in mine],
                   dataset=[g for _, _, g, _ in mine], index=[i for *_, i in mine])
Path({str(tmp_path)!r}, f"{{state.num_processes}}-{{state.process_index}}.json").write_text(json.dumps(rewards))
state.destroy_process_group()
"""
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for count in ("1", "2"):
        done = subprocess.run([*run, count, str(script)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    one = json.loads((tmp_path / "1-0.json").read_text())
    two = [*json.loads((tmp_path / "2-0.json").read_text()), *json.loads((tmp_path / "2-1.json").read_text())]
    assert one == two == [value for row in ranking_rewards(scores, opinions, groups) for value in row]
