"""The training of restoration nets: damage, nets, the seeded stream, exact resume, and the file at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from iqloop.distort import standard
from iqloop.distort.image import to_float
from iqloop.errors import ToolError, UsageError
from iqloop.restorers import load_tool
from iqloop.restorers.full_reference import psnr
from iqloop.restorers.nafnet import ChannelNorm
from iqloop.restorers.spandrel_tool import read_metadata
from iqloop.restorers.training import damage
from iqloop.restorers.training.export import export
from iqloop.restorers.training.learner import Learner, distance, rate_at
from iqloop.restorers.training.nets import NETS, build_net, fold, load_weights, multiple_of
from iqloop.restorers.training.stream import Batch, Patches, load_photographs, pair, side_of, stream, to_tensor
from iqloop.restorers.training.tasks import TASKS, Task, task_named
from iqloop.restorers.training.train import MIDDLE, RestorerSettings, fingerprint, train_restorer
from iqloop.restorers.training.validation import Check, checks, figures, strip

Bytes = NDArray[np.uint8]
SAME_SIZE = [name for name, task in TASKS.items() if task.scale == 1]
SMALL: dict[str, dict[str, Any]] = {
    "nafnet": {"width": 8, "encoders": (1, 1), "middle": 1, "decoders": (1, 1)},
    "nafnet-local": {"width": 8, "encoders": (1, 1), "middle": 1, "decoders": (1, 1)},
    "compact": {"width": 8, "convs": 2},
    "span": {"width": 8},
    "dncnn": {"width": 8, "layers": 8},
}
PAIRS = [(net, scale) for net, kind in NETS.items() for scale in kind.scales]


@pytest.fixture(scope="session")
def crops(photograph: Callable[..., Bytes]) -> list[Bytes]:
    """Three clean photographs of 64 pixels."""
    return [photograph(name, 64, 40, 120) for name in ("astronaut", "coffee", "chelsea")]


@pytest.fixture(params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def awake(net: nn.Module) -> nn.Module:
    """Random weights everywhere: a net that begins as the identity would hide what its layers do."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(torch.randn(value.shape, generator=draw) * 0.05)
    return fold(net)


def settings(**changed: Any) -> RestorerSettings:
    small = {"batch": 2, "patch": 16, "log_every": 1, "save_every": 2, "validate_every": 3, "validate_side": 32}
    return RestorerSettings(**{"steps": 6, "warmup": 0.2, **small, **changed})


def rows_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


# ---- damage


