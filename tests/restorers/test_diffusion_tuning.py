"""Adapters on tiny random pipelines: the loop is the pipeline's, both methods do what they say, runs go on exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iqloop.errors import UsageError
from iqloop.restorers.diffusers_tool import load_pipeline_tool
from iqloop.restorers.training.record import begin

from . import test_restorers_diffusers as tiny

diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
peft = pytest.importorskip("peft")

# ruff: noqa: E402
from iqloop.restorers.diffusion import held_out, lora, models, pairs, parts, preference, results, sampling, train, tune
from iqloop.restorers.diffusion.colours import with_colours_of
from iqloop.restorers.diffusion.draft import ORIGINAL, DraftSettings, RewardObjective
from iqloop.restorers.training.guard import Guard

CPU = torch.device("cpu")
SMALL = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(3)) * 2 - 1
GIVEN = {"image": SMALL}
SIZES = parts.Sizes(autoencoder=(8, 8), codes=32, denoiser=(8, 16), sample=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pipelines as diffusers saves them."""
    home = tmp_path_factory.mktemp("pipelines")
    coder = parts.build_autoencoder(SIZES)
    # Learned codes are spread as latents are; fresh ones are all nearly zero, and hide what was drawn.
    torch.nn.init.normal_(coder.quantize.embedding.weight)
    enlarger = train.pipeline_of(coder.eval(), parts.build_denoiser(SIZES).eval())
    enlarger.save_pretrained(home / "enlarger")
    torch.manual_seed(0)
    tiny.text_to_image(home / "text")
    tiny.refiner_xl(home / "text-xl")
    tiny.upscaler(home / "upscaler")
    return {path.name: path for path in home.iterdir()}


class Plain(models.SuperResolution):
    """Shows latents as they are: a random decoder has no bright and dark."""

    def decode(self, latents: Tensor, given: models.Given) -> Tensor:
        return torch.nn.functional.interpolate(latents / 4 + 0.5, scale_factor=2).clamp(0, 1)


def enlarger(folders: dict[str, Path], adapter: bool = True, plain: bool = False) -> models.SuperResolution:
    model = (Plain if plain else models.SuperResolution)(load_pipeline_tool(folders["enlarger"]).pipeline)
    if adapter:
        lora.attach(model.network, lora.LoraSettings(rank=4))
    return model


