"""Candidates from any pipeline or seeded tool: what is asked for, one candidate for a seed, a preview halfway."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from iqloop.errors import IqloopError, ToolError, UsageError
from iqloop.restorers.diffusers_tool import padded, unwarned
from iqloop.restorers.diffusion.candidate_run import CandidateRun
from iqloop.restorers.diffusion.colours import with_colours_of
from iqloop.restorers.tool import Tool

LATENT = "LDMSuperResolutionPipeline"
"""Takes tensors in [-1, 1], where all others take [0, 1]."""
MULTIPLE = 8
"""Sides of an input are grown to multiples of it, lest a pipeline resizes the image; of a larger one if it says so."""


@dataclass(frozen=True)
class Request:
    """What a pipeline is asked for; what it has no use for must be left out."""

    image: Tensor | None = None
    """``(3, H, W)`` in [0, 1]: what is refined, filled in or enlarged."""
    mask: Tensor | None = None
    """``(1, H, W)``: 1 where something new is to be painted."""
    prompt: str | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    """Share of the noise schedule that an image goes through, in (0, 1]."""
    guidance: float | None = None
    """Weight of the prompt; the pipeline's own default if None."""
    steps: int | None = None
    """Of the whole schedule; the pipeline's own default if None."""
    size: tuple[int, int] | None = None
    """Height and width of what a text becomes."""
    keep_colours: bool = False
    """Take the colours of the image and only light and shade of what is made (`iqloop.restorers.diffusion.colours`);
    without it a candidate is what the pipeline itself gives."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of the pipeline's call."""


class Run(Protocol):
    """A candidate while it is made."""

    def preview(self) -> Tensor | None:
        """Make half of it and wait; returns what it will be, ``(3, H, W)`` in [0, 1]; None if that cannot be told."""
        ...

    def finish(self) -> Tensor:
        """Make the rest: ``(3, H, W)`` in [0, 1]."""
        ...

    def drop(self) -> None:
        """Leave it unfinished."""
        ...

    @property
    def work(self) -> float:
        """Which part of it has been made, in [0, 1]."""
        ...


class Generator(Protocol):
    """Makes candidates."""

    @property
    def name(self) -> str:
        """For people and manifests."""
        ...

    def begin(self, seed: int) -> Run:
        """A candidate; the same seed gives the same one, whatever was made before."""
        ...


