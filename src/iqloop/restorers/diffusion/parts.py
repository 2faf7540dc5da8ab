"""The parts of a small latent diffusion model for super-resolution, in diffusers' own classes, from nothing.

Latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 4.4): an autoencoder whose latents are
as large as the low-resolution image, and a U-Net that is shown both side by side and removes noise from the former.
Neither has attention, so time and memory grow with the pixels and any size will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from iqloop.errors import UsageError, missing_extra
from iqloop.restorers.diffusers_tool import quiet

LATENTS = 3
"""Channels of the latents; `LDMSuperResolutionPipeline` splits the U-Net's six inputs in halves."""
GROUPS = 8
"""Of the group norms: all widths are multiples of it."""


@dataclass(frozen=True)
class Sizes:
    """What a generator is made of; two million parameters for x2. Raises `UsageError`."""

    scale: int = 2
    """Output size over input size: each block of the autoencoder but the last halves."""
    autoencoder: tuple[int, ...] = (32, 64)
    """Channels of its blocks."""
    codes: int = 16_384
    """Vectors of the code book."""
    denoiser: tuple[int, ...] = (32, 56, 80)
    """Channels of the U-Net's blocks."""
    sample: int = 64
    """Side of the low-resolution patches it is trained on, in pixels; tiles are cut so."""

    def __post_init__(self) -> None:
        if self.scale not in (2, 4) or 2 ** (len(self.autoencoder) - 1) != self.scale:
            raise UsageError(
                f"expected scale 2 with two widths of the autoencoder or 4 with three, got {self.scale} with "
                f"{len(self.autoencoder)}"
            )
        if any(width % GROUPS or width < GROUPS for width in (*self.autoencoder, *self.denoiser)):
            raise UsageError(f"widths must be multiples of {GROUPS}, got {self.autoencoder} and {self.denoiser}")
        if self.sample % 2 ** (len(self.denoiser) - 1):
            raise UsageError(f"{self.sample} pixels cannot be halved {len(self.denoiser) - 1} times")


SIZES = {2: Sizes(), 4: Sizes(scale=4, autoencoder=(32, 48, 64), sample=32)}
"""The package's sizes, by scale."""


def build_autoencoder(sizes: Sizes, seed: int = 0) -> Any:
    """A `VQModel`: images ``(B, 3, H * scale, W * scale)`` in [-1, 1] to latents ``(B, 3, H, W)`` and back."""
    diffusers = import_diffusers()
    torch.manual_seed(seed)
    blocks = len(sizes.autoencoder)
    return diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=sizes.autoencoder,
        latent_channels=LATENTS,
        sample_size=sizes.sample * sizes.scale,
        num_vq_embeddings=sizes.codes,
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_denoiser(sizes: Sizes, seed: int = 0) -> Any:
    """A `UNet2DModel`: noisy latents and low-resolution image, ``(B, 6, H, W)``, to a velocity ``(B, 3, H, W)``."""
    diffusers = import_diffusers()
    torch.manual_seed(seed + 1)
    blocks = len(sizes.denoiser)
    return diffusers.UNet2DModel(
        sample_size=sizes.sample,
        in_channels=2 * LATENTS,
        out_channels=LATENTS,
        block_out_channels=sizes.denoiser,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * blocks,
        up_block_types=("UpBlock2D",) * blocks,
        norm_num_groups=GROUPS,
        add_attention=False,
    )


def build_scheduler() -> Any:
    """DDIM with LDM's betas, rescaled so that the last step is noise alone, and velocity prediction.

    Both as Lin et al. 2024 (https://arxiv.org/abs/2305.08891) advise, with steps spaced from the end: ten steps are
    then enough to begin from noise.
    """
    return import_diffusers().DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def import_diffusers() -> Any:
    """The library. Raises `PrerequisiteError` where it is not installed."""
    try:
        import diffusers
    except ImportError as error:
        raise missing_extra("diffusers", "diffusion") from error
    quiet()
    return diffusers


def parameters(*modules: Any) -> int:
    """How many there are."""
    return sum(value.numel() for module in modules for value in module.parameters())