def test_degrade_is_a_function_of_its_generator(task: Task, crops: list[Bytes]) -> None:
    for seed in range(12):
        kept = crops[0].copy()
        first = task.degrade(crops[0], generator(seed))
        assert first.dtype == np.uint8 and first.shape == (64 // task.scale, 64 // task.scale, 3)
        np.testing.assert_array_equal(first, task.degrade(crops[0], generator(seed)))
        np.testing.assert_array_equal(crops[0], kept, "the clean image is left as it is")
    draws = {task.degrade(crops[0], generator(seed)).tobytes() for seed in range(12)}
    assert len(draws) > 1


@pytest.mark.parametrize("name", SAME_SIZE)
def test_degrade_leaves_a_share_clean_and_damages_the_rest(name: str, crops: list[Bytes]) -> None:
    small = crops[0][:16, :16]
    same = [np.array_equal(TASKS[name].degrade(small, generator(seed)), small) for seed in range(500)]
    share = damage.CLEAN_SHARE
    assert 0.5 * share < np.mean(same) < 3 * share


@pytest.mark.parametrize("kinds", [damage.NOISES, damage.BLURS, damage.DARKENINGS])
def test_every_kind_changes_the_image_and_gives_numbers(kinds: Any, crops: list[Bytes]) -> None:
    assert sum(share for share, _ in kinds) == pytest.approx(1)
    x = to_float(crops[1])
    for _, kind in kinds:
        # Draws near nothing are allowed; of several one is strong.
        results = [kind(x, generator(seed)) for seed in range(4)]
        assert all(y.shape == x.shape and np.isfinite(y).all() for y in results)
        assert max(float(np.abs(np.clip(y, 0, 1) - x).mean()) for y in results) > 1 / 255


def test_every_check_but_clean_costs_quality(task: Task, photograph: Callable[..., Bytes]) -> None:
    photographs = [photograph("astronaut", side_of(task, MIDDLE)), photograph("coffee", side_of(task, MIDDLE) + 7)]
    for check in checks(task, photographs, 64 * task.scale, 2):
        assert [image.shape for image in check.given] == [(MIDDLE, MIDDLE, 3)] * 2
        before = check.before()
        assert before == 60 if check.name == "clean" else before < 40, check.name


def test_the_named_checks_are_what_they_say(crops: list[Bytes]) -> None:
    import cv2

    clean, rng = crops[0], generator()
    named = {name: degrade for task in TASKS.values() for name, degrade in task.checks}
    assert set(named) == {
        *("sigma-25", "sigma-50", "camera", "quality-10", "quality-40", "sigma-2", "gamma-2.2", "clean", "bicubic")
    }  # fmt: skip
    np.testing.assert_array_equal(named["sigma-2"](clean, rng), cv2.GaussianBlur(clean, (0, 0), 2))
    bicubic = Image.fromarray(clean).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(named["bicubic"](clean, rng), np.asarray(bicubic))
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert named["sigma-25"](grey, rng).std() == pytest.approx(25, rel=0.05)
    assert 34 < psnr(named["camera"](grey, rng), grey) < 38
    assert named["gamma-2.2"](grey, rng)[0, 0, 0] == round(255 * (128 / 255) ** 2.2)
    assert psnr(named["quality-10"](clean, rng), clean) < psnr(named["quality-40"](clean, rng), clean)


def test_jpeg_off_its_grid(crops: list[Bytes]) -> None:
    on, off = damage.jpeg(crops[0], 10), damage.jpeg(crops[0], 10, 3, 5)
    assert off.shape == on.shape and not np.array_equal(on, off)
    # Blocks end in columns 8, 16, ... and, with five columns cropped off, in columns 3, 11, ...

    def edges(image: Bytes, first: int) -> float:
        steps = np.abs(np.diff(image.astype(float), axis=1)).mean((0, 2))
        return float(steps[first - 1 :: 8].mean() / steps.mean())

    assert edges(on, 8) > 1.3 > edges(off, 8) and edges(off, 3) > 1.3 > edges(on, 3)


def test_motion_blur_keeps_the_light_and_a_length_of_one_is_none(crops: list[Bytes]) -> None:
    x = to_float(crops[0])
    np.testing.assert_allclose(damage.linear_motion(x, 1, 0.7), x, atol=1e-6)
    point = np.zeros((33, 33, 3), np.float32)
    point[16, 16] = 1
    trail = damage.linear_motion(point, 9, 0)
    assert trail.sum() == pytest.approx(3, rel=1e-5) and (trail[16, :, 0] > 1e-3).sum() in (9, 10, 11)
    assert abs(trail[:15]).max() < 1e-6 and np.allclose(trail, trail[:, ::-1], atol=1e-6)


def test_camera_noise_keeps_the_scene_and_follows_the_light(photograph: Callable[..., Bytes]) -> None:
    x = to_float(photograph("coffee", 65, 40, 120))
    assert abs(damage.camera_noise(x, generator(), 1e-12, 0.0) - x).max() < 1e-3
    noise = damage.camera_noise(x, generator(), 2e-3, damage.read_noise(2e-3)) - x
    # Interpolated from the pixels around: neighbours share it.
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] > 0.4
    # Photons: a red scene is noisy in red, wherever the pattern begins.
    for seed in range(8):
        red = np.zeros((33, 34, 3), np.float32) + np.array([0.7, 0.0, 0.0], np.float32)
        spread = (damage.camera_noise(red, generator(seed), 2e-3, 0.0) - red).std(axis=(0, 1))
        assert spread[0] > 3 * max(spread[1], spread[2]), spread


# ---- nets