class PipelineGenerator:
    """A pipeline and what it is asked for."""

    def __init__(self, pipeline: Any, request: Request, name: str | None = None) -> None:
        """Check that the two fit. Raises `UsageError`."""
        self.pipeline, self.request = pipeline, request
        self.kind = type(pipeline).__name__
        self._name = name or self.kind
        self._takes = inspect.signature(pipeline.__call__).parameters
        self._check()

    @property
    def name(self) -> str:
        """The pipeline's name, or its class."""
        return self._name

    @property
    def needs_image(self) -> bool:
        """Whether it works on an image."""
        return "image" in self._takes

    def begin(self, seed: int) -> PipelineRun:
        """A candidate of its own generator, on the CPU: it depends on no other, nor on the device."""
        return PipelineRun(self, seed)

    def _check(self) -> None:
        asked = self.request
        known: dict[str, Any] = {
            "image": asked.image,
            "mask_image": asked.mask,
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "strength": asked.strength,
            "guidance_scale": asked.guidance,
            "height": asked.size,
            **asked.more,
        }
        words = {"mask_image": "mask", "guidance_scale": "guidance", "height": "size"}
        unused = [words.get(key, key) for key, value in known.items() if value is not None and key not in self._takes]
        if unused:
            raise UsageError(f"{self.name}: {self.kind} takes no {', '.join(unused)}: leave it out")
        for key in ("image", "mask_image"):
            if (
                key in self._takes
                and known[key] is None
                and self._takes[key].default in (None, inspect.Parameter.empty)
            ):
                raise UsageError(f"{self.name}: {self.kind} works on an image: give it the {words.get(key, key)}")
        if asked.mask is not None and asked.image is not None and asked.mask.shape[-2:] != asked.image.shape[-2:]:
            raise UsageError(
                f"the mask has {asked.mask.shape[-1]} x {asked.mask.shape[-2]} pixels, the image "
                f"{asked.image.shape[-1]} x {asked.image.shape[-2]}: they must be of one size"
            )
        if asked.keep_colours and asked.image is None:
            raise UsageError("colours can be kept of an image only: give one, or leave that out")
        if asked.steps is not None and asked.steps < 1:
            raise UsageError(f"steps must be at least 1, got {asked.steps}")

    def call(self, pipeline: Any, generator: torch.Generator) -> Tensor:
        """One image ``(3, H, W)`` in [0, 1] from ``pipeline``, a copy of this one's. Raises what that raises."""
        asked = self.request
        options: dict[str, Any] = {"generator": generator, "output_type": "pt", **asked.more}
        if asked.image is not None:
            grown = padded(asked.image[None].float(), self.multiple)
            options["image"] = grown * 2 - 1 if self.kind == LATENT else grown
            if "height" in self._takes:
                # Left out, it is the size that the network was trained on.
                options["height"], options["width"] = grown.shape[-2:]
        if asked.mask is not None:
            options["mask_image"] = padded(asked.mask[None].float(), self.multiple)
        if "prompt" in self._takes:
            options["prompt"] = asked.prompt or ""
        if asked.size is not None:
            options["height"], options["width"] = asked.size
        for key, value in (
            ("negative_prompt", asked.negative_prompt),
            ("strength", asked.strength),
            ("guidance_scale", asked.guidance),
            ("num_inference_steps", asked.steps),
        ):
            if value is not None:
                options[key] = value
        found: Tensor = pipeline(**options).images[0]
        return self._finished(found.float().cpu().clamp(0, 1))

    def _finished(self, image: Tensor) -> Tensor:
        """Without what the input was grown by, at the scale of the output; in the input's colours if that was asked."""
        if self.request.image is None or self.request.size is not None:
            return image
        kept = []
        for axis in (-2, -1):
            length = self.request.image.shape[axis]
            grown = -(-length // self.multiple) * self.multiple
            kept.append(round(length * image.shape[axis] / grown))
        image = image[:, : kept[0], : kept[1]]
        return with_colours_of(image, self.request.image) if self.request.keep_colours else image

    @property
    def multiple(self) -> int:
        """What the sides of an input must be divisible by."""
        if self.kind == LATENT:
            return int(2 ** (len(self.pipeline.unet.config.block_out_channels) - 1))
        return max(MULTIPLE, int(getattr(self.pipeline, "vae_scale_factor", MULTIPLE)))

    def shown(self, predicted: Tensor) -> Tensor | None:
        """The picture ``(3, H, W)`` in [0, 1] of a predicted sample ``(B, C, h, w)``; None when that is not known.

        Latents are decoded by the pipeline's autoencoder; without one the sample is the picture.
        """
        coder = next((part for key in ("vqvae", "vae", "movq") if (part := getattr(self.pipeline, key, None))), None)
        sample = predicted[:1]
        if coder is None:
            pixels = sample if sample.ndim == 4 and sample.shape[1] == 3 else None
        elif sample.ndim == 4 and sample.shape[1] == coder.config.latent_channels:
            if self.kind != LATENT:
                sample = sample / coder.config.scaling_factor + (getattr(coder.config, "shift_factor", None) or 0)
            with torch.no_grad(), unwarned():
                pixels = coder.decode(sample.to(next(coder.parameters()).dtype)).sample
        else:
            pixels = None  # packed, as transformers have them: only the pipeline knows how
        return None if pixels is None else self._finished(((pixels[0].float().cpu() + 1) / 2).clamp(0, 1))


class PipelineRun:
    """One candidate of a pipeline (`Run`)."""

    def __init__(self, source: PipelineGenerator, seed: int) -> None:
        self._source = source
        generator = torch.Generator().manual_seed(seed)
        self._run = CandidateRun(source.pipeline, lambda pipeline: source.call(pipeline, generator), generator)
        self._finished = False

    def preview(self) -> Tensor | None:
        """Make half of the steps; see `Run`."""
        half = max(1, self.steps // 2)
        predicted = self._run.until(half)
        return None if predicted is None else self._source.shown(predicted)

    def finish(self) -> Tensor:
        """Make the rest. Raises `ToolError` for whatever the pipeline raises."""
        try:
            result = self._run.finish()
        except IqloopError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ToolError(f"{self._source.name} failed: {reason}") from error
        if not torch.isfinite(result).all():
            raise ToolError(f"{self._source.name} gave values that are not numbers: half precision may be at fault")
        self._finished = True
        return result

    def drop(self) -> None:
        """Leave it unfinished."""
        self._run.drop()

    @property
    def steps(self) -> int:
        """How many the schedule has that is asked for; those of an image at a strength are fewer."""
        asked = self._source.request
        steps = asked.steps or _default(self._source.pipeline, "num_inference_steps", 50)
        strength = asked.strength
        if strength is None:
            strength = _default(self._source.pipeline, "strength", 1.0)
        return max(1, int(steps * min(float(strength), 1.0)))

    @property
    def work(self) -> float:
        """Share of the steps that were done."""
        return 1.0 if self._finished else min(1.0, self._run.steps / self.steps)


class ToolGenerator:
    """A tool whose output depends on the seed."""

    def __init__(self, tool: Tool, image: Tensor, keep_colours: bool = False) -> None:
        """Take an image ``(3, H, W)`` in [0, 1]. Raises `UsageError` for a tool that gives one output only."""
        if not tool.info.seeded:
            raise UsageError(
                f"{tool.info.name} gives one output for any seed: there is nothing to choose from; use  iqloop apply"
            )
        self.tool, self.image, self.keep_colours = tool, image, keep_colours

    @property
    def name(self) -> str:
        """The tool's."""
        return self.tool.info.name

    def begin(self, seed: int) -> ToolRun:
        """The output for a seed, made when it is asked for."""
        return ToolRun(self, seed)


class ToolRun:
    """One output of a tool (`Run`); it is made at once, so there is no preview."""

    def __init__(self, source: ToolGenerator, seed: int) -> None:
        self._source, self._seed = source, seed
        self.work = 0.0
        """0 before it is made, 1 after."""

    def preview(self) -> Tensor | None:
        """None."""
        return None

    def finish(self) -> Tensor:
        """Run the tool. Raises `ToolError`."""
        source = self._source
        result = source.tool.restore(source.image[None], seed=self._seed)[0]
        self.work = 1.0
        return with_colours_of(result, source.image) if source.keep_colours else result

    def drop(self) -> None:
        """Nothing has been begun."""


def _default(pipeline: Any, key: str, otherwise: Any) -> Any:
    parameter = inspect.signature(pipeline.__call__).parameters.get(key)
    found = None if parameter is None else parameter.default
    return otherwise if found is None or found is inspect.Parameter.empty else found