def shake(network: torch.nn.Module, by: float = 0.1) -> None:
    """Give an adapter weights that do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in lora.trained(network).values():
            value.add_(by * torch.randn(value.shape, generator=generator))


def drawn(model: Any, given: models.Given = GIVEN, **options: Any) -> sampling.Sample:
    noise = sampling.noise_of(model.shape(given), [5, 6], CPU)
    return sampling.sample(model, given, noise, 4, **options)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (5, 6)]


def test_the_loop_is_the_pipelines_for_super_resolution(folders: dict[str, Path]) -> None:
    model = enlarger(folders, adapter=False)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folders["enlarger"])
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(image=SMALL, num_inference_steps=4, generator=generators(), output_type="pt").images
    assert torch.equal(drawn(model).images, expected) and expected.std() > 0.01


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("name", ["text", "text-xl"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_loop_is_the_pipelines_for_text(folders: dict[str, Path], name: str, guidance: float) -> None:
    made = diffusers.DiffusionPipeline.load_config(folders[name])["_class_name"]
    loaded = load_pipeline_tool(folders[name]).pipeline
    model = models.model_of(loaded, made, guidance)
    assert isinstance(model, models.TextToImage)
    # Of the same parts: whether weights are frozen decides a last bit here and there.
    pipeline = getattr(diffusers, made)(**{**loaded.components, "scheduler": model.scheduler})
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["abc", "ed"]
    expected = pipeline(
        prompts, num_inference_steps=4, guidance_scale=guidance, generator=generators(), output_type="pt"
    ).images
    given = model.embed(prompts)
    names = {"prompt", "pooled"} if name == "text-xl" else {"prompt"}
    assert set(given) == names | ({f"no-{key}" for key in names} if guidance > 1 else set())
    images = drawn(model, given).images
    assert torch.equal(images, expected) and images.std() > 0.01
    assert model.size == images.shape[-1] == 64


def test_without_its_adapter_a_network_is_what_it_was(folders: dict[str, Path]) -> None:
    untouched = drawn(enlarger(folders, adapter=False)).images
    model = enlarger(folders)
    fresh = drawn(model, drift=True)
    assert torch.equal(fresh.images, untouched) and fresh.drift is not None and float(fresh.drift.max()) == 0
    shake(model.network)
    shaken = drawn(model, drift=True)
    assert not torch.equal(shaken.images, untouched) and shaken.drift is not None and float(shaken.drift.min()) > 0
    with lora.without(model.network):
        assert torch.equal(drawn(model, drift=True).images, untouched)  # which looks without it, too
    assert torch.equal(drawn(model).images, shaken.images)
    assert all(value.requires_grad for value in lora.trained(model.network).values())


def test_the_seed_decides_the_adapter_and_leaves_the_global_one_alone(folders: dict[str, Path]) -> None:
    states, before = [], torch.get_rng_state()
    for seed in (0, 0, 1):
        model = enlarger(folders, adapter=False)
        lora.attach(model.network, lora.LoraSettings(), seed)
        states.append(lora.state_of(model.network))
    same, other = ([torch.equal(states[0][name], state[name]) for name in states[0]] for state in states[1:])
    assert all(same) and not all(other) and torch.equal(torch.get_rng_state(), before)


def test_which_layers_get_an_adapter(folders: dict[str, Path]) -> None:
    convolutional = lora.targets_of(enlarger(folders, adapter=False).network)
    assert "down_blocks.0.resnets.0.conv1" in convolutional and "conv_in" not in convolutional
    attention = lora.targets_of(tiny.unet())
    assert attention and all(name.endswith(lora.PROJECTIONS) for name in attention)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, num_layers=1, sample_size=4, norm_num_groups=4
    )
    assert len(lora.attach(transformer, lora.LoraSettings(rank=2))) == 4
    network = tiny.unet()
    assert len(lora.attach(network, lora.LoraSettings(targets=("to_q",)))) == sum("to_q" in name for name in attention)
    with pytest.raises(UsageError, match="has an adapter"):
        lora.attach(network, lora.LoraSettings())
    with pytest.raises(UsageError, match=r"no layer is called nothing: expected ends of names such as down_blocks"):
        lora.attach(tiny.unet(), lora.LoraSettings(targets=("nothing",)))
    with pytest.raises(UsageError, match="no attention and no blocks"):
        lora.targets_of(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def gradient(value: Tensor) -> Tensor:
    assert value.grad is not None
    return value.grad.clone()


def test_gradients_of_the_last_steps(folders: dict[str, Path]) -> None:
    model = enlarger(folders)
    shake(model.network)
    found = []
    for options in ({"gradient_steps": 1}, {"gradient_steps": 2}, {"gradient_steps": 2, "checkpointing": True}):
        result = drawn(model, GIVEN, drift=True, **options)
        assert result.drift is not None
        (result.images.square().mean() + result.drift.mean()).backward()
        found.append({name: gradient(value) for name, value in lora.trained(model.network).items()})
        model.network.zero_grad()
        assert torch.equal(result.images, drawn(model).images)
    assert not drawn(model, drift=True).images.requires_grad
    one, two, recomputed = found
    assert all(torch.equal(two[name], recomputed[name]) for name in two)
    assert any(not torch.equal(one[name], two[name]) for name in one)
    others = [value for name, value in model.network.named_parameters() if ".lora_" not in name]
    assert others and all(value.grad is None for value in others)


def test_the_gradient_is_that_of_finite_differences(folders: dict[str, Path]) -> None:
    """Of all steps, before the decoder, whose code book has steps that no gradient sees."""
    model = enlarger(folders)
    shake(model.network)
    model.network.double()
    given, noise = {"image": SMALL.double()}, sampling.noise_of(model.shape(GIVEN), [5, 6], CPU).double()
    value = next(value for name, value in lora.trained(model.network).items() if "lora_B" in name)

    def total() -> Tensor:
        # float64 all the way: the model's own answer is rounded to float32.
        latents = noise
        model.scheduler.set_timesteps(2)
        for time in model.scheduler.timesteps:
            answer = model.network(torch.cat([latents, given["image"]], dim=1), time).sample
            latents = model.scheduler.step(answer, time, latents).prev_sample
        return latents.square().mean()

    (exact,) = torch.autograd.grad(total(), value)
    place = int(exact.abs().argmax())
    with torch.no_grad():
        value.view(-1)[place] += 1e-5
        high = total()
        value.view(-1)[place] -= 2e-5
        low = total()
    assert math.isclose(float(exact.view(-1)[place]), (high - low).item() / 2e-5, rel_tol=1e-4)


def test_colours_that_are_kept(folders: dict[str, Path]) -> None:
    pipeline = load_pipeline_tool(folders["enlarger"]).pipeline
    own, kept = (drawn(models.SuperResolution(pipeline, keep_colours=keep)).images for keep in (False, True))
    expected = torch.stack([with_colours_of(image, small / 2 + 0.5) for image, small in zip(own, SMALL, strict=True)])
    assert torch.equal(kept, expected) and not torch.equal(kept, own)
    with pytest.raises(UsageError, match="no input whose colours could be kept"):
        models.model_of(pipeline, "StableDiffusionPipeline", keep_colours=True)


def test_schedules_and_pipelines_that_are_not_trained(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="flow matching is not trained"):
        models.ddim(diffusers.FlowMatchEulerDiscreteScheduler())
    pipeline = load_pipeline_tool(folders["upscaler"]).pipeline
    with pytest.raises(UsageError, match="StableDiffusionUpscalePipeline cannot be trained here"):
        models.model_of(pipeline, "StableDiffusionUpscalePipeline")
    with pytest.raises(UsageError, match="leave guidance and size out"):
        models.model_of(pipeline, "LDMSuperResolutionPipeline", guidance=2.0)
    with pytest.raises(UsageError, match="size must be a multiple of 8 pixels"):
        models.TextToImage(load_pipeline_tool(folders["text"]).pipeline, size=60)


@pytest.mark.parametrize("kind", models.PREDICTIONS)
def test_what_the_network_should_answer(kind: str) -> None:
    scheduler = diffusers.DDIMScheduler(prediction_type=kind)
    latents, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    times = torch.tensor([100, 900])
    noisy = scheduler.add_noise(latents, noise, times)
    target = models.target_of(scheduler, latents, noise, times)
    # Who answers so knows the image: DDIM's prediction of it is exact.
    scheduler.set_timesteps(1000)
    for i, time in enumerate(times):
        step = scheduler.step(target[i], int(time), noisy[i])
        assert torch.allclose(step.pred_original_sample, latents[i].clamp(-1, 1), atol=1e-4)


def test_the_preference_loss_by_hand() -> None:
    ours, before = torch.tensor([[0.10, 0.30], [0.25, 0.20]]), torch.tensor([[0.12, 0.30], [0.20, 0.26]])
    losses, margin = preference.preference_loss(ours, before, beta=10.0)
    # Winners gain 0.02 and 0, losers -0.05 and 0.06.
    assert torch.allclose(margin, torch.tensor([0.7, -0.6]))
    expected = [math.log(1 + math.exp(-0.7)), math.log(1 + math.exp(0.6))]
    assert torch.allclose(losses, torch.tensor(expected))
    equal, _ = preference.preference_loss(before, before, beta=10.0)
    assert torch.allclose(equal, torch.full((2,), math.log(2)))


def hand_made() -> pairs.Pairs:
    """Four inputs whose bright latents are better than their dark ones."""
    bright = torch.full((4, 3, 8, 8), 0.8)
    return pairs.Pairs(bright, -bright, {"image": torch.zeros(4, 3, 8, 8)}, (1.0,) * 4, 4)


def run(
    objective: tune.Objective, model: Any, folder: Path, steps: int = 12, sign: int = 1, **options: Any
) -> tune.Tuned:
    """Train with a judge of brightness (darkness with a ``sign`` of -1) that never stops the run."""
    begin(folder, {})
    settings = {"rate": 1e-2, "batch": 2, "at_once": 2, "warmup": 2, "measure_every": steps, **options}
    test = held_out.HeldOut(({"image": SMALL[:1]},))
    judges = {"bright": lambda image: sign * float(image.mean())}
    return tune.tune(
        model.network,
        objective,
        lambda: held_out.measure(model, test, judges, 2),
        tune.TuneSettings(steps=steps, **settings),
        Guard("bright", patience=100),
        folder,
    )


def test_preferences_move_the_network_towards_the_winner(folders: dict[str, Path], tmp_path: Path) -> None:
    model = enlarger(folders, plain=True)
    objective = preference.PreferenceObjective(model, hand_made(), batch=4, beta=50.0, seed=0)
    loss, before = objective(0, range(4))
    assert float(before["margin"]) == 0 and math.isclose(loss.item(), math.log(2), rel_tol=1e-6)
    whole = objective(3, range(4))[1]
    halves = [objective(3, rows)[1] for rows in (range(2), range(2, 4))]
    assert all(math.isclose(whole[name], sum(half[name] for half in halves) / 2, abs_tol=1e-6) for name in whole)
    dark = float(drawn(model).latents.mean())
    run(objective, model, tmp_path / "run", batch=4, at_once=4)
    _, after = objective(0, range(4))
    assert float(after["accuracy"]) == 1 and float(after["margin"]) > 0.5
    assert float(after["winner"]) < 0 < float(after["loser"]) and float(after["drift"]) > 0
    assert float(drawn(model).latents.mean()) > dark + 0.02
    with pytest.raises(UsageError, match="beta must be positive"):
        preference.PreferenceObjective(model, hand_made(), 4, 0.0, 0)


def brighten(
    model: Any, folder: Path, reward: Callable[[Tensor], Tensor], steps: int = 12, **options: Any
) -> tuple[float, float]:
    """Brightness and drift after a run with a reward."""
    chosen = {"kl": 0.0, "fidelity": 0.0, "sample_steps": 3, "gradient_steps": 2, **options}
    settings = DraftSettings(**chosen)
    objective = RewardObjective(model, lambda step: GIVEN, lambda images, number: reward(images), settings, 0)
    run(objective, model, folder, steps)
    result = drawn(model, drift=True)
    assert result.drift is not None
    return float(result.images.mean()), float(result.drift.mean())


def brightness(images: Tensor) -> Tensor:
    return images.mean(dim=(1, 2, 3))


def test_a_reward_is_followed_to_its_cap_and_held_by_the_anchors(folders: dict[str, Path], tmp_path: Path) -> None:
    before = float(drawn(enlarger(folders, plain=True)).images.mean())
    free, drift = brighten(enlarger(folders, plain=True), tmp_path / "free", brightness)
    assert free > before + 0.02 and drift > 0
    cap = before + 0.2 * (free - before)
    capped, _ = brighten(
        enlarger(folders, plain=True), tmp_path / "cap", lambda images: brightness(images).clamp_max(cap)
    )
    assert before < capped < before + 0.7 * (free - before)
    near, less = brighten(enlarger(folders, plain=True), tmp_path / "kl", brightness, kl=3.0)
    assert less < 0.5 * drift and near < free
    dark = torch.full_like(SMALL, -0.9)
    model = enlarger(folders, plain=True)
    objective = RewardObjective(
        model,
        lambda step: {"image": dark},
        lambda images, number: 0 * brightness(images),
        DraftSettings(kl=0.0, fidelity=1.0, sample_steps=3, gradient_steps=2),
        0,
    )
    start = float(objective(0, range(2))[1]["inconsistency"])
    run(objective, model, tmp_path / "fidelity", sign=-1)
    assert float(objective(0, range(2))[1]["inconsistency"]) < start - 0.01


def test_the_original_anchors_where_it_is_known(folders: dict[str, Path], tmp_path: Path) -> None:
    model = enlarger(folders, plain=True)
    settings = DraftSettings(kl=0.0, fidelity=0.0, anchor=1.0, sample_steps=3, gradient_steps=2)
    original = (drawn(model).images + 0.1).clamp(0, 1)

    def none(images: Tensor, number: int) -> Tensor:
        return 0 * brightness(images)

    objective = RewardObjective(model, lambda step: {**GIVEN, ORIGINAL: original}, none, settings, 0)
    start = float(objective(0, range(2))[1]["distance"])
    run(objective, model, tmp_path / "run")
    assert float(objective(0, range(2))[1]["distance"]) < start - 0.01
    assert "distance" not in RewardObjective(model, lambda step: GIVEN, none, settings, 0)(0, range(2))[1]
    with pytest.raises(UsageError, match="anchor must not be negative"):
        DraftSettings(anchor=-1.0)


def test_parts_of_a_batch_are_told_apart(folders: dict[str, Path]) -> None:
    asked: list[int] = []

    def reward(images: Tensor, number: int) -> Tensor:
        asked.append(number)
        return brightness(images)

    objective = RewardObjective(enlarger(folders), lambda step: GIVEN, reward, DraftSettings(sample_steps=2), 0)
    whole = float(objective(1, range(2))[1]["reward"])
    parts_of = [float(objective(1, rows)[1]["reward"]) for rows in (range(1), range(1, 2))]
    assert math.isclose(whole, sum(parts_of) / 2, rel_tol=1e-5) and asked == [2, 2, 3]


def judged_run(
    model: Any, folder: Path, values: Sequence[tuple[float, float]], patience: int = 2, steps: int = 6
) -> tune.Tuned:
    """A run whose measurements, judge and PSNR, are these."""
    begin(folder, {})
    script = iter(values)
    settings = tune.TuneSettings(steps=steps, batch=4, measure_every=1, save_every=1, rate=1e-3)
    objective = preference.PreferenceObjective(model, hand_made(), batch=4, beta=50.0, seed=0)

    def look() -> held_out.Measured:
        judge, psnr = next(script)
        return {"judge": [judge], "psnr": [psnr], "drift": [0.0]}

    return tune.tune(model.network, objective, look, settings, Guard("judge", patience=patience), folder)


def test_the_best_by_the_judge_within_the_loss_allowed_is_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    model = enlarger(folders)
    # The third is best by the judge, and paid with more PSNR than may be lost; patience ends the run after the fourth.
    tuned = judged_run(model, tmp_path / "run", [(3.0, 30.0), (3.1, 29.9), (3.2, 29.75), (3.9, 29.6), (3.1, 30.0)])
    assert (tuned.best.step, tuned.steps, tuned.stopped) == (2, 4, "patience")
    assert tuned.first["judge"] == [3.0] and tuned.best.measured["psnr"] == [29.75]
    kept = lora.state_of(model.network)
    assert all(torch.equal(kept[name], value) for name, value in tuned.best.weights.items())
    # Started again, it knows that it has ended.
    again = judged_run(enlarger(folders), tmp_path / "run", [])
    assert (again.best.step, again.steps, again.stopped) == (2, 4, "patience")
    nothing = judged_run(enlarger(folders), tmp_path / "none", [(3.0, 30.0), (2.0, 30.0), (math.nan, 31.0)])
    assert nothing.best.step == 0 and all(
        float(value.abs().max()) == 0 for name, value in nothing.best.weights.items() if "lora_B" in name
    )


def test_guards_of_lower_scores() -> None:
    guard = Guard("judge", lower_better=True)
    first = {"judge": 2.0}
    assert held_out.preferable({"judge": 1.5}, first, first, guard)
    assert not held_out.preferable({"judge": 2.5}, first, first, guard)
    for wrong in ({"psnr_loss": -0.1}, {"psnr_loss": math.nan}, {"patience": 0}):
        with pytest.raises(UsageError):
            Guard("judge", **wrong)


def test_a_run_that_was_interrupted_ends_as_an_unbroken_one(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = DraftSettings(sample_steps=2)
    finals = []
    for name, stop in (("unbroken", None), ("broken", 5)):

        def reward(images: Tensor, number: int, stop: int | None = stop) -> Tensor:
            # Two numbers a step.
            if stop is not None and number >= 2 * stop:
                raise KeyboardInterrupt
            return (images * (1 + number % 3)).mean(dim=(1, 2, 3))

        options = {"steps": 7, "save_every": 2, "measure_every": 3, "log_every": 1}
        model = enlarger(folders, plain=True)
        objective = RewardObjective(model, lambda step: GIVEN, reward, settings, 0)
        if stop is None:
            run(objective, model, tmp_path / name, **options)
        else:
            with pytest.raises(KeyboardInterrupt):
                run(objective, model, tmp_path / name, **options)
            assert torch.load(tmp_path / name / "last.pt", weights_only=True)["counts"] == [4, 0]
            model = enlarger(folders, plain=True)
            shake(model.network)  # whatever a new process starts with
            whole = RewardObjective(model, lambda step: GIVEN, lambda i, n: reward(i, n, None), settings, 0)
            run(whole, model, tmp_path / name, **options)
        finals.append(torch.load(tmp_path / name / "last.pt", weights_only=True))
    one, two = finals
    assert all(torch.equal(value, two["adapter"][name]) for name, value in one["adapter"].items())
    assert one["best"]["step"] == two["best"]["step"] > 0 and one["best"]["measured"] == two["best"]["measured"]
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("unbroken", "broken")]
    assert len(logs[0]) == len(logs[1]) == 1 + 7 + 3


def test_a_damaged_checkpoint_and_a_loss_that_is_no_number(folders: dict[str, Path], tmp_path: Path) -> None:
    model = enlarger(folders)
    objective = preference.PreferenceObjective(model, hand_made(), 2, 50.0, 0)
    begin(tmp_path / "run", {})
    (tmp_path / "run" / "last.pt").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"last.pt: damaged or of another kind"):
        run(objective, model, tmp_path / "run")

    def broken(step: int, rows: range) -> tuple[Tensor, tune.Figures]:
        loss, figures = objective(step, rows)
        return loss * math.nan, figures

    with pytest.raises(UsageError, match="no number any more at step 1"):
        run(broken, model, tmp_path / "other")
    for wrong in ({"steps": 0}, {"rate": math.inf}, {"seed": -1}):
        with pytest.raises(UsageError):
            tune.TuneSettings(**wrong)


def by_brightness(images: Sequence[Tensor], number: int) -> pairs.Preferred | None:
    values = [float(image.mean()) for image in images]
    order = sorted(range(len(values)), key=values.__getitem__)
    # Every third input ties.
    return None if number % 3 == 2 else pairs.Preferred(order[-1], order[0], values[order[-1]] - values[order[0]])


def test_pairs_are_made_once(folders: dict[str, Path], tmp_path: Path) -> None:
    model, asked = enlarger(folders), []

    def inputs(number: int) -> models.Given:
        asked.append(number)
        return {"image": SMALL[:1] * (number + 1) / 12}

    settings = pairs.PairSettings(inputs=10, candidates=3, sample_steps=2, at_once=2)
    said: list[str] = []
    found = pairs.make_pairs(model, inputs, by_brightness, settings, tmp_path, CPU, said.append)
    assert len(found) == 7 and found.inputs == 10 and said == ["pairs 8/10 kept=6", "pairs 10/10 kept=7"]
    assert torch.equal(found.given["image"][1], SMALL[0] * 2 / 12)
    shown = [model.decode(part, found.given).mean(dim=(1, 2, 3)) for part in (found.winner, found.loser)]
    differences = (shown[0] - shown[1]).tolist()
    assert min(found.margins) > 0 and differences == pytest.approx(list(found.margins), abs=2e-3)
    (tmp_path / "0001.safetensors").unlink()
    asked.clear()
    again = pairs.make_pairs(model, inputs, by_brightness, settings, tmp_path, CPU)
    assert asked == [8, 9] and torch.equal(again.winner, found.winner) and again.margins == found.margins
    (tmp_path / "0001.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"0001.safetensors: damaged"):
        pairs.make_pairs(model, inputs, by_brightness, settings, tmp_path, CPU)
    with pytest.raises(UsageError, match="all 10 inputs tie"):
        pairs.make_pairs(model, inputs, lambda images, number: None, settings, tmp_path / "ties", CPU)
    with pytest.raises(UsageError, match="at least 2 candidates"):
        pairs.PairSettings(candidates=1)


def test_each_thing_comes_once_before_any_comes_again() -> None:
    turns = [preference.chosen_of(5, 3, step, seed=4) for step in range(5)]
    flat = [place for turn in turns for place in turn]
    assert [sorted(flat[start : start + 5]) for start in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert flat[:5] != flat[5:10]


def test_what_a_run_leaves_behind(folders: dict[str, Path], tmp_path: Path) -> None:
    model = enlarger(folders)
    shake(model.network, 0.05)
    expected = drawn(model).images
    for _ in range(2):  # a second time over what is there
        results.write_adapter(model.network, tmp_path / "adapter")
        results.write_pipeline(folders["enlarger"], model.network, tmp_path / "pipeline")
    assert (
        not list(tmp_path.glob("*.partial"))
        and "_name_or_path" not in (tmp_path / "pipeline/unet/config.json").read_text()
    )
    merged = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    merged.set_progress_bar_config(disable=True)
    shown = merged(image=SMALL, num_inference_steps=4, generator=generators(), output_type="pt").images
    assert nearly(shown, expected)
    assert load_pipeline_tool(tmp_path / "pipeline", steps=2).restore(torch.rand(1, 3, 9, 7)).shape == (1, 3, 18, 14)
    # As peft's own user loads it.
    other = enlarger(folders, adapter=False)
    other.network = peft.PeftModel.from_pretrained(other.network, tmp_path / "adapter").base_model.model.eval()
    assert torch.equal(drawn(other).images, expected)
    results.write_pipeline(folders["enlarger"], model.network, tmp_path / "half", "float16")
    sizes = [
        (tmp_path / name / "unet/diffusion_pytorch_model.safetensors").stat().st_size for name in ("pipeline", "half")
    ]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_adapter_of_a_text_pipeline_is_loaded_by_diffusers(folders: dict[str, Path], tmp_path: Path) -> None:
    model = models.TextToImage(load_pipeline_tool(folders["text"]).pipeline)
    given = model.embed(["abc", "ed"])
    untouched = drawn(model, given).images
    lora.attach(model.network, lora.LoraSettings(rank=2, alpha=4))
    shake(model.network)
    expected = drawn(model, given).images
    results.write_adapter(model.network, tmp_path / "adapter")
    results.write_pipeline(folders["text"], model.network, tmp_path / "pipeline")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folders["text"])
    pipeline.load_lora_weights(tmp_path / "adapter")
    assert nearly(drawn(models.TextToImage(pipeline), given).images, expected)
    assert not nearly(untouched, expected)
    merged = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    assert type(merged).__name__ == "StableDiffusionPipeline"
    assert nearly(drawn(models.TextToImage(merged), given).images, expected)


def nearly(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding; where that moves a latent to another code, a few pixels differ."""
    return float(((a - b).abs() > 1e-3).float().mean()) < 0.02
