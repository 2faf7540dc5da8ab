"""The photo: pixels in memory, and all that has to be written back with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from iqloop.errors import UsageError
from iqloop.io.words import Text

BitDepth = Literal[8, 16]


@dataclass(frozen=True, eq=False)
class Photo:
    """An image as the toolkit sees it. Pixels stay in the file's own encoding; see ``icc``."""

    pixels: Tensor
    """``(3, H, W)`` float32 in [0, 1] on the CPU, upright; greyscale is replicated to three channels."""
    alpha: Tensor | None
    """``(1, H, W)`` float32 in [0, 1], not multiplied into the pixels; None for an image without alpha."""
    bit_depth: Literal[8, 16]
    """Bits per sample to write again where the format can hold them. Float arrays count as 8, float TIFF as 16."""
    greyscale: bool
    """The source had one colour channel, and the output gets one."""
    format: str
    """``PNG``, ``JPEG``, ``WEBP``, ``TIFF``, ``BMP`` or ``GIF``; empty for arrays."""
    exif: bytes | None
    """TIFF-structured block (begins with ``II`` or ``MM``). Orientation is 1: it has been applied to the pixels.
    The embedded thumbnail is unlinked, as it shows the image before restoration."""
    icc: bytes | None
    """Colour profile of the pixels, or None for sRGB. An RGB profile other than sRGB (Display P3, Adobe RGB) is not
    converted: tools work in the file's own encoding, and the profile goes out with the result."""
    path: Path | None
    """Where it was read from."""
    frames: int
    """More than 1 for an animation or a multi-page file, of which ``pixels`` hold the first frame."""
    sha256: str
    """Hash of the file's bytes; of the pixels for arrays and after :meth:`with_pixels`."""
    lossless: bool = True
    """The source was not lossily compressed: decides how a WebP is written."""
    dpi: tuple[float, float] | None = None
    """Printing resolution, in dots per inch, horizontally and vertically."""
    xmp: bytes | None = None
    """XMP packet in UTF-8, its orientation 1 and its previews removed; None also where it describes more than the
    picture."""
    text: Text = ()
    """Keywords and values of a PNG's text; a JPEG's comment under ``Comment``."""
    iptc: bytes | None = None
    """IPTC records (IIM) of a JPEG or TIFF, their previews removed."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[-2])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[-1])

    @property
    def megapixels(self) -> float:
        """Millions of pixels."""
        return self.height * self.width / 1e6

    def with_pixels(self, pixels: Tensor, alpha: Tensor | Literal["keep"] | None = "keep") -> Photo:
        """The same photo with new pixels, its metadata untouched.

        ``pixels`` is ``(3, H, W)`` or ``(1, 3, H, W)``, any float type and device; values are clamped to [0, 1].
        ``alpha`` is ``(1, H, W)`` or None; by default the present one is kept, resampled if the size has changed.
        Raises UsageError for another shape or for NaN.
        """
        fresh = _checked(pixels, 3, "pixels")
        size = fresh.shape[-2:]
        plane = self.alpha if isinstance(alpha, str) else alpha
        if plane is not None:
            plane = _checked(plane, 1, "alpha")
            if plane.shape[-2:] != size and isinstance(alpha, str):
                plane = F.interpolate(plane[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
            if plane.shape[-2:] != size:
                raise UsageError(f"expected alpha of the size of the pixels, {tuple(size)}, got {tuple(plane.shape)}")
        return replace(self, pixels=fresh, alpha=plane, sha256=hash_pixels(fresh, plane))


def hash_pixels(pixels: Tensor, alpha: Tensor | None) -> str:
    """SHA-256 of shape and values, for images that never were a file."""
    digest = hashlib.sha256(str(tuple(pixels.shape)).encode())
    for plane in (pixels, alpha):
        if plane is not None:
            digest.update(plane.contiguous().numpy().data)
    return digest.hexdigest()


def _checked(tensor: Tensor, channels: int, name: str) -> Tensor:
    fresh = tensor.detach()
    if fresh.ndim == 4 and fresh.shape[0] == 1:
        fresh = fresh[0]
    if fresh.ndim != 3 or fresh.shape[0] != channels or not fresh.is_floating_point() or fresh.numel() == 0:
        raise UsageError(f"expected {name} ({channels}, H, W) in float, got {tuple(tensor.shape)} {tensor.dtype}")
    fresh = fresh.to("cpu", torch.float32)
    if not bool(torch.isfinite(fresh).all()):
        raise UsageError(f"expected finite {name}, got NaN or infinity: the tool that made them has failed")
    return fresh.clamp(0, 1)
