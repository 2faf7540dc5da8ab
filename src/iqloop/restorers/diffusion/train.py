"""Train the generator of the package: autoencoder, then denoiser, then a pipeline folder that diffusers loads.

A run's folder holds ``autoencoder/`` and ``denoiser/``, each with ``settings.json``, ``log.jsonl`` and ``last.pt`` to
go on from, and at the end ``pipeline/``: `LDMSuperResolutionPipeline` as `save_pretrained` writes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqloop.errors import UsageError
from iqloop.restorers.diffusion import autoencoder, denoiser
from iqloop.restorers.diffusion.parts import (
    SIZES,
    Sizes,
    build_autoencoder,
    build_denoiser,
    build_scheduler,
    import_diffusers,
)
from iqloop.restorers.full_reference import PERFECT, psnr
from iqloop.restorers.training.damage import Bytes
from iqloop.restorers.training.learner import Learner, rate_at, read_checkpoint
from iqloop.restorers.training.record import Record, Say, begin
from iqloop.restorers.training.stream import Batch, Patches, stream, to_tensor
from iqloop.restorers.training.tasks import task_named
from iqloop.restorers.training.train import fingerprint, hashed
from iqloop.restorers.training.validation import Check, checks

ACCOUNT = 64
"""Patches whose latents are measured when the autoencoder is done, for the code book."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
"""The file of a network's folder."""
SAMPLING = 20
"""Steps of DDIM when held-out photographs are measured."""


