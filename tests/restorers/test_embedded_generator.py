"""The generator of the package: what it weighs, that diffusers loads it, that its candidates show the photograph."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iqloop import distort
from iqloop.restorers.diffusers_tool import load_pipeline_tool
from iqloop.restorers.diffusion.generate import PipelineGenerator, Request
from iqloop.restorers.diffusion.opening import EMBEDDED, open_pipeline
from iqloop.restorers.full_reference import tensor_psnr

diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FOLDER = EMBEDDED["ldm-mini-x2"]


def test_it_is_small_and_in_diffusers_own_format() -> None:
    weights = list(FOLDER.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) <= 4 * 2**20
    pipeline = diffusers.DiffusionPipeline.from_pretrained(FOLDER, local_files_only=True)
    assert type(pipeline) is diffusers.LDMSuperResolutionPipeline
    assert pipeline.unet.dtype == torch.float32
    assert load_pipeline_tool(FOLDER).info.scale == 2


def test_candidates_show_the_photograph_and_differ(photograph: Callable[..., NDArray[np.uint8]]) -> None:
    """Near to the original, of odd size, and no two alike; halfway it is already there."""
    clean = np.ascontiguousarray(photograph("astronaut", 128)[:126, :122])
    truth = torch.from_numpy(clean).permute(2, 0, 1).float() / 255
    small = torch.from_numpy(distort.downsample(clean, 2, "bicubic").copy()).permute(2, 0, 1).float() / 255
    source = PipelineGenerator(open_pipeline("ldm-mini-x2"), Request(image=small, steps=6, keep_colours=True))
    images = []
    for seed in range(3):
        run = source.begin(seed)
        shown = run.preview()
        images.append(run.finish())
        assert shown is not None and tensor_psnr(shown, truth) > FLOOR
    assert all(image.shape == truth.shape and tensor_psnr(image, truth) > FLOOR for image in images)
    assert all(30 < tensor_psnr(one, other) < 60 for one, other in combinations(images, 2))


FLOOR = 23.0
"""dB; what has nothing to do with the photograph stays below 12."""
