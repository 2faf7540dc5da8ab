"""Any image model that spandrel recognises, as a tool: load a file, check that it fits, run it in tiles.

spandrel (https://github.com/chaiNNer-org/spandrel, MIT) reads the architecture off the state dict. A file is opened
without running code from it: ``.safetensors`` holds none, ``.pth`` and ``.ckpt`` go through torch's weights-only
unpickler; TorchScript (``.pt``) is a program and is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from iqloop.errors import ToolError, UsageError
from iqloop.restorers.checksum import file_sha256
from iqloop.restorers.nafnet import quicken, seen_whole
from iqloop.restorers.tiling import tile_for, tiled
from iqloop.restorers.tool import TREATMENTS, Cost, ToolInfo, Treatment, check_image

TREATS: dict[str, tuple[Treatment, ...]] = {
    "DnCNN": ("noise",),
    "DRUNet": ("noise",),
    "SCUNet": ("noise",),
    "KBNet": ("noise",),
    "FBCNN": ("compression",),
    "FFTformer": ("blur",),
    "HVICIDNet": ("darken",),
    "RetinexFormer": ("darken",),
}
"""What the published weights of an architecture of purpose Restoration are for, where it is one thing."""
UNKNOWN: tuple[Treatment, ...] = ("noise", "blur", "compression")
"""What a Restoration model of any other architecture is taken to treat unless told."""
WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net")
"""Keys under which training programs keep the state dict, best first."""
OVERLAP = 32
"""Input pixels shared by neighbouring tiles of a model of which nobody said how far it sees."""
BLEND = 16
"""Input pixels over which tiles are blended where it is known: the rest of the overlap is left out."""


class SpandrelTool:
    """A model behind the tool contract. Made by `load_tool`.

    One-channel models (a grey DnCNN) run on R, G and B in turn: noise sits in each channel, and a luma-only run would
    leave its colour. Half precision on CUDA where the architecture supports it, float32 elsewhere.
    """

    def __init__(
        self,
        info: ToolInfo,
        descriptor: Any,
        tile: int | str | None = "auto",
        radius: int | None = None,
        view: int | None = None,
    ) -> None:
        self._info = info
        self._tile = tile
        self.radius = radius
        """Input pixels that a pixel depends on, on each side; then tiles change nothing. None if it is not known."""
        self.view = view
        """Longer side in pixels to which the whole image is shrunk for a NAFNet that pools over it: every tile is given
        the means of that, as it was trained with views of whole scenes. None: each tile pools for itself."""
        self.multiple = multiple_of(descriptor)
        """What tiles start at multiples of, and the sides that the model halves without a rest."""
        self.descriptor = descriptor
        """The spandrel ``ImageModelDescriptor``; its ``model`` is the network."""
        self.on_halving: Callable[[str], None] | None = None
        """Told one sentence when memory ran out and the tile is halved; `warnings.warn` if None."""

    @property
    def info(self) -> ToolInfo:
        """What is known of it."""
        return self._info

    def described(self, info: ToolInfo) -> SpandrelTool:
        """The same model under what a list says of it."""
        same = copy(self)
        same._info = info
        return same

    def restore(self, image: Tensor, seed: int = 0) -> Tensor:
        """Restore ``(1, 3, H, W)`` in [0, 1] to ``(1, 3, H * scale, W * scale)`` in [0, 1]; ``seed`` has no effect.

        Raises:
            ToolError: wrong shape, the model failed or gave no numbers, or memory is short at the smallest tile.
        """
        check_image(image, self._info.name)
        device: torch.device = self.descriptor.device
        source = image.detach().to("cpu", torch.float32)
        tile = tile_for(self.descriptor, self._tile, device, source)
        try:
            # Not inference mode, which spandrel enters for each tile: the caller may use the result in autograd.
            with torch.no_grad(), self._seen(source):
                result = tiled(
                    self._forward,
                    source,
                    self._info.scale,
                    tile,
                    OVERLAP if self.radius is None else 2 * self.radius + BLEND,
                    self.on_halving,
                    self.radius,
                    self.multiple,
                )
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ToolError(f"{self._info.name} failed on {tuple(image.shape)}: {error}") from error
        result = result.clone() if result.is_inference() else result
        return result.clamp_(0, 1).to(image.device, image.dtype)

    def _seen(self, source: Tensor) -> AbstractContextManager[None]:
        if self.view is None:
            return nullcontext()
        return seen_whole(self.descriptor.model, self._padded(self._placed(shrunk(source, self.view))))

    def _placed(self, part: Tensor) -> Tensor:
        return part.to(self.descriptor.device, self.descriptor.dtype).clamp(0, 1)

    def _forward(self, part: Tensor) -> Tensor:
        part = self._placed(part)
        if self.descriptor.input_channels == 3:
            return self._call(part)
        return torch.cat([self._call(channel) for channel in (part[:, i : i + 1] for i in range(3))], dim=1)

    def _call(self, part: Tensor) -> Tensor:
        height, width = part.shape[-2:]
        # A copy: networks may write into their input.
        result: Tensor = self.descriptor(self._padded(part).clone())
        # Tile by tile: a check of 12 megapixels at once would need more memory than the net.
        if not torch.isfinite(result).all():
            raise ToolError(
                f"{self._info.name} gave values that are not numbers: the file or half precision is at fault"
            )
        return result[..., : height * self._info.scale, : width * self._info.scale]

    def _padded(self, part: Tensor) -> Tensor:
        """The last row and column repeated up to sides that the model halves: it would pad with black itself."""
        right, below = (-length % self.multiple for length in (part.shape[-1], part.shape[-2]))
        return functional.pad(part, (0, right, 0, below), mode="replicate") if right or below else part

    def __repr__(self) -> str:
        return f"SpandrelTool({self._info.name!r}, {self.descriptor.architecture.name})"


def load_tool(
    path: str | Path,
    name: str | None = None,
    treats: Sequence[Treatment] | None = None,
    tile: int | str | None = "auto",
    device: str | torch.device = "cpu",
    weights_licence: str | None = None,
) -> SpandrelTool:
    """A tool from a model file.

    Args:
        path: ``.safetensors``, ``.pth`` or ``.ckpt``.
        name: the tool's name; the file's stem if None.
        treats: what it is for. If None: what the file says of itself (`iqloop train restorer` writes it);
            low-resolution for a model of scale 2 and more; what `TREATS` says of the architecture; else `UNKNOWN`.
        tile: side of the tiles in pixels, None for the whole image, or ``"auto"`` (`iqloop.restorers.tiling.tile_for`).
        device: where it runs.
        weights_licence: SPDX identifier if you know it; None takes what the file says, or ``unknown``.

    Raises:
        ToolError: the file is missing or unreadable, is of another kind, or holds a model that does not restore RGB.
        UsageError: ``treats`` names something else, or the tile is not positive.
    """
    path = Path(path)
    if not (tile is None or tile == "auto" or (isinstance(tile, int) and tile > 0)):
        raise UsageError(f"tile must be a positive number of pixels, None or 'auto', got {tile!r}")
    descriptor = _recognise(read_state_dict(path), path)
    _check(descriptor, path)
    said = read_metadata(path)
    treats = treats or _treats_in(said.get("treats", ""))
    licence = weights_licence or said.get("licence", "unknown")
    info = _describe(descriptor, path, name or path.stem, treats, licence)
    if descriptor.architecture.id == "NAFNet":
        quicken(descriptor.model)
    own = "iqloop" in said
    if own:
        # A third faster on a CPU; models of others may look at their tensors as if they were laid out otherwise.
        descriptor.model.to(memory_format=torch.channels_last)
    target = torch.device(device)
    half = target.type == "cuda" and descriptor.supports_half
    try:
        descriptor.to(target, torch.float16 if half else torch.float32).eval()
    except (RuntimeError, AssertionError) as error:
        raise ToolError(f"{path.name}: cannot be put on {target}: {error}") from error
    radius, view = (int(said[key]) if own and said.get(key, "").isdecimal() else None for key in ("radius", "view"))
    return SpandrelTool(info, descriptor, tile, radius, view)


def shrunk(image: Tensor, longest: int) -> Tensor:
    """``(1, C, H, W)`` with its longer side at most ``longest`` pixels, by the mean of what falls together."""
    height, width = image.shape[-2:]
    if max(height, width) <= longest:
        return image
    size = [max(1, round(side * longest / max(height, width))) for side in (height, width)]
    return functional.interpolate(image, size, mode="area")


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a ``.safetensors`` file, such as `iqloop train restorer` writes; else none."""
    from safetensors import safe_open

    if path.suffix.lower() != ".safetensors":
        return {}
    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata() or {})


