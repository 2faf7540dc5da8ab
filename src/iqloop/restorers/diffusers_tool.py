"""A diffusers pipeline in a folder, as a tool: load its parts, check that they are whole, run it in seeded tiles.

diffusers (https://github.com/huggingface/diffusers, Apache-2.0) comes with the extra ``diffusion``. Three kinds of
pipeline restore:

- image to image at a low strength (Stable Diffusion and its XL; a text-to-image folder has the same parts): the image
  is noised a little and denoised again (SDEdit, Meng et al. 2022, https://arxiv.org/abs/2108.01073);
- the text-guided upscaler, ``StableDiffusionUpscalePipeline``;
- latent diffusion for super-resolution, ``LDMSuperResolutionPipeline`` (Rombach et al. 2022,
  https://arxiv.org/abs/2112.10752).

A folder is opened without running code from it: weights are read from ``.safetensors`` alone, classes are taken from
diffusers and transformers alone, nothing is fetched. A folder's safety checker is not loaded, nor is a watermark
added: the input is the user's photograph, and a checker that fires would return it black.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from iqloop.errors import IqloopError, ToolError, UsageError, missing_extra
from iqloop.restorers.tiling import tiled
from iqloop.restorers.tool import ToolInfo, Treatment, check_image

INDEX = "model_index.json"
"""The file that makes a folder a pipeline: its class, and the class of each part."""
STRENGTH = 0.2
"""Share of the noise schedule that a refiner goes through unless told: low, for the picture is to stay what it is."""
SHARED = 8
"""Neighbouring tiles share one pixel in so many."""
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
"""Parts of a folder that are not loaded: none of them restores."""


@dataclass(frozen=True)
class Kind:
    """A kind of pipeline, and how it is called."""

    runs: str
    """The class of diffusers that is run."""
    call: Literal["refine", "upscale", "latent"]
    steps: int
    """Steps of the whole schedule unless told: the pipeline's own default."""
    treats: tuple[Treatment, ...]
    extent: int
    """Side of a tile where the network does not tell on which size it was trained."""


REFINES: tuple[Treatment, ...] = ("noise", "compression", "blur")
_REFINER = Kind("StableDiffusionImg2ImgPipeline", "refine", 50, REFINES, 512)
_REFINER_XL = Kind("StableDiffusionXLImg2ImgPipeline", "refine", 50, REFINES, 1024)
KINDS: dict[str, Kind] = {
    "StableDiffusionImg2ImgPipeline": _REFINER,
    "StableDiffusionPipeline": _REFINER,
    "StableDiffusionXLImg2ImgPipeline": _REFINER_XL,
    "StableDiffusionXLPipeline": _REFINER_XL,
    "StableDiffusionUpscalePipeline": Kind("StableDiffusionUpscalePipeline", "upscale", 75, ("low-resolution",), 128),
    "LDMSuperResolutionPipeline": Kind("LDMSuperResolutionPipeline", "latent", 100, ("low-resolution",), 64),
}
"""What is run for the class that a folder names."""