@pytest.mark.parametrize(("name", "scale"), PAIRS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_nets_come_back_as_tools(tmp_path: Path, name: str, scale: int, precision: Any) -> None:
    net = awake(build_net(name, scale, SMALL[name]))
    tool = load_tool(export(net, tmp_path / "net.safetensors", {"net": name}, precision))
    assert tool.info.scale == scale
    x = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = net.eval()(x), tool.descriptor.model(x)
    assert ours.shape == (1, 3, 20 * scale, 28 * scale) and float(ours.std()) > 0.05
    # Half precision rounds weights to one part in 2,000; float32 differs by the order of a sum.
    assert float((ours - theirs).abs().max()) < (0.01 if precision == "float16" else 1e-5) * max(
        1, float(ours.abs().max())
    )


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, scale in PAIRS if name != "span"])
def test_nets_begin_as_the_identity(name: str, scale: int) -> None:
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            build_net(name, scale, SMALL[name])(x), x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        )


@pytest.mark.parametrize("name", NETS)
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a, b, c = (list(build_net(name, 1, SMALL[name], seed).parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a, c, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_norm_in_training_is_nafnets() -> None:
    from spandrel.architectures.NAFNet.__arch.arch_util import LayerNorm2d

    theirs: Any = LayerNorm2d(6)
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2)
        theirs.bias.uniform_(-1, 1)
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(ChannelNorm(theirs)(x), theirs(x))


def test_the_local_nafnet_is_a_published_one_that_does_not_pool(tmp_path: Path) -> None:
    from spandrel import ModelLoader

    net = awake(build_net("nafnet-local", 1, SMALL["nafnet-local"])).eval()
    published: Any = ModelLoader().load_from_state_dict(net.state_dict())
    x = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(published.model(x), net(x), rtol=1e-4, atol=1e-5)
        # What is far away changes nothing; it does in the net that pools.
        other = x.clone()
        other[..., 40:] = 0
        pooled = awake(build_net("nafnet", 1, SMALL["nafnet"])).eval()
        near, far = (..., slice(0, 8)), (net(x) - net(other))
        assert float(far[near].abs().max()) == 0 < float((pooled(x) - pooled(other))[near].abs().max())
    file = export(pooled, tmp_path / "pooled.safetensors", {})
    with pytest.raises(UsageError, match="pools over the whole image"):
        load_weights(build_net("nafnet-local", 1, SMALL["nafnet-local"]), file)


def test_span_trains_what_it_folds(crops: list[Bytes]) -> None:
    net = awake(build_net("span", 1, SMALL["span"]))
    x = to_tensor(crops[:1]).float() / 255
    with torch.no_grad():
        training, folded = net.train()(x), net.eval()(x)
    # The chains see biases beyond the border and the folded convolution does not: the middle is equal.
    torch.testing.assert_close(training[..., 24:-24, 24:-24], folded[..., 24:-24, 24:-24], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "scale", "sizes", "expected"),
    [
        ("unet", 1, {}, "unknown net 'unet': expected one of nafnet"),
        ("nafnet", 2, {}, "nafnet has no scale 2: expected one of compact, span"),
        ("compact", 3, {}, "compact has no scale 3"),
        ("compact", 1, {"depth": 3}, "compact has no size 'depth': expected width, convs"),
        ("compact", 1, {"width": 0}, "expected positive numbers"),
        ("compact", 1, {"width": (1, 2)}, "expected one number"),
        ("nafnet", 1, {"encoders": (1, 1)}, "as many decoders as encoders"),
        ("nafnet", 1, {"encoders": ()}, "expected positive numbers"),
        ("dncnn", 1, {"layers": 7}, "at least 8 layers"),
    ],
)
def test_nets_that_cannot_be_built(name: str, scale: int, sizes: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        build_net(name, scale, sizes)


def test_patches_that_a_net_does_not_pad() -> None:
    assert multiple_of("nafnet") == 8 and multiple_of("nafnet", {"encoders": 1}) == 2 and multiple_of("compact") == 1


# ---- stream


def test_a_batch_is_a_function_of_seed_and_step(task: Task, photograph: Callable[..., Bytes]) -> None:
    photographs = [photograph("astronaut", side_of(task, 16) + 20, 10, 10)]
    patches = Patches(task, photographs, 16, 3, steps=4, seed=1)
    batch = patches.batch(2)
    assert batch.given.shape == (3, 3, 16, 16) and batch.target.shape == (3, 3, 16 * task.scale, 16 * task.scale)
    assert batch.given.dtype == batch.target.dtype == torch.uint8
    again = next(iter(Patches(task, photographs, 16, 3, steps=4, seed=1, start=2)))
    assert all(torch.equal(x, y) for x, y in zip(batch, again, strict=True))
    others = [patches.batch(3), Patches(task, photographs, 16, 3, steps=4, seed=2).batch(2)]
    assert not any(torch.equal(batch.given, other.given) for other in others)


def test_workers_change_nothing(crops: list[Bytes]) -> None:
    patches = Patches(TASKS["denoise"], crops, 16, 2, steps=4, seed=0, start=1)
    here, there = list(stream(patches, 0)), list(stream(patches, 2))
    assert len(here) == len(there) == 3
    assert all(
        torch.equal(a.given, b.given) and torch.equal(a.target, b.target) for a, b in zip(here, there, strict=True)
    )


def test_a_patch_has_no_border_of_its_own(photograph: Callable[..., Bytes]) -> None:
    blur = replace(TASKS["deblur"], degrade=lambda image, rng: standard.gaussian_blur(image, rng, 3.0))
    clean = photograph("coffee", 200)
    for seed in range(3):
        given, target = pair(clean, blur, 24, generator(seed))
        assert given.shape == target.shape == (24, 24, 3)
        # The same blur of the patch alone is wrong at its border.
        alone = standard.gaussian_blur(target, generator(), 3.0)
        assert np.abs(given[8:-8, 8:-8].astype(int) - alone[8:-8, 8:-8]).max() <= 8
        assert np.abs(given.astype(int) - alone).max() > 2


def test_photographs_of_a_folder(tmp_path: Path, crops: list[Bytes]) -> None:
    with pytest.raises(UsageError, match="is missing: expected clean photographs"):
        load_photographs([tmp_path / "none"], 16)
    with pytest.raises(UsageError, match="found none"):
        load_photographs([tmp_path], 16)
    Image.fromarray(crops[0]).save(tmp_path / "10.png")
    Image.fromarray(crops[1][:40]).save(tmp_path / "2.png")
    (tmp_path / "notes.txt").write_text("not an image")
    photographs, small = load_photographs([tmp_path], 48)
    assert len(photographs) == 1 and small == [tmp_path / "2.png"]
    np.testing.assert_array_equal(photographs[0], crops[0])
    with pytest.raises(UsageError, match="no photograph has the 100 pixels"):
        load_photographs([tmp_path], 100)


# ---- the loop


def test_rate_and_loss() -> None:
    rates = [rate_at(step, 100, 0.1) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == 1 and rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0.009 < rates[-1] < 0.02
    a, b = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    assert float(distance(a, b, "l1")) == 0.5 and float(distance(a, b, "charbonnier")) == pytest.approx(0.5, abs=1e-5)
    assert float(distance(a, a, "charbonnier")) == pytest.approx(1e-3)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_few_steps_on_one_image_lower_the_loss(name: str, bf16: bool, crops: list[Bytes]) -> None:
    clean = crops[0][:32, :32]
    noisy = standard.gaussian_noise(clean, generator(), 40)
    batch = Batch(to_tensor([noisy]), to_tensor([clean]))
    learner = Learner(build_net(name, 1, SMALL[name]), 0.0, torch.device("cpu"), channels_last=True)
    losses = [float(learner.step(batch, 3e-3, "charbonnier", bf16, 0.5, 0.5)[0]) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    # The average follows, and only by what is trained.
    found = Check("one", (noisy,), (clean,))
    measured = figures(learner.average, [found])
    assert measured["psnr/one/output"] > measured["psnr/one/input"] - 6
    assert strip(learner.average, [found]).shape == (32, 96, 3)


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(("name", "net"), [("denoise", "nafnet"), ("upscale-x2", "span")])
def test_killed_and_resumed_ends_as_unbroken(tmp_path: Path, name: str, net: str, photograph: Any) -> None:
    task, photographs = TASKS[name], [photograph("coffee", 100), photograph("astronaut", 100)]

    def train(folder: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, float]:
        return train_restorer(task, net, photographs, photographs[:1], settings(), folder, say, sizes=SMALL[net])

    def die(line: str) -> None:
        if line.startswith("step 5/"):
            raise Killed

    unbroken = train(tmp_path / "unbroken")
    with pytest.raises(Killed):
        train(tmp_path / "broken", die)
    assert torch.load(tmp_path / "broken/last.pt", weights_only=True)["step"] == 4
    assert not (tmp_path / "broken/final.safetensors").exists()
    assert train(tmp_path / "broken") == unbroken
    files = [tmp_path / run / "final.safetensors" for run in ("unbroken", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
    logs = [rows_of(tmp_path / run / "log.jsonl") for run in ("unbroken", "broken")]
    for rows in logs:
        for row in rows:
            row.pop("seconds", None)
    assert logs[0] == logs[1], "each step is in the log once, with the same figures"
    # A finished run that is started again has nothing to do, and says the same.
    said: list[str] = []
    assert train(tmp_path / "broken", said.append) == unbroken and said == []
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_a_run_leaves(tmp_path: Path, crops: list[Bytes]) -> None:
    said: list[str] = []
    data = str(tmp_path / "home" / "pictures")
    result = train_restorer(
        TASKS["denoise"], "compact", crops, crops, settings(steps=3), tmp_path / "run", said.append,
        sizes=SMALL["compact"], data=data, precision="float32",
    )  # fmt: skip
    assert set(result) == {
        f"psnr/{check}/{end}" for check in ("sigma-25", "sigma-50", "camera", "clean") for end in ("input", "output")
    }
    names = {"settings.json", "log.jsonl", "runs", "validation.png", "last.pt", "final.safetensors"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    assert list((tmp_path / "run/runs").glob("events*"))
    with Image.open(tmp_path / "run/validation.png") as picture:
        assert picture.size == (3 * 32, 4 * 32)
    rows = rows_of(tmp_path / "run/log.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 3] and len(said) == 4
    assert rows[-1] == {"step": 3, **result} and {"loss", "gradient", "rate", "seconds"} < set(rows[0])
    file = tmp_path / "run/final.safetensors"
    metadata = read_metadata(file)
    assert metadata["task"] == "denoise" and metadata["net"] == "compact" and metadata["steps"] == "3"
    assert metadata["radius"] == "4" and metadata["treats"] == "noise" and metadata["licence"] == "unknown"
    assert metadata["data"] == "pictures" and metadata["seed"] == "0"
    assert json.loads(metadata["sizes"]) == SMALL["compact"]
    for text in (json.dumps(metadata), (tmp_path / "run/settings.json").read_text()):
        assert str(tmp_path) not in text and "/home" not in text
    # The exported file is the average that was measured, and it is a tool.
    tool = load_tool(file)
    x = to_tensor(crops[:1]).float() / 255
    assert tool.info.treats == ("noise",) and tool.restore(x).shape == x.shape
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    kept: dict[str, Tensor] = state["average"]
    torch.testing.assert_close(tool.descriptor.model.state_dict(), kept)


def test_a_folder_holds_one_run(tmp_path: Path, crops: list[Bytes]) -> None:
    def train(name: str = "denoise", net: str = "compact", photographs: list[Bytes] = crops, **changed: Any) -> None:
        sizes = SMALL[net]
        train_restorer(TASKS[name], net, photographs, crops, settings(**{"steps": 1, **changed}), tmp_path, sizes=sizes)

    train()
    train(save_every=7, validate_side=16)
    for changed, expected in (
        ({"name": "lowlight"}, "task was denoise, is lowlight"),
        ({"net": "dncnn"}, "net was compact, is dncnn"),
        ({"steps": 2}, "steps was 1, is 2"),
        ({"rate": 0.1}, "rate was 0.0005, is 0.1"),
        ({"photographs": crops[:1]}, "photographs was 3:"),
    ):
        with pytest.raises(UsageError, match=expected):
            train(**changed)
    (tmp_path / "last.pt").write_bytes(b"PK nonsense")
    with pytest.raises(UsageError, match=r"last\.pt: damaged"):
        train()
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(UsageError, match=r"settings\.json: cannot be read"):
        train()
    (tmp_path / "settings.json").unlink()
    with pytest.raises(UsageError, match="expected an empty folder"):
        train()


def test_weights_to_go_on_from(tmp_path: Path, crops: list[Bytes]) -> None:
    net = awake(build_net("compact", 1, SMALL["compact"]))
    file = export(net, tmp_path / "net.safetensors", {}, "float32")
    other = build_net("compact", 1, SMALL["compact"], seed=9)
    load_weights(other, file)
    torch.testing.assert_close(other.state_dict(), net.state_dict())
    for name, scale, sizes in (
        ("compact", 1, {"width": 12, "convs": 2}),
        ("compact", 2, SMALL["compact"]),
        ("dncnn", 1, {}),
    ):
        with pytest.raises(UsageError, match="does not fit"):
            load_weights(build_net(name, scale, sizes), file)
    with pytest.raises(ToolError, match="no such file"):
        load_weights(net, tmp_path / "none.safetensors")
    run = settings(steps=1, rate=1e-12)
    train_restorer(
        TASKS["denoise"], "compact", crops, crops, run, tmp_path / "run", sizes=SMALL["compact"], source=file
    )
    after = load_tool(tmp_path / "run/final.safetensors").descriptor.model
    torch.testing.assert_close(after.state_dict(), net.state_dict(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"patch": 8}, "patch must be at least 16"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"rate": float("nan")}, "rate must be positive"),
        ({"ema": 1.0}, "ema and warmup"),
        ({"loss": "l2"}, "unknown loss 'l2'"),
    ],
)
def test_settings_out_of_range(changed: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        RestorerSettings(**changed)


def test_what_does_not_fit_is_said_before_the_first_step(tmp_path: Path, crops: list[Bytes]) -> None:
    def train(name: str, net: str, photographs: list[Bytes], held_out: list[Bytes], **changed: Any) -> None:
        train_restorer(TASKS[name], net, photographs, held_out, settings(**changed), tmp_path / "run")

    for arguments, changed, expected in (
        (("denoise", "nafnet", crops, crops), {"patch": 20}, "patch must be a multiple of 8"),
        (("denoise", "compact", crops, crops), {"patch": 64}, "64 pixels on its short side; denoise needs 80"),
        (("denoise", "compact", [], crops), {}, "at least one photograph"),
        (("denoise", "compact", crops, [crops[0][:30]]), {}, "a held-out photograph has 30 pixels"),
        (("upscale-x4", "nafnet", crops, crops), {}, "nafnet has no scale 4|needs"),
    ):
        with pytest.raises(UsageError, match=expected):
            train(*arguments, **changed)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="unknown task 'dehaze': expected one of denoise"):
        task_named("dehaze")


def test_a_run_whose_loss_is_no_number_keeps_its_last_good_weights(
    tmp_path: Path, crops: list[Bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Learner.step

    def diverge(self: Learner, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, norm = step(self, *arguments)
        return (loss * float("nan") if (tmp_path / "last.pt").exists() else loss), norm

    monkeypatch.setattr(Learner, "step", diverge)
    run = settings(steps=6, log_every=50)
    with pytest.raises(UsageError, match="no number any more at step 3"):
        train_restorer(TASKS["denoise"], "compact", crops, crops, run, tmp_path, sizes=SMALL["compact"])
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 2


def test_data_is_known_by_its_pixels(crops: list[Bytes]) -> None:
    assert fingerprint(crops) == fingerprint([crop.copy() for crop in crops]) != fingerprint(crops[::-1])
    assert MIDDLE % multiple_of("nafnet") == 0