def multiple_of(descriptor: Any) -> int:
    """What the sides of a model's input are best a multiple of: a power of two for each time that it halves them."""
    if descriptor.architecture.id == "NAFNet":
        return int(descriptor.model.padder_size)
    return max(1, int(descriptor.size_requirements.multiple_of))


def _treats_in(text: str) -> tuple[Treatment, ...] | None:
    found = tuple(known for known in TREATMENTS if known in text.split("+"))
    return found or None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a model file, unwrapped; nothing in the file is executed. Raises `ToolError`."""
    if not path.is_file():
        raise ToolError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind == ".safetensors":
        loaded = _read_safetensors(path)
    elif kind in (".pth", ".ckpt"):
        loaded = _read_pickle(path)
    elif kind == ".pt":
        raise ToolError(f"{path.name}: .pt may be TorchScript, a program, and is not run: save it as .safetensors")
    else:
        raise ToolError(f"{path.name}: expected .safetensors, .pth or .ckpt, got {kind or 'no extension'!r}")
    return _unwrap(loaded, path)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ToolError(f"{path.name}: damaged or not a safetensors file ({error})") from error


def _read_pickle(path: Path) -> Any:
    from pickle import UnpicklingError

    try:
        with warnings.catch_warnings():
            # torch warns of the archive's make-up before it refuses it; the error below says all.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise ToolError(f"{path.name}: refused, it is damaged or holds more than tensors ({reason})") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ToolError(f"{path.name}: damaged or not a torch file ({reason})") from error


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict itself, out of the wrappers of training programs; ``module.`` of DataParallel removed."""
    for _ in range(2):
        if isinstance(loaded, dict):
            inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict)), None)
            loaded = loaded if inner is None else inner
    if not isinstance(loaded, dict) or not loaded:
        raise ToolError(f"{path.name}: expected a state dict of tensors, got {type(loaded).__name__}")
    state = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not state:
        raise ToolError(f"{path.name}: holds no tensors")
    for prefix in ("module.", "netG."):
        if all(key.startswith(prefix) for key in state):
            state = {key[len(prefix) :]: value for key, value in state.items()}
    return state