@dataclass(frozen=True)
class Settings:
    """How a pipeline is run. Raises `UsageError` for what cannot be."""

    prompt: str = ""
    """What the picture shows; neutral if empty."""
    strength: float = STRENGTH
    """Refiners: share of the noise schedule in (0, 1]; however small, one step is done."""
    steps: int = 50
    """Of the whole schedule; a refiner does ``strength * steps`` of them."""
    guidance: float = 1.0
    """Weight of the prompt against none (classifier-free guidance); up to 1 there is none, above it time doubles."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UsageError(f"strength must be above 0 and at most 1, got {self.strength}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise UsageError(f"steps must be a positive whole number, got {self.steps!r}")
        if not self.guidance >= 0:
            raise UsageError(f"guidance must not be negative, got {self.guidance}")

    @property
    def exact_strength(self) -> float:
        """The strength at which diffusers, which cuts ``steps * strength`` off to a whole number, rounds it instead.

        >>> Settings(strength=0.29, steps=100).exact_strength, int(100 * 0.29)
        (0.295, 28)
        """
        done = max(1, round(self.steps * self.strength))
        return min(1.0, (done + 0.5) / self.steps)


class DiffusersTool:
    """A pipeline behind the tool contract. Made by `load_pipeline_tool`.

    The noise is drawn on the CPU, for each tile from the seed and the tile's place: it depends neither on the device
    nor on the order of the tiles. Half precision on CUDA, float32 elsewhere. Not for several threads at once: a
    pipeline's scheduler counts its steps.
    """

    def __init__(self, info: ToolInfo, pipeline: Any, kind: Kind, settings: Settings, tile: int | None) -> None:
        self._info = info
        self._kind = kind
        self._tile = tile
        self._multiple = multiple_of(pipeline, kind)
        self.settings = settings
        """How it is run."""
        self.pipeline = pipeline
        """The diffusers pipeline."""
        self.on_halving: Callable[[str], None] | None = None
        """Told one sentence when memory ran out and the tile is halved; `warnings.warn` if None."""

    @property
    def info(self) -> ToolInfo:
        """What is known of it."""
        return self._info

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        """Restore ``(1, 3, H, W)`` in [0, 1] to ``(1, 3, H * scale, W * scale)`` in [0, 1]; any ``seed`` will do.

        The same seed gives the same bits on the same machine and number of threads.

        Raises:
            ToolError: wrong shape, the pipeline failed or gave no numbers, or memory is short at the smallest tile.
        """
        check_image(image, self._info.name)
        source = image.detach().to("cpu", torch.float32).clamp(0, 1)
        # Without a tile there is one all the same when memory runs out.
        overlap = (self._tile or max(source.shape)) // SHARED
        try:
            result = tiled(
                partial(self._part, seed), placed(source), self._info.scale, self._tile, overlap, self.on_halving
            )
        except IqloopError:
            raise
        except Exception as error:  # pipelines and schedulers raise whatever a strange configuration provokes
            raise ToolError(f"{self._info.name} failed on {tuple(image.shape)}: {_reason(error)}") from error
        if not torch.isfinite(result).all():
            raise ToolError(
                f"{self._info.name} gave values that are not numbers: the folder or half precision is at fault"
            )
        return result.clamp(0, 1).to(image.device, image.dtype)

    def _part(self, seed: int, part: Tensor) -> Tensor:
        """One tile ``(1, 5, h, w)`` of `placed`."""
        top, left = (int(part[0, channel, 0, 0]) for channel in (3, 4))
        generator = torch.Generator().manual_seed(tile_seed(seed, top, left))
        height, width = (length * self._info.scale for length in part.shape[-2:])
        with unwarned():
            result = self._call(padded(part[:, :3], self._multiple), generator)
        return result[..., :height, :width]

    def _call(self, image: Tensor, generator: torch.Generator) -> Tensor:
        options: dict[str, Any] = {
            "num_inference_steps": self.settings.steps,
            "generator": generator,
            "output_type": "pt",
        }
        if self._kind.call == "latent":
            with _stepping_with(generator, self.pipeline.scheduler):
                # This pipeline alone takes tensors in [-1, 1].
                result: Tensor = self.pipeline(image=image * 2 - 1, **options).images
            return result
        options |= {"prompt": self.settings.prompt, "guidance_scale": self.settings.guidance}
        if self._kind.call == "refine":
            options["strength"] = self.settings.exact_strength
        else:
            options["noise_level"] = min(20, self.pipeline.config.max_noise_level)
        result = self.pipeline(image=image, **options).images
        return result

    def __repr__(self) -> str:
        return f"DiffusersTool({self._info.name!r}, {self._kind.runs})"


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """diffusers calls what itself, torch and numpy deprecate; whoever runs a pipeline cannot mend it."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