@dataclass(frozen=True)
class GeneratorSettings:
    """Hyper-parameters. Raises `UsageError` when one is out of range."""

    scale: int = 2
    autoencoder_steps: int = 3000
    denoiser_steps: int = 10_000
    autoencoder_batch: int = 8
    denoiser_batch: int = 16
    rate: float = 1e-3
    """Peak rate of both stages."""
    latent_noise: float = 0.05
    """Standard deviation of the noise on latents while the autoencoder learns; the code book's error is about as
    large."""
    warmup: float = 0.03
    weight_decay: float = 1e-3
    ema: float = 0.998
    clip: float = 1.0
    bf16: bool = False
    """Autocast the forward passes."""
    seed: int = 0
    log_every: int = 50
    save_every: int = 250
    validate_every: int = 500
    validate_on: int = 6
    validate_side: int = 256

    def __post_init__(self) -> None:
        if self.scale not in SIZES:
            raise UsageError(f"scale must be 2 or 4, got {self.scale}")
        for name in ("autoencoder_steps", "denoiser_steps", "autoencoder_batch", "denoiser_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.rate < math.inf:
            raise UsageError(f"rate must be positive, got {self.rate}")


@dataclass(frozen=True)
class _Stage:
    """What differs between the two."""

    name: str
    steps: int
    count: int
    """Patches of a step."""
    seed: int
    loss: Callable[[Any, Batch, torch.Generator], Tensor]
    """Of the model's current weights."""
    figures: Callable[[Any], dict[str, float]]
    """Of the averaged weights, on held-out photographs."""


def train_generator(
    photographs: Sequence[Bytes],
    held_out: Sequence[Bytes],
    settings: GeneratorSettings,
    folder: Path,
    say: Say = lambda line: None,
    *,
    sizes: Sizes | None = None,
    source: Path | None = None,
    denoiser_source: Path | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Train a generator; started again with the same arguments it goes on from its last checkpoint.

    Args:
        photographs: clean, ``(H, W, 3)`` uint8 RGB.
        held_out: the same, never trained on.
        settings: how.
        folder: the run's.
        say: told one line for each row of the log.
        sizes: of the parts; `SIZES` of the scale if None.
        source: a `VQModel`'s folder that the autoencoder goes on from; its code book is found anew.
        denoiser_source: a `UNet2DModel`'s folder that the denoiser goes on from.
        workers: processes that make patches; 0 makes them in this one.
        device: where it is trained.

    Returns:
        The figures on the held-out photographs: PSNR in dB of the autoencoder, of bicubic and of one sample.

    Raises:
        PrerequisiteError: diffusers is not installed.
        UsageError: something does not fit, or the folder holds another run.
    """
    chosen, place = sizes or SIZES[settings.scale], torch.device(device)
    test = _held_out(held_out, settings)
    said = {**asdict(settings), **asdict(chosen), "photographs": fingerprint(photographs)}
    said["source"] = None if source is None else hashed(source / WEIGHTS)
    said["denoiser_source"] = None if denoiser_source is None else hashed(denoiser_source / WEIGHTS)
    begun, model = build_autoencoder(chosen, settings.seed), build_denoiser(chosen, settings.seed)
    if source is not None:
        _load(begun, source)
    if denoiser_source is not None:
        _load(model, denoiser_source)
    coder = _autoencoder(begun, photographs, test, settings, chosen, folder, said, say, workers, place)
    scheduler = build_scheduler()
    length = scheduler.config.num_train_timesteps

    def loss(model: Any, batch: Batch, generator: torch.Generator) -> Tensor:
        given, target = (signed(part.to(place)) for part in batch)
        with torch.no_grad(), torch.autocast(place.type, torch.bfloat16, enabled=settings.bf16):
            latents = coder.encode(target).latents.float()
        noise, times = denoiser.drawn(latents, length, generator)
        with torch.autocast(place.type, torch.bfloat16, enabled=settings.bf16):
            return denoiser.loss_of(model, scheduler, latents, given, noise, times)

    def figures(model: Any) -> dict[str, float]:
        return _sampled(pipeline_of(coder, model), test, settings.seed)

    stage = _Stage("denoiser", settings.denoiser_steps, settings.denoiser_batch, settings.seed + 1, loss, figures)
    learner, result = _learn(stage, model, photographs, settings, chosen, folder, said, say, workers, place)
    save(pipeline_of(coder, learner.average), folder / "pipeline")
    return result


def signed(pixels: Tensor) -> Tensor:
    """uint8 to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def pipeline_of(coder: Any, model: Any) -> Any:
    """The parts as `LDMSuperResolutionPipeline`."""
    pipeline = import_diffusers().LDMSuperResolutionPipeline(vqvae=coder, unet=model, scheduler=build_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: Any, folder: Path) -> None:
    """Write a pipeline in half precision, as a folder for `DiffusionPipeline.from_pretrained`; its parts stay.

    Half precision is only stored: without ``torch_dtype`` diffusers computes in float32.
    """
    from copy import deepcopy

    halves = {name: deepcopy(part).cpu().half() for name, part in _networks(pipeline).items()}
    for part in halves.values():
        part.register_to_config(_name_or_path="")  # where it came from is a path of this machine
    made = type(pipeline)(**{**pipeline.components, **halves})
    made.save_pretrained(folder, safe_serialization=True)


def _networks(pipeline: Any) -> dict[str, Any]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def _held_out(held_out: Sequence[Bytes], settings: GeneratorSettings) -> Check:
    task = task_named(f"upscale-x{settings.scale}")
    return checks(task, held_out, settings.validate_side, settings.validate_on)[0]


def _load(model: Any, source: Path) -> None:
    """The weights of a network that was trained, but for a code book, whose length may be another."""
    try:
        weights = type(model).from_pretrained(source, local_files_only=True).state_dict()
        kept = {name: value for name, value in weights.items() if not name.startswith("quantize.")}
        model.load_state_dict({**model.state_dict(), **kept})
    except Exception as error:  # whatever a folder of something else provokes
        kind = type(model).__name__
        raise UsageError(f"{source}: expected the folder of a {kind} of the same sizes ({error})") from error


def _autoencoder(
    model: Any,
    photographs: Sequence[Bytes],
    test: Check,
    settings: GeneratorSettings,
    sizes: Sizes,
    folder: Path,
    said: dict[str, Any],
    say: Say,
    workers: int,
    place: torch.device,
) -> Any:
    """The finished autoencoder, from the folder if it is there."""
    done = folder / "autoencoder" / "vqvae"
    if not done.is_dir():

        def loss(model: Any, batch: Batch, generator: torch.Generator) -> Tensor:
            with torch.autocast(place.type, torch.bfloat16, enabled=settings.bf16):
                return autoencoder.loss_of(model, signed(batch.target.to(place)), settings.latent_noise, generator)

        def figures(model: Any) -> dict[str, float]:
            return {"psnr/decoded": _decoded(model, test, quantised=False)}

        stage = _Stage(
            "autoencoder", settings.autoencoder_steps, settings.autoencoder_batch, settings.seed, loss, figures
        )
        learner, _ = _learn(stage, model, photographs, settings, sizes, folder, said, say, workers, place)
        finished: Any = learner.average
        account = Patches(
            task_named(f"upscale-x{settings.scale}"), photographs, sizes.sample, ACCOUNT, 1, settings.seed + 2
        )
        images = signed(account.batch(0).target.to(place))
        autoencoder.standardise(finished, images)
        autoencoder.fill_codes(finished, images, torch.Generator().manual_seed(settings.seed))
        say(f"autoencoder psnr/quantised={_decoded(finished, test, quantised=True):.4g}")
        finished.save_pretrained(done, safe_serialization=True)
    coder: Any = import_diffusers().VQModel.from_pretrained(done, local_files_only=True)
    return coder.to(place).eval().requires_grad_(False)


def _learn(
    stage: _Stage,
    model: Any,
    photographs: Sequence[Bytes],
    settings: GeneratorSettings,
    sizes: Sizes,
    folder: Path,
    said: dict[str, Any],
    say: Say,
    workers: int,
    place: torch.device,
) -> tuple[Learner, dict[str, float]]:
    """One stage, from its checkpoint to its end."""
    home = folder / stage.name
    begin(home, said)
    checkpoint = home / "last.pt"
    state = read_checkpoint(checkpoint) if checkpoint.is_file() else None
    start = state["step"] if state else 0
    task = task_named(f"upscale-x{settings.scale}")
    patches = Patches(task, photographs, sizes.sample, stage.count, stage.steps, stage.seed, start)
    batches: Iterator[Batch] = stream(patches, workers, pin=place.type == "cuda")
    learner = Learner(model.train(), settings.weight_decay, place, channels_last=True)
    if state is not None:
        learner.resume(state)
    record = Record(home, start, stage.steps, lambda line: say(f"{stage.name} {line}"))
    clock, losses, result = time.monotonic(), [], {}
    try:
        for done, batch in enumerate(batches, start=start + 1):
            generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + done)
            value = stage.loss(learner.model, batch, generator)
            rate = settings.rate * rate_at(done - 1, stage.steps, settings.warmup)
            learner.advance(value, rate, settings.clip, min(settings.ema, done / (done + 9)))
            losses.append(value.detach())
            last = done == stage.steps
            if done % settings.log_every == 0 or last:
                mean = float(torch.stack(losses).mean())
                if not math.isfinite(mean):
                    raise UsageError(f"the loss is no number any more at step {done}: use another folder, a lower rate")
                record.write(done, {"loss": mean, "rate": rate, "seconds": round(time.monotonic() - clock, 1)})
                losses.clear()
            if done % settings.validate_every == 0 or last:
                result = stage.figures(learner.average)
                record.write(done, result)
            if done % settings.save_every == 0 or last:
                learner.save(checkpoint, done)
    finally:
        record.close()
    return learner, result or stage.figures(learner.average)


@torch.no_grad()
def _decoded(model: Any, test: Check, quantised: bool) -> float:
    """Mean PSNR in dB of the held-out photographs through the autoencoder."""
    device = next(model.parameters()).device
    found = []
    for target in test.target:
        pixels = signed(to_tensor([target]).to(device))
        shown = model.decode(model.encode(pixels).latents, force_not_quantize=not quantised).sample
        found.append(_psnr((shown[0].float().clamp(-1, 1) + 1) / 2, target))
    return sum(found) / len(found)


def _sampled(pipeline: Any, test: Check, seed: int) -> dict[str, float]:
    """Mean PSNR in dB of bicubic and of one sample for each held-out photograph."""
    found = []
    for i, (given, target) in enumerate(test.pairs()):
        pixels = signed(to_tensor([given]))
        generator = torch.Generator().manual_seed(seed + i)
        shown = pipeline(
            image=pixels, num_inference_steps=SAMPLING, generator=generator, output_type="pt"
        ).images  # (1, 3, H, W) in [0, 1]
        found.append(_psnr(shown[0], target))
    return {"psnr/bicubic": test.before(), "psnr/sample": sum(found) / len(found)}


def _psnr(image: Tensor, target: Bytes) -> float:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return min(psnr(pixels, target), PERFECT)
