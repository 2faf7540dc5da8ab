"""A reward beside the pixel loss: what it changes, what it leaves alone, exact resume, and which weights are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from iqloop.errors import UsageError
from iqloop.restorers.spandrel_tool import read_metadata
from iqloop.restorers.training.guard import Guard, Keeper, mean_of, preferable
from iqloop.restorers.training.guidance import Guidance, Reward
from iqloop.restorers.training.learner import optimiser_of, rate_at
from iqloop.restorers.training.nets import NETS, build_net
from iqloop.restorers.training.stream import Patches
from iqloop.restorers.training.tasks import TASKS
from iqloop.restorers.training.train import RestorerSettings, train_restorer
from iqloop.restorers.training.validation import checks, figures

Bytes = NDArray[np.uint8]
SIZES = {"width": 8, "convs": 2}
TASK = TASKS["denoise"]


@pytest.fixture(scope="session")
def crops(photograph: Callable[..., Bytes]) -> list[Bytes]:
    """Three clean photographs of 64 pixels."""
    return [photograph(name, 64, 40, 120) for name in ("astronaut", "coffee", "chelsea")]


def settings(**changed: Any) -> RestorerSettings:
    small = {"batch": 2, "patch": 16, "log_every": 1, "save_every": 2, "validate_every": 2, "validate_side": 32}
    return RestorerSettings(**{"steps": 6, "warmup": 0.2, "rate": 3e-3, "ema": 0.5, **small, **changed})


def brightness(images: Tensor, step: int) -> Tensor:
    """The mean value; its gradient is the same everywhere."""
    return images.mean((1, 2, 3))


def brightness_somewhere(images: Tensor, step: int) -> Tensor:
    """Of a column that follows from the step alone, as a random view does."""
    column = int(torch.randint(images.shape[-1], (), generator=torch.Generator().manual_seed(step)))
    return images[..., column].mean((1, 2))


def light(image: Tensor) -> float:
    return float(image.mean())


def guided(reward: Reward = brightness, weight: float = 1.0, **changed: Any) -> Guidance:
    return Guidance(reward, weight, **{"judges": {"light": light}, **changed})


def train(folder: Path, crops: list[Bytes], guidance: Guidance | None, **changed: Any) -> dict[str, float]:
    say = changed.pop("say", lambda line: None)
    return train_restorer(
        TASK, "compact", crops[:2], crops[2:], settings(**changed), folder, say,
        sizes=SIZES, precision="float32", guidance=guidance,
    )  # fmt: skip


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def figure(result: dict[str, float], name: str) -> float:
    return mean_of(result, name)


# ---- the loss


def test_without_guidance_the_weights_are_those_of_the_pixel_loss_alone(tmp_path: Path, crops: list[Bytes]) -> None:
    train(tmp_path / "run", crops, None)
    run = settings()
    # The same training, written out.
    net = build_net("compact", 1, SIZES, run.seed).to(memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimiser = optimiser_of(list(net.parameters()), run.weight_decay)
    for step, batch in enumerate(Patches(TASK, crops[:2], 16, run.batch, run.steps, run.seed)):
        given, target = (part.float() / 255 for part in batch)
        error = net(given.contiguous(memory_format=torch.channels_last)) - target
        (error.square() + 1e-3**2).sqrt().mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), run.clip)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * rate_at(step, run.steps, run.warmup)
        optimiser.step()
        optimiser.zero_grad()
        for name, value in net.named_parameters():
            average[name].lerp_(value.detach(), 1 - min(run.ema, (step + 1) / (step + 10)))
    final = load_file(tmp_path / "run/final.safetensors")
    assert set(final) == set(average) and all(torch.equal(final[name], average[name]) for name in final)
    # Nor is there a trace of it elsewhere: runs that were begun before there was such a thing go on.
    said = json.loads((tmp_path / "run/settings.json").read_text())
    assert not {"reward_weight", "fidelity", "guard", "chosen_on"} & set(said)
    assert set(torch.load(tmp_path / "run/last.pt", weights_only=True)) == {"net", "average", "optimiser", "step"}
    assert "guidance" not in read_metadata(tmp_path / "run/final.safetensors")
    assert set(rows_of(tmp_path / "run")[0]) == {"step", "loss", "gradient", "rate", "seconds"}


def test_a_reward_without_a_gradient_changes_no_weight(tmp_path: Path, crops: list[Bytes]) -> None:
    plain = train(tmp_path / "plain", crops, None)
    constant = guided(lambda images, step: images.new_zeros(len(images)))
    looked = train(tmp_path / "looked", crops, constant)
    files = [load_file(tmp_path / run / "final.safetensors") for run in ("plain", "looked")]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    assert {name: looked[name] for name in plain} == plain
    checks = [name for name, _ in TASK.checks]
    assert set(looked) - set(plain) == {f"{name}/{check}/output" for name in ("light", "ssim") for check in checks}


def test_the_reward_rises_and_the_anchor_holds_it_back(tmp_path: Path, crops: list[Bytes]) -> None:
    plain, loose, tight = (
        train(tmp_path / name, crops, guidance, steps=30)
        for name, guidance in (
            ("plain", guided(lambda images, step: images.new_zeros(len(images)))),
            ("loose", guided(fidelity=0.0)),
            ("tight", guided(fidelity=20.0)),
        )
    )
    assert figure(loose, "light") > figure(tight, "light") + 0.05 > figure(plain, "light")
    assert figure(loose, "psnr") < figure(tight, "psnr") - 1
    # The log has both parts, and the loss is what they make.
    for name, fidelity in (("loose", 0.0), ("tight", 20.0)):
        for row in rows_of(tmp_path / name):
            if "reward" in row:
                assert row["loss"] == pytest.approx(fidelity * row["fidelity"] + 1 - row["reward"], abs=1e-6)
    assert rows_of(tmp_path / "loose")[-1]["step"] == 30


def test_the_reward_sees_the_whole_answers_and_the_number_of_the_step(tmp_path: Path, crops: list[Bytes]) -> None:
    seen: list[tuple[int, tuple[int, ...], torch.dtype, bool]] = []

    def reward(images: Tensor, step: int) -> Tensor:
        seen.append((step, tuple(images.shape), images.dtype, images.requires_grad))
        return brightness(images, step)

    train(tmp_path, crops, guided(reward), steps=3, bf16=True)
    assert seen == [(step, (2, 3, 16, 16), torch.float32, True) for step in range(3)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"weight": 0.0}, "the reward's weight must be positive"),
        ({"weight": math.nan}, "the reward's weight must be positive"),
        ({"fidelity": -1.0}, "fidelity must be at least 0"),
        ({"guard": Guard("dark")}, "the guard goes by 'dark': expected one of psnr, ssim, light"),
    ],
)
def test_guidance_out_of_range(changed: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        guided(**changed)


# ---- going on


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("guard", [None, Guard("light", psnr_loss=100.0)])
def test_killed_and_resumed_ends_as_unbroken(tmp_path: Path, crops: list[Bytes], guard: Guard | None) -> None:
    guidance = guided(brightness_somewhere, guard=guard, fidelity=0.5)

    def die(line: str) -> None:
        if line.startswith("step 5/"):
            raise Killed

    unbroken = train(tmp_path / "unbroken", crops, guidance)
    with pytest.raises(Killed):
        train(tmp_path / "broken", crops, guidance, say=die)
    assert torch.load(tmp_path / "broken/last.pt", weights_only=True)["step"] == 4
    assert train(tmp_path / "broken", crops, guidance) == unbroken
    files = [tmp_path / run / "final.safetensors" for run in ("unbroken", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
    logs = [[{**row, "seconds": 0} for row in rows_of(tmp_path / run)] for run in ("unbroken", "broken")]
    assert logs[0] == logs[1], "each step is in the log once, with the same figures"
    # A finished run that is started again has nothing to do, and says the same.
    said: list[str] = []
    assert train(tmp_path / "broken", crops, guidance, say=said.append) == unbroken and said == []
    assert files[0].read_bytes() == files[1].read_bytes()
    # Had the reward begun its count again, another column would have been seen.
    train(tmp_path / "other", crops, guided(lambda images, step: brightness_somewhere(images, step % 4), guard=guard,
                                            fidelity=0.5))  # fmt: skip
    assert (tmp_path / "other/final.safetensors").read_bytes() != files[0].read_bytes()


def test_a_run_goes_on_with_the_same_guidance_only(tmp_path: Path, crops: list[Bytes]) -> None:
    about = {"critic": "light 1", "views": 2}
    train(tmp_path, crops, guided(guard=Guard("light"), about=about), steps=2)
    for guidance, changed, expected in (
        (None, {}, "reward_weight was 1.0, is None"),
        (guided(weight=2.0, guard=Guard("light"), about=about), {}, "reward_weight was 1.0, is 2.0"),
        (guided(fidelity=0.0, guard=Guard("light"), about=about), {}, "fidelity was 1.0, is 0.0"),
        (guided(guard=Guard("light"), about={**about, "views": 3}), {}, "views was 2, is 3"),
        (guided(guard=Guard("light", patience=2), about=about), {}, "guard was"),
        (guided(guard=Guard("light"), about=about), {"validate_every": 1}, "chosen_on was"),
    ):
        with pytest.raises(UsageError, match=expected):
            train(tmp_path, crops, guidance, steps=2, **changed)
    train(tmp_path, crops, guided(guard=Guard("light"), about=about), steps=2, log_every=2)


# ---- the guard


def test_the_best_weights_by_the_judge_are_kept_and_patience_ends_the_run(tmp_path: Path, crops: list[Bytes]) -> None:
    # The reward darkens, the judge wants light: every step is worse than the start.
    guidance = guided(lambda images, step: 1 - brightness(images, step), guard=Guard("light", patience=2), fidelity=0.0)
    begun = build_net("compact", 1, SIZES, 0).state_dict()
    result = train(tmp_path, crops, guidance, steps=20)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows if "light/clean/output" in row] == [0, 2, 4], (
        "two measurements without a better"
    )
    assert rows[-1]["best"] == 0 and rows[-1]["light/clean/output"] < result["light/clean/output"]
    final = load_file(tmp_path / "final.safetensors")
    assert all(torch.equal(final[name], begun[name]) for name in begun), "the start was the best"
    assert json.loads(read_metadata(tmp_path / "final.safetensors")["guidance"])["kept_step"] == 0
    said: list[str] = []
    assert train(tmp_path, crops, guidance, steps=20, say=said.append) == result and said == []


def test_weights_that_lose_too_much_psnr_are_not_kept(tmp_path: Path, crops: list[Bytes]) -> None:
    results = {
        loss: train(tmp_path / str(loss), crops, guided(fidelity=0.0, guard=Guard("light", psnr_loss=loss)), steps=20)
        for loss in (1.0, 100.0)
    }
    first = rows_of(tmp_path / "1.0")[0]
    kept = [json.loads(read_metadata(tmp_path / str(loss) / "final.safetensors")["guidance"]) for loss in results]
    assert kept[0]["kept_step"] < kept[1]["kept_step"]
    assert (
        figure(first, "psnr") - figure(results[1.0], "psnr")
        <= 1
        < figure(first, "psnr") - figure(results[100.0], "psnr")
    )
    # What is said of the file is what its weights do.
    net = build_net("compact", 1, SIZES)
    for loss, result in results.items():
        net.load_state_dict(load_file(tmp_path / str(loss) / "final.safetensors"))
        assert figures(net.eval(), checks(TASK, crops[2:], 32, 8), {"light": light}) == pytest.approx(result)


def test_preferable() -> None:
    def of(judge: float, psnr: float) -> dict[str, float]:
        # The mean of two checks; what goes in is not looked at.
        return {
            "a/b/c/output": judge - 1, "a/b/d/output": judge + 1, "b/c/output": 99.0,
            "psnr/c/output": psnr - 2, "psnr/d/output": psnr + 2, "psnr/c/input": 7.0,
        }  # fmt: skip

    guard, first = Guard("a/b", psnr_loss=0.3), of(3.0, 30.0)
    assert preferable(of(3.1, 29.8), of(3.05, 31.0), first, guard)
    assert not preferable(of(3.1, 29.6), of(3.05, 29.8), first, guard), "too far from the originals"
    assert not preferable(of(3.1, 30.0), of(3.1, 30.0), first, guard), "equal is not better"
    assert not preferable(of(math.nan, 30.0), of(3.0, 30.0), first, guard)
    lower = Guard("a/b", lower_better=True)
    assert preferable(of(2.9, 30.0), first, first, lower) and not preferable(of(3.1, 30.0), first, first, lower)
    assert preferable(of(3.0, 30.1), first, first, Guard("psnr"))


def test_a_keeper_holds_a_copy_and_counts() -> None:
    net, keeper = build_net("compact", 1, SIZES), Keeper(Guard("psnr", patience=2))
    begun = {name: value.clone() for name, value in net.state_dict().items()}
    keeper.look(0, {"psnr/a/output": 30.0}, net)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(1)
    keeper.look(5, {"psnr/a/output": 29.0}, net)
    assert keeper.best.step == 0 and keeper.stale == 1 and not keeper.stopped
    assert all(torch.equal(keeper.best.weights[name], begun[name]) for name in begun)
    other = Keeper(keeper.guard)
    other.resume(keeper.state())
    other.look(10, {"psnr/a/output": 29.5}, net)
    assert other.stopped and other.best.step == 0
    keeper.look(10, {"psnr/a/output": 30.5}, net)
    assert keeper.best.step == 10 and keeper.stale == 0
    for changed, expected in (({"psnr_loss": -1.0}, "psnr_loss must be"), ({"patience": 0}, "patience must be")):
        with pytest.raises(UsageError, match=expected):
            Guard("psnr", **changed)


@pytest.mark.parametrize("net", [name for name in NETS if name != "compact"])
def test_every_net_learns_from_a_reward(tmp_path: Path, crops: list[Bytes], net: str) -> None:
    small: dict[str, Any] = {"width": 8} | ({"layers": 8} if net == "dncnn" else {})
    if net.startswith("nafnet"):
        small |= {"encoders": (1, 1), "middle": 1, "decoders": (1, 1)}
    found = [
        train_restorer(TASK, net, crops[:2], crops[2:], settings(steps=4), tmp_path / str(weight), sizes=small,
                       guidance=guided(weight=weight, guard=Guard("light", psnr_loss=100.0)))
        for weight in (1e-6, 10.0)
    ]  # fmt: skip
    assert figure(found[1], "light") > figure(found[0], "light")