@contextlib.contextmanager
def _stepping_with(generator: torch.Generator, scheduler: Any) -> Iterator[None]:
    """`LDMSuperResolutionPipeline` keeps its generator from the scheduler, some of which draw noise in each step."""
    if "generator" not in inspect.signature(scheduler.step).parameters:
        yield
        return
    scheduler.step = partial(scheduler.step, generator=generator)
    try:
        yield
    finally:
        del scheduler.step


def load_pipeline_tool(
    folder: str | Path,
    name: str | None = None,
    treats: Sequence[Treatment] | None = None,
    device: str | torch.device = "cpu",
    tile: int | str | None = "auto",
    weights_licence: str = "unknown",
    prompt: str = "",
    strength: float | None = None,
    steps: int | None = None,
    guidance: float = 1.0,
) -> DiffusersTool:
    """A tool from a folder as diffusers saves it, with ``model_index.json``.

    Args:
        folder: of one of the classes in `KINDS`, its weights in ``.safetensors``.
        name: the tool's name; the folder's if None.
        treats: what it is for. If None: low-resolution for an upscaler, noise, compression and blur for a refiner.
        device: where it runs.
        tile: side of the tiles in input pixels, None for the whole image, or ``"auto"``: the size on which the network
            was trained.
        weights_licence: SPDX identifier if you know it; a folder records none.
        prompt: what the picture shows; neutral if empty.
        strength: for a refiner, in (0, 1]; `STRENGTH` if None. The higher, the less of the input is left.
        steps: of the whole schedule; the pipeline's own default if None.
        guidance: see `Settings`.

    Raises:
        PrerequisiteError: diffusers is not installed.
        ToolError: the folder is missing, incomplete, damaged, of another class, or its weights are pickled.
        UsageError: ``treats`` names something else, or a setting cannot be or has no effect on this kind.
    """
    folder = Path(folder)
    if not (tile is None or tile == "auto" or (isinstance(tile, int) and tile > 0)):
        raise UsageError(f"tile must be a positive number of pixels, None or 'auto', got {tile!r}")
    index = read_index(folder)
    kind = KINDS[index["_class_name"]]
    if strength is not None and kind.call != "refine":
        raise UsageError(f"{folder.name}: an upscaler has no strength, got {strength}")
    if prompt and kind.call == "latent":
        raise UsageError(f"{folder.name}: {kind.runs} reads no prompt, got {prompt!r}")
    settings = Settings(
        prompt, STRENGTH if strength is None else strength, kind.steps if steps is None else steps, guidance
    )
    pipeline = _build(folder, index, kind)
    side = trained_side(pipeline, kind) if tile == "auto" else tile
    assert side is None or isinstance(side, int)
    version = fingerprint(folder, pipeline, settings, side)
    info = _describe(folder, pipeline, kind, name or folder.name, treats, weights_licence, version)
    target = torch.device(device)
    try:
        pipeline.to(target, torch.float16 if target.type == "cuda" else torch.float32)
    except (RuntimeError, AssertionError) as error:
        raise ToolError(f"{folder.name}: cannot be put on {target}: {_reason(error)}") from error
    return DiffusersTool(info, pipeline, kind, settings, side)


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json`` of a folder of a known kind. Raises `ToolError`."""
    if not folder.is_dir():
        raise ToolError(f"{folder}: no such folder")
    path = folder / INDEX
    if not path.is_file():
        raise ToolError(
            f"{folder}: a folder without {INDEX} is no diffusers pipeline; name a model file, or its folder"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"{path}: damaged ({_reason(error)})") from error
    named = index.get("_class_name") if isinstance(index, dict) else None
    # A list would name a module of code in the folder.
    if not isinstance(named, str) or named not in KINDS:
        raise ToolError(f"{folder.name}: a pipeline of class {named}; expected one of {', '.join(KINDS)}")
    found: dict[str, Any] = index
    return found


def placed(image: Tensor) -> Tensor:
    """``(1, 3, H, W)`` with two more channels, each pixel's row and column: a tile cut out of it knows its place."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, dtype=image.dtype)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=image.dtype)[None].expand(height, width)
    return torch.cat([image, torch.stack([rows, columns])[None]], dim=1)