def _recognise(state: dict[str, Tensor], path: Path) -> Any:
    from spandrel import ModelLoader, UnsupportedModelError

    sample = ", ".join(sorted(state)[:3])
    try:
        return ModelLoader(device="cpu").load_from_state_dict(state)
    except UnsupportedModelError as error:
        raise ToolError(
            f"{path.name}: not an image model that spandrel knows ({len(state)} tensors: {sample}, ...)"
        ) from error
    except Exception as error:  # detectors and constructors of 42 architectures raise whatever a strange dict provokes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ToolError(f"{path.name}: looks like a known image model but does not load ({reason})") from error


def _check(descriptor: Any, path: Path) -> None:
    from spandrel import ImageModelDescriptor

    found = f"{path.name}: detected as {descriptor.architecture.name}"
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ToolError(f"{found}, an inpainting model that needs a mask; expected a model from image to image")
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels not in ((3, 3), (1, 1)):
        raise ToolError(f"{found} with {channels[0]} channels in, {channels[1]} out; expected 3 and 3, or 1 and 1")
    if descriptor.scale not in (1, 2, 3, 4, 8):
        raise ToolError(f"{found} with scale {descriptor.scale}; expected 1, 2, 3, 4 or 8")


def _describe(
    descriptor: Any, path: Path, name: str, treats: Sequence[Treatment] | None, weights_licence: str
) -> ToolInfo:
    architecture = descriptor.architecture
    if treats is None:
        treats = ("low-resolution",) if descriptor.scale > 1 else TREATS.get(str(architecture.id), UNKNOWN)
    parameters = sum(p.numel() for p in descriptor.model.parameters())
    cost: Cost = "light" if parameters < 5e4 else "medium" if parameters < 2e6 else "heavy"
    return ToolInfo(
        name=name,
        treats=tuple(treats),
        summary=f"{architecture.name}, {parameters / 1e6:.2g} M parameters, {path.name} (spandrel)",
        scale=descriptor.scale,
        # The architectures in spandrel's main package are MIT, Apache-2.0 or BSD; the package is MIT.
        code_licence="MIT",
        weights_licence=weights_licence,
        cost=cost,
        version=file_sha256(path)[:16],
        strength=0.7,
    )
