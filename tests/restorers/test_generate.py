"""Candidates of pipelines: alone as among others, halfway and on, for every family of scheduler."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iqloop.errors import PrerequisiteError, ToolError, UsageError
from iqloop.restorers import default_registry
from iqloop.restorers.diffusers_tool import unwarned
from iqloop.restorers.diffusion.candidate_run import CandidateRun, predicted_clean
from iqloop.restorers.diffusion.colours import with_colours_of
from iqloop.restorers.diffusion.generate import PipelineGenerator, Request, ToolGenerator
from iqloop.restorers.diffusion.opening import open_pipeline, version_of
from iqloop.restorers.diffusion.thrift import searched_by_tree

from .test_restorers_diffusers import MAKERS, autoencoder, text_encoder, tokenizer, unet

diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")

# Schedulers of diffusers build arrays as numpy once wanted them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

IMAGE = torch.rand(3, 21, 34, generator=torch.Generator().manual_seed(1))


def inpainting(folder: Path) -> None:
    diffusers.StableDiffusionInpaintPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder.with_name(f"{folder.name}-words")),
        unet=unet(9),
        scheduler=diffusers.DPMSolverMultistepScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind, as diffusers saves it."""
    home = tmp_path_factory.mktemp("generators")
    torch.manual_seed(0)
    made = {name: MAKERS[name] for name in ("refiner", "text-to-image", "upscaler", "latent")}
    made["inpainting"] = inpainting
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, make in made.items():
            make(home / name)
    return {name: home / name for name in made}


