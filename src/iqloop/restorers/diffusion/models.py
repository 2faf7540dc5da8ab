"""What is asked of a diffusion pipeline's parts, in one way for each kind: the network's answer, the decoded image.

Pipelines run without a gradient. `SuperResolution` and `TextToImage` are what is left of them without their loop, which
is `iqloop.restorers.diffusion.sampling`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from iqloop.errors import UsageError
from iqloop.restorers.diffusers_tool import KINDS
from iqloop.restorers.diffusion.colours import with_colours_of
from iqloop.restorers.diffusion.parts import import_diffusers

Given = Mapping[str, Tensor]
"""What is known of B images before they are drawn: tensors of which the first dimension is B."""
PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a network may answer: the noise, the velocity or the image."""


class DiffusionModel(Protocol):
    """A network, its schedule, and the way from latents to images."""

    network: nn.Module
    """What is trained."""
    scheduler: Any
    """A `DDIMScheduler`."""
    guidance: float
    """Weight of the condition against none; up to 1 nothing is asked twice."""

    def shape(self, given: Given) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        ...

    def answer(self, latents: Tensor, times: Tensor, given: Given) -> Tensor:
        """The network's prediction for latents ``(B, C, h, w)`` at ``(B,)`` times or one, float32."""
        ...

    def unconditional(self, given: Given) -> Given:
        """What stands in for ``given`` where guidance compares with nothing."""
        ...

    def decode(self, latents: Tensor, given: Given) -> Tensor:
        """Images ``(B, 3, H, W)`` in [0, 1], with a gradient."""
        ...


class SuperResolution:
    """`LDMSuperResolutionPipeline`: ``given["image"]`` is the small image, ``(B, 3, h, w)`` in [-1, 1]."""

    guidance = 1.0

    def __init__(self, pipeline: Any, bf16: bool = False, keep_colours: bool = False) -> None:
        """Take the parts of a pipeline.

        Args:
            pipeline: of diffusers.
            bf16: autocast.
            keep_colours: show images with the colours of the small ones (`iqloop.restorers.diffusion.colours`).

        Raises `UsageError` for a schedule that DDIM cannot follow.
        """
        self.network: nn.Module = pipeline.unet
        self.scheduler: Any = ddim(pipeline.scheduler)
        self._decoder = pipeline.vqvae.requires_grad_(False)
        self._bf16, self._keep_colours = bf16, keep_colours

    def shape(self, given: Given) -> tuple[int, int, int]:
        """As large as the small image."""
        config: Any = self.network.config
        height, width = given["image"].shape[-2:]
        return config.in_channels // 2, height, width

    def answer(self, latents: Tensor, times: Tensor, given: Given) -> Tensor:
        """See `DiffusionModel`."""
        both = torch.cat([latents, given["image"]], dim=1)
        with autocast(latents, self._bf16):
            answer: Tensor = self.network(both, times).sample
        return answer.float()

    def unconditional(self, given: Given) -> Given:
        """There is none: every input is enlarged as it is."""
        return given

    def decode(self, latents: Tensor, given: Given) -> Tensor:
        """See `DiffusionModel`; the gradient passes the code book unchanged."""
        with autocast(latents, self._bf16):
            shown: Tensor = self._decoder.decode(latents).sample
        images = shown.float().clamp(-1, 1) / 2 + 0.5
        if not self._keep_colours:
            return images
        small = given["image"] / 2 + 0.5
        return torch.stack([with_colours_of(*pair) for pair in zip(images, small, strict=True)])


