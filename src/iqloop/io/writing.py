"""The way out: Photo -> file, with all that came in and fits the format."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from iqloop.errors import ImageWriteError
from iqloop.io import deep, exif
from iqloop.io.files import refuse_existing, write_bytes_atomic
from iqloop.io.formats import WRITABLE
from iqloop.io.photo import Photo
from iqloop.io.words import JPEG_LIMIT, XMP_KEYWORD, Text, comment_of, iptc_segment

Array = NDArray[Any]

QUALITY: Final = 95
"""JPEG and lossy WebP; JPEG chroma is kept at full size (4:4:4)."""

_LUMA: Final = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as Pillow makes grey."""


class _Kept(NamedTuple):
    """What goes out beside samples and profile."""

    exif: bytes | None
    dpi: tuple[float, float] | None
    xmp: bytes | None
    text: Text
    iptc: bytes | None


def write(
    photo: Photo, path: str | Path, *, overwrite: bool = False, metadata: bool = True, software: str | None = None
) -> Path:
    """Write a photo in the format of the suffix, whole or not at all (see ``write_bytes_atomic``); return the path.

    PNG and TIFF keep everything: 16 bits, alpha, greyscale. WebP is 8-bit RGB(A), lossless unless the source was
    lossy. JPEG and BMP are 8-bit (a 16-bit photo is rounded, as the suffix asks for it); a photo whose alpha is not
    opaque is refused. JPEG is written at quality 95, 4:4:4.
    EXIF and XMP are kept in PNG, JPEG (packets of up to 65,000 bytes), WebP and TIFF; IPTC records in JPEG and TIFF; a
    JPEG's comment in JPEG and PNG, other text of a PNG in PNG. The ICC profile too, also with ``metadata=False`` as it
    defines the colours (BMP holds none of it). ``software`` goes into the EXIF Software tag, also with
    ``metadata=False``.
    Raises ImageWriteError.
    """
    path = Path(path)
    _format_of(path)
    refuse_existing(path, overwrite)
    return write_bytes_atomic(path, encode(photo, path, metadata=metadata, software=software), overwrite)


def encode(photo: Photo, path: str | Path, *, metadata: bool = True, software: str | None = None) -> bytes:
    """The bytes that :func:`write` would put into ``path``, of which only the suffix (and the name, in errors) matters.

    Raises ImageWriteError.
    """
    path = Path(path)
    name = _format_of(path)
    bits = photo.bit_depth if name in ("PNG", "TIFF") else 8
    samples = _samples(photo, bits)
    if name in ("JPEG", "BMP") and samples.shape[-1] in (2, 4):
        if int(samples[..., -1].min()) < 255:
            raise ImageWriteError(path, f"{name} cannot hold the transparency of this image: use .png")
        samples = samples[..., :-1]
    block = _exif_block(photo, metadata, software)
    kept = _Kept(block, photo.dpi, photo.xmp, photo.text, photo.iptc)
    if not metadata:
        kept = _Kept(block, None, None, (), None)
    try:
        if name == "TIFF":
            return deep.encode_tiff(samples, kept.exif, photo.icc, kept.dpi, kept.xmp, kept.iptc)
        if bits == 16:
            return deep.encode_png16(samples, kept.exif, photo.icc, kept.dpi, _words(kept))
        return _ENCODERS[name](samples, photo, kept)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        detail = str(error) or type(error).__name__
        raise ImageWriteError(
            path, f"{name} cannot hold this {photo.width} x {photo.height} image ({detail}): use .png"
        ) from error


def _format_of(path: Path) -> str:
    name = WRITABLE.get(path.suffix.lower())
    if name is None:
        got = path.suffix or "a name without a suffix"
        raise ImageWriteError(path, f"expected a name that ends in {' '.join(WRITABLE)}, got {got}")
    return name


def _samples(photo: Photo, bits: int) -> Array:
    """``(H, W, C)`` uint8 or uint16: grey or RGB, then alpha."""
    colour = _grey(photo.pixels) if photo.greyscale else photo.pixels
    planes = colour if photo.alpha is None else torch.cat([colour, photo.alpha])
    # Without torch's uint16, which has few operations: numpy converts.
    levels = planes.clamp(0, 1).mul(2**bits - 1).round().permute(1, 2, 0).contiguous().numpy()
    return levels.astype(np.uint16 if bits == 16 else np.uint8)


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """``(1, H, W)``: the common value where the channels agree, which rounding must not touch; else the luma."""
    red, green, blue = pixels
    if torch.equal(red, green) and torch.equal(red, blue):
        return pixels[:1]
    luma: torch.Tensor = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]
    return luma[None]


def _exif_block(photo: Photo, metadata: bool, software: str | None) -> bytes | None:
    block = photo.exif if metadata else None
    if software is None:
        return block
    try:
        return exif.with_software(block, software)
    except ValueError:  # a block made by hand: its other tags cannot be read by anyone
        return exif.with_software(None, software)


def _words(kept: _Kept) -> Text:
    """All that a PNG holds as text."""
    return kept.text if kept.xmp is None else (*kept.text, (XMP_KEYWORD, kept.xmp.decode()))


def _png(samples: Array, photo: Photo, kept: _Kept) -> bytes:
    words = PngInfo()
    for keyword, value in _words(kept):
        words.add_itxt(keyword, value)
    return _save(samples, "PNG", exif=kept.exif, icc_profile=photo.icc, dpi=kept.dpi, pnginfo=words)


def _jpeg(samples: Array, photo: Photo, kept: _Kept) -> bytes:
    return _save(
        samples,
        "JPEG",
        exif=b"Exif\0\0" + kept.exif if kept.exif else None,
        icc_profile=photo.icc,
        dpi=None if kept.dpi is None else tuple(round(value) for value in kept.dpi),
        xmp=kept.xmp if kept.xmp and len(kept.xmp) <= JPEG_LIMIT else None,
        extra=iptc_segment(kept.iptc) if kept.iptc else None,
        comment=comment_of(kept.text),
        quality=QUALITY,
        subsampling=0,
        optimize=False,
    )


def _webp(samples: Array, photo: Photo, kept: _Kept) -> bytes:
    return _save(
        samples,
        "WEBP",
        exif=kept.exif,
        # WebP has no grey: a profile for grey would not fit the RGB that is written.
        icc_profile=photo.icc if photo.icc and photo.icc[16:20] == b"RGB " else None,
        xmp=kept.xmp,
        lossless=photo.lossless,
        exact=True,
        quality=75 if photo.lossless else QUALITY,  # for lossless it means effort
    )


def _bmp(samples: Array, photo: Photo, kept: _Kept) -> bytes:
    return _save(samples, "BMP", dpi=kept.dpi)


_ENCODERS: Final[dict[str, Callable[[Array, Photo, _Kept], bytes]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "WEBP": _webp,
    "BMP": _bmp,
}


def _save(samples: Array, name: str, **options: Any) -> bytes:
    """Pillow's encoding of ``(H, W, C)`` uint8; options that are None are left out."""
    image = Image.fromarray(samples[..., 0] if samples.shape[-1] == 1 else samples)
    target = io.BytesIO()
    image.save(target, name, **{key: value for key, value in options.items() if value is not None})
    return target.getvalue()