REQUESTS: dict[str, Request] = {
    "refiner": Request(image=IMAGE, prompt="a b", strength=0.5, steps=8),
    "text-to-image": Request(prompt="a b", guidance=3.0, steps=4, size=(24, 40)),
    "upscaler": Request(image=IMAGE, prompt="c", steps=4),
    "latent": Request(image=IMAGE, steps=5),
    "inpainting": Request(image=IMAGE, mask=(IMAGE[:1] > 0.5).float(), prompt="d", strength=1.0, steps=4),
}
SIZES = {
    "refiner": (21, 34),
    "text-to-image": (24, 40),
    "upscaler": (84, 136),
    "latent": (84, 136),
    "inpainting": (21, 34),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_alone_as_among_others(folders: dict[str, Path], name: str) -> None:
    """A candidate is the same whether it is made at once, halfway first, or between others; another seed is another."""
    source = PipelineGenerator(open_pipeline(folders[name]), REQUESTS[name])
    alone = source.begin(7).finish()
    assert alone.shape[-2:] == SIZES[name] and 0 <= float(alone.min()) <= float(alone.max()) <= 1
    runs = [source.begin(seed) for seed in (6, 7, 8)]
    shown = [run.preview() for run in runs]
    finished = [run.finish() for run in runs]
    assert torch.equal(finished[1], alone)
    assert not torch.equal(finished[0], alone)
    assert all(image is not None and image.shape == alone.shape for image in shown)
    assert all(run.work == 1 for run in runs)


def test_dropped_runs_end(folders: dict[str, Path]) -> None:
    before = threading.active_count()
    source = PipelineGenerator(open_pipeline(folders["latent"]), REQUESTS["latent"])
    run, unbegun = source.begin(0), source.begin(1)
    run.preview()
    assert run.work == pytest.approx(0.4) and threading.active_count() == before + 1
    run.drop()
    unbegun.drop()
    assert threading.active_count() == before


def test_the_pipeline_is_left_as_it_was(folders: dict[str, Path]) -> None:
    pipeline = open_pipeline(folders["latent"])
    scheduler = pipeline.scheduler
    PipelineGenerator(pipeline, REQUESTS["latent"]).begin(0).finish()
    assert pipeline.scheduler is scheduler and "step" not in vars(scheduler)


def test_an_unbroken_call_is_the_same(folders: dict[str, Path]) -> None:
    """What a user gets from the pipeline itself, with the seed."""
    pipeline = open_pipeline(folders["text-to-image"])
    ours = PipelineGenerator(pipeline, REQUESTS["text-to-image"]).begin(3).finish()
    with unwarned():
        theirs = pipeline(
            "a b",
            guidance_scale=3.0,
            num_inference_steps=4,
            height=24,
            width=40,
            generator=torch.Generator().manual_seed(3),
            output_type="pt",
        ).images[0]
    assert torch.equal(ours, theirs)


SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {},
    "DDPMScheduler": {"prediction_type": "v_prediction"},
    "PNDMScheduler": {"skip_prk_steps": True},
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {"prediction_type": "v_prediction"},
    "HeunDiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "FlowMatchEulerDiscreteScheduler": {},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_predicts_what_a_perfect_model_heads_for(name: str) -> None:
    """With a model that knows the clean sample, the prediction is that sample, at every step but perhaps the last."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler: Any = getattr(diffusers, name)(**SCHEDULERS[name])
    clean = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    scheduler.set_timesteps(6)
    kind = getattr(scheduler.config, "prediction_type", None)
    checked = 0
    sample = noise * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else noise
    for time in scheduler.timesteps[:3]:
        if "FlowMatch" in name:
            answer = noise - clean
            sigma = scheduler.sigmas[scheduler.step_index or 0]
            sample = (1 - sigma) * clean + sigma * noise
        elif hasattr(scheduler, "is_scale_input_called"):
            if scheduler.step_index is None:
                scheduler._init_step_index(time)
            scheduler.scale_model_input(sample, time)
            sigma = scheduler.sigmas[scheduler.step_index]
            sample = clean + sigma * noise
            scaled = sample / (sigma**2 + 1).sqrt()
            kept = 1 / (sigma**2 + 1)
            answer = noise if kind == "epsilon" else (kept.sqrt() * scaled - clean) / (1 - kept).sqrt()
        else:
            kept = scheduler.alphas_cumprod[int(time)]
            sample = kept.sqrt() * clean + (1 - kept).sqrt() * noise
            answer = noise if kind == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * clean
        found = predicted_clean(scheduler, answer, time, sample)
        assert found is not None
        torch.testing.assert_close(found, clean, atol=2e-3, rtol=2e-3)
        checked += 1
        sample = scheduler.step(answer, time, sample, return_dict=False)[0]
    assert checked == 3


def test_no_preview_without_a_known_prediction(folders: dict[str, Path]) -> None:
    pipeline = open_pipeline(folders["latent"])
    pipeline.scheduler.register_to_config(prediction_type="score")
    assert predicted_clean(pipeline.scheduler, IMAGE[None], 1, IMAGE[None]) is None


def test_errors_come_out_of_the_thread() -> None:
    class Scheduler:
        config = None

        def step(self, output: Tensor, timestep: int, sample: Tensor) -> Tensor:
            return sample

    class Pipeline:
        scheduler = Scheduler()

    def call(pipeline: Any) -> Tensor:
        raise RuntimeError("no memory")

    run = CandidateRun(Pipeline(), call)
    assert run.until(1) is None
    with pytest.raises(RuntimeError, match="no memory"):
        run.finish()


def test_a_failing_pipeline_is_named(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = open_pipeline(folders["latent"])

    def broken(*given: Any, **more: Any) -> Any:
        raise RuntimeError("no memory\nat all")

    monkeypatch.setattr(pipeline.unet, "forward", broken)
    with pytest.raises(ToolError, match=r"mine failed: no memory$"):
        PipelineGenerator(pipeline, REQUESTS["latent"], "mine").begin(0).finish()


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("latent", Request(image=IMAGE, prompt="a"), "takes no prompt"),
        ("latent", Request(), "give it the image"),
        ("text-to-image", Request(image=IMAGE, prompt="a"), "takes no image"),
        ("inpainting", Request(image=IMAGE, prompt="a"), "give it the mask"),
        ("inpainting", Request(image=IMAGE, mask=IMAGE[:1, :5], prompt="a"), "must be of one size"),
        ("latent", Request(image=IMAGE, steps=0), "at least 1"),
        ("text-to-image", Request(prompt="a", more={"wings": 2}), "takes no wings"),
    ],
)
def test_what_does_not_fit_is_refused(folders: dict[str, Path], name: str, asked: Request, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PipelineGenerator(open_pipeline(folders[name]), asked)


def test_opening(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no such folder"):
        open_pipeline(tmp_path / "nothing")
    with pytest.raises(ToolError, match="model_index"):
        open_pipeline(tmp_path)
    import shutil

    copy = Path(shutil.copytree(folders["latent"], tmp_path / "copy"))
    first = version_of(copy, open_pipeline(copy))
    assert first == version_of(folders["latent"], open_pipeline(folders["latent"]))
    (copy / "unet" / "mine.py").write_text("print()")
    with pytest.raises(ToolError, match="code"):
        open_pipeline(copy)
    (copy / "unet" / "mine.py").unlink()
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ToolError, match="cannot be opened"):
        open_pipeline(copy)
    with pytest.raises(PrerequisiteError, match="go online"):
        open_pipeline("nobody/nothing", offline=True)


def test_a_code_book_searched_by_tree_is_the_code_book(folders: dict[str, Path]) -> None:
    pipeline = diffusers.LDMSuperResolutionPipeline.from_pretrained(folders["latent"], local_files_only=True)
    latents = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = pipeline.vqvae.decode(latents).sample
        searched_by_tree(pipeline)
        found = pipeline.vqvae.decode(latents).sample
    torch.testing.assert_close(found, whole)


def test_tools_with_a_seed() -> None:
    registry = default_registry(plugins=False)
    with pytest.raises(UsageError, match="nothing to choose"):
        ToolGenerator(registry.get("median-switch"), IMAGE)


def test_keeps_colours(folders: dict[str, Path]) -> None:
    """Hues are the input's, at every size; light and shade are what was made; alone it changes nothing."""
    pipeline = open_pipeline(folders["upscaler"])
    image = torch.tensor([0.5, 0.4, 0.3])[:, None, None].expand(3, 16, 24).contiguous()
    own = PipelineGenerator(pipeline, Request(image=image, steps=2)).begin(0).finish()
    kept = PipelineGenerator(pipeline, Request(image=image, steps=2, keep_colours=True)).begin(0).finish()
    assert kept.shape == own.shape and not torch.equal(kept, own)
    inside = ((kept > 0) & (kept < 1)).all(dim=0)
    difference = (kept[0] - kept[2])[inside]
    torch.testing.assert_close(difference, torch.full_like(difference, 0.2), atol=1e-5, rtol=0)
    torch.testing.assert_close(with_colours_of(IMAGE, IMAGE), IMAGE)
    with pytest.raises(UsageError, match="colours can be kept"):
        PipelineGenerator(open_pipeline(folders["text-to-image"]), Request(prompt="a", keep_colours=True))