class TextToImage:
    """Stable Diffusion and its XL: ``given["prompt"]`` holds the embeddings of `embed`."""

    def __init__(self, pipeline: Any, guidance: float = 1.0, size: int | None = None, bf16: bool = False) -> None:
        """Take the parts of a pipeline.

        Args:
            pipeline: of either class, text to image or image to image.
            guidance: see `DiffusionModel`.
            size: side of the images in pixels; None is what the network was trained on.
            bf16: autocast.

        Raises `UsageError` for a size that does not fit, a network that is told its guidance, or a schedule that DDIM
        cannot follow.
        """
        self.network: nn.Module = pipeline.unet
        self.scheduler: Any = ddim(pipeline.scheduler)
        self.guidance = guidance
        self._pipeline, self._bf16 = pipeline, bf16
        self._decoder = pipeline.vae.requires_grad_(False)
        config = pipeline.unet.config
        if config.time_cond_proj_dim is not None:
            raise UsageError("this network was distilled to be told its guidance: train the one that it came from")
        # The first latents are halved in each block of the network but the last.
        step = pipeline.vae_scale_factor * 2 ** (len(config.block_out_channels) - 1)
        self.size = size or config.sample_size * pipeline.vae_scale_factor
        if self.size < step or self.size % step:
            raise UsageError(f"size must be a multiple of {step} pixels for this pipeline, got {self.size}")

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What is known of images that these prompts describe; with what stands for no prompt, where guidance asks."""
        place, guided = self._pipeline.device, self.guidance > 1
        found = self._pipeline.encode_prompt(
            prompt=list(prompts), device=place, num_images_per_prompt=1, do_classifier_free_guidance=guided
        )
        names = ("prompt", "no-prompt", "pooled", "no-pooled")
        return {name: value for name, value in zip(names, found, strict=False) if value is not None}

    def shape(self, given: Given) -> tuple[int, int, int]:
        """The same for every prompt."""
        config: Any = self.network.config
        side = self.size // self._pipeline.vae_scale_factor
        return config.in_channels, side, side

    def answer(self, latents: Tensor, times: Tensor, given: Given) -> Tensor:
        """See `DiffusionModel`."""
        added = None
        if "pooled" in given:
            # XL is told the sizes that an image was cropped from and to: all of it.
            sizes = torch.tensor([self.size, self.size, 0, 0, self.size, self.size]).to(latents)
            added = {"text_embeds": given["pooled"], "time_ids": sizes.repeat(len(latents), 1)}
        with autocast(latents, self._bf16):
            answer: Tensor = self.network(
                latents, times, encoder_hidden_states=given["prompt"], added_cond_kwargs=added
            ).sample
        return answer.float()

    def unconditional(self, given: Given) -> Given:
        """No prompt. Raises `KeyError` for what `embed` made without guidance."""
        return {name: given[f"no-{name}"] for name in ("prompt", "pooled") if name in given}

    def decode(self, latents: Tensor, given: Given) -> Tensor:
        """See `DiffusionModel`."""
        config = self._decoder.config
        mean, deviation = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
        latents = latents / config.scaling_factor
        if mean is not None and deviation is not None:
            mean, deviation = (torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (mean, deviation))
            latents = latents * deviation + mean
        with autocast(latents, self._bf16):
            shown: Tensor = self._decoder.decode(latents, return_dict=False)[0]
        return (shown.float() / 2 + 0.5).clamp(0, 1)


def model_of(
    pipeline: Any,
    named: str,
    guidance: float = 1.0,
    size: int | None = None,
    bf16: bool = False,
    keep_colours: bool = False,
) -> SuperResolution | TextToImage:
    """The model of a pipeline whose folder names the class ``named``; the rest as for the two. Raises `UsageError`."""
    if not guidance >= 0:
        raise UsageError(f"guidance must not be negative, got {guidance}")
    call = KINDS[named].call
    if call == "latent":
        if guidance > 1 or size is not None:
            raise UsageError(f"{named} has neither prompt nor size of its own: leave guidance and size out")
        return SuperResolution(pipeline, bf16, keep_colours)
    if call == "refine":
        if keep_colours:
            raise UsageError(f"{named} has no input whose colours could be kept: leave that out")
        return TextToImage(pipeline, guidance, size, bf16)
    raise UsageError(
        f"{named} cannot be trained here: expected LDMSuperResolutionPipeline, Stable Diffusion or Stable Diffusion XL"
    )


def ddim(scheduler: Any) -> Any:
    """DDIM on the schedule of another scheduler; itself if it is one. Raises `UsageError`."""
    made = import_diffusers().DDIMScheduler
    predicts = scheduler.config.get("prediction_type")
    if predicts not in PREDICTIONS or not hasattr(scheduler, "alphas_cumprod"):
        raise UsageError(
            f"{type(scheduler).__name__}: expected the noise schedule of DDPM with a prediction of "
            f"{', '.join(PREDICTIONS)}; flow matching is not trained here"
        )
    return scheduler if isinstance(scheduler, made) else made.from_config(scheduler.config)


def target_of(scheduler: Any, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What the network should answer at these times, for latents ``(B, C, h, w)`` with this noise on them."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    target: Tensor = latents if kind == "sample" else scheduler.get_velocity(latents, noise, times)
    return target


def autocast(like: Tensor, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 on the device of a tensor, if asked for."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=bf16)


def rows_of(given: Given, rows: Sequence[int] | slice) -> dict[str, Tensor]:
    """Some of the B."""
    chosen = rows if isinstance(rows, slice) else list(rows)
    return {name: value[chosen] for name, value in given.items()}


def repeated(given: Given, count: int) -> dict[str, Tensor]:
    """One of them, ``count`` times. Every tensor begins with 1."""
    return {name: value.expand(count, *value.shape[1:]) for name, value in given.items()}