def tile_seed(seed: int, top: int, left: int) -> int:
    """A seed of 63 bits for the tile at a place; any whole number will do for ``seed``."""
    digest = hashlib.sha256(f"{seed},{top},{left}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def padded(image: Tensor, multiple: int) -> Tensor:
    """``(1, C, h, w)`` grown to the right and below to multiples of ``multiple``, by reflection to and fro.

    >>> padded(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 4)[0, 0, 0].tolist()
    [1.0, 2.0, 3.0, 2.0]
    """
    for axis in (-2, -1):
        length = image.shape[axis]
        # torch's own reflection cannot grow an image beyond its size.
        there = torch.arange(-(-length // multiple) * multiple, device=image.device) % max(2 * (length - 1), 1)
        image = image.index_select(axis, torch.minimum(there, 2 * (length - 1) - there))
    return image


def multiple_of(pipeline: Any, kind: Kind) -> int:
    """What the sides of an input must be divisible by, lest the pipeline resizes it or fails."""
    return _halvings(pipeline.unet if kind.call == "latent" else pipeline.vae)


def trained_side(pipeline: Any, kind: Kind) -> int:
    """Side in input pixels of the images on which the network was trained; at least 64."""
    size = pipeline.unet.config.sample_size
    size = min(size) if isinstance(size, (list, tuple)) else size
    if not size:
        return kind.extent
    return max(64, int(size) * (_halvings(pipeline.vae) if kind.call == "refine" else 1))


def _halvings(network: Any) -> int:
    """Input over smallest inner side: each block but the last halves."""
    return int(2 ** (len(network.config.block_out_channels) - 1))


def _build(folder: Path, index: dict[str, Any], kind: Kind) -> Any:
    """The pipeline on the CPU, its parts loaded one by one so that each is known to be whole."""
    try:
        import diffusers
    except ImportError as error:
        raise missing_extra("diffusers", "diffusion") from error
    quiet()
    made: Any = getattr(diffusers, kind.runs)
    takes = inspect.signature(made.__init__).parameters
    options: dict[str, Any] = {key: index[key] for key in takes if key in index and not isinstance(index[key], list)}
    options |= {key: _load(folder, key, index[key]) for key in takes if key not in LEFT_OUT and _names(index.get(key))}
    options |= {key: False for key in ("requires_safety_checker", "add_watermarker") if key in takes}
    for key, parameter in takes.items():
        if key != "self" and parameter.default is parameter.empty and key not in options:
            if key not in made._optional_components:
                raise ToolError(f"{folder.name}: {INDEX} names no {key}, which {kind.runs} needs")
            options[key] = None
    try:
        with unwarned():
            pipeline = made(**options)
    except Exception as error:  # constructors look into whatever parts they were given
        raise ToolError(f"{folder.name}: its parts do not make a {kind.runs} ({_reason(error)})") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _names(value: Any) -> bool:
    """Whether an entry of the index is library and class; a part that is not there has two nulls."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)


def _load(folder: Path, part: str, named: Sequence[str]) -> Any:
    """A network, scheduler or tokenizer out of its subfolder."""
    home, made = folder / part, _class(folder, part, named)
    if not home.is_dir():
        raise ToolError(f"{folder.name}: the subfolder {part} is missing")
    if any(home.rglob("*.py")):
        raise ToolError(f"{folder.name}: {part} comes with code, which is not run")
    try:
        with unwarned():
            return _network(folder, part, made) if issubclass(made, torch.nn.Module) else _settled(home, made)
    except IqloopError:
        raise
    except Exception as error:  # either library raises whatever a damaged file provokes
        raise ToolError(f"{folder.name}: {part} is incomplete or damaged ({_reason(error)})") from error


def _class(folder: Path, part: str, named: Sequence[str]) -> Any:
    """The class of a part; only what restores is let in, so that no file chooses what is called."""
    import diffusers
    import transformers

    library = {"diffusers": diffusers, "transformers": transformers}.get(named[0])
    made = getattr(library, named[1], None) if library is not None else None
    fitting = (
        diffusers.ModelMixin,
        diffusers.SchedulerMixin,
        transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase,
    )
    if not isinstance(made, type) or not issubclass(made, fitting):
        raise ToolError(f"{folder.name}: {part} is {'.'.join(named)}; expected a class of diffusers or transformers")
    return made


def _network(folder: Path, part: str, made: Any) -> Any:
    """A network with all its weights; those that a file lacks would be random."""
    variant, files = weights(folder / part)
    if not files:
        raise ToolError(
            f"{folder.name}: {part} has no .safetensors; pickled weights may run code and are not opened: "
            "save the pipeline again with safe_serialization=True"
        )
    network, told = made.from_pretrained(
        folder / part, variant=variant, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    missing = sorted(told["missing_keys"])
    if missing:
        raise ToolError(f"{folder.name}: {part} lacks {len(missing)} of its tensors, the first {missing[0]}")
    return network.eval()


def _settled(home: Path, made: Any) -> Any:
    # A tokenizer without its files is made silently, of special tokens alone.
    if "Tokenizer" in made.__name__ and not any((home / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise ToolError(f"{home.parent.name}: {home.name} has no vocab.json")
    return made.from_pretrained(home, local_files_only=True)


def weights(home: Path) -> tuple[str | None, list[Path]]:
    """Variant (``fp16`` where a folder has nothing else; None for the plain one) and weight files of a network."""
    variants: dict[str | None, list[Path]] = {}
    for path in sorted(home.glob("*.safetensors")):
        # model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors, model.fp16-00001-of-...
        middle = path.name.split(".")[1:-1]
        variants.setdefault(middle[0].partition("-")[0] if middle else None, []).append(path)
    if not variants:
        return None, []
    chosen = next((variant for variant in (None, "fp16") if variant in variants), next(iter(variants)))
    return chosen, variants[chosen]


def fingerprint(folder: Path, pipeline: Any, settings: Settings, tile: int | None) -> str:
    """16 hexadecimal digits of all that the output follows from: files by content, settings, tile, diffusers' version.

    By content, not by size: two trainings of one network have files of one size.
    """
    from diffusers import __version__

    files = [folder / INDEX]
    for part in sorted(name for name, component in pipeline.components.items() if component is not None):
        small = [path for path in (folder / part).iterdir() if path.suffix in (".json", ".txt")]
        files += sorted(small) + weights(folder / part)[1]
    digest = hashlib.sha256(repr((settings, tile, __version__)).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _describe(
    folder: Path,
    pipeline: Any,
    kind: Kind,
    name: str,
    treats: Sequence[Treatment] | None,
    weights_licence: str,
    version: str,
) -> ToolInfo:
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    scale = 1 if kind.call == "refine" else _halvings(pipeline.vae if kind.call == "upscale" else pipeline.vqvae)
    if scale not in (1, 2, 3, 4, 8):
        raise ToolError(f"{folder.name}: a {kind.runs} with scale {scale}; expected 2, 4 or 8")
    return ToolInfo(
        name=name,
        treats=kind.treats if treats is None else tuple(treats),
        summary=f"{kind.runs}, {parameters / 1e6:.4g} M parameters, {folder.name} (diffusers)",
        scale=scale,
        code_licence="Apache-2.0",
        weights_licence=weights_licence,
        cost="heavy",
        seeded=True,
        version=version,
        strength=0.8,
    )


def quiet() -> None:
    """Both libraries show bars and log advice while they load and run."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    # diffusers imports it where it is installed, and it tells of a faster kernel that it would fetch.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
