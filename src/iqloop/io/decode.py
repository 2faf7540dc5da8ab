"""The bytes of a file -> Photo: every mode, orientation applied once, metadata ready to be written again.

Pillow decodes and reads the metadata; ``deep.py`` decodes the 16-bit colour that Pillow would flatten.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from iqloop.errors import ImageReadError
from iqloop.io import deep, exif
from iqloop.io.arrays import planes
from iqloop.io.formats import EXPECTED, PILLOW_FORMATS, describe, is_tiff, webp_is_lossless
from iqloop.io.photo import Photo, hash_pixels
from iqloop.io.pillow_state import strict_pillow
from iqloop.io.webp import is_webp, webp_size
from iqloop.io.words import (
    IPTC_RESOURCE,
    XMP_KEYWORD,
    Text,
    carried_comment,
    carried_iptc,
    carried_text,
    carried_xmp,
)

Array = NDArray[Any]

MAX_PIXELS: Final = 400_000_000
"""The largest image that is decoded, in pixels: 400 megapixels are 4.8 GB as float32 RGB. A small file that claims
more is taken for a decompression bomb. Only files are checked; an array is in memory already."""


def decode(data: bytes, path: Path | None) -> Photo:
    """The photo in ``data``; ``path`` names it in errors. Raises ImageReadError."""
    if not data:
        raise ImageReadError(path, "the file is empty, expected an image: copy or export it again")
    try:
        with strict_pillow():
            return _decode(data, path)
    except ImageReadError:
        raise
    except UnidentifiedImageError as error:
        raise ImageReadError(
            path, f"is not an image that is understood: expected {EXPECTED}, got {describe(data)}; convert it first"
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error


def from_pillow(image: Image.Image) -> Photo:
    """The photo in a PIL image, of which ``format`` and metadata are taken over. Raises ImageReadError.

    Pillow has reduced 16-bit colour to 8 bits by now: pass the path to keep it.
    """
    try:
        with strict_pillow():
            return _assemble(image, None, None, None)
    except ImageReadError:
        raise
    except Exception as error:
        raise _damaged(None, error) from error


def _decode(data: bytes, path: Path | None) -> Photo:
    tiff = None
    if is_tiff(data):
        tiff = deep.probe_tiff(data)
        if tiff is not None:
            _check_size(tiff.width, tiff.height, path)
    if is_webp(data):
        # Even to open one, libwebp fills a canvas of the size that it claims.
        _check_size(*webp_size(data), path)
    try:
        image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        if tiff is None:
            raise
        return _from_deep_tiff(tiff, data, path)
    with image:
        return _assemble(image, data, tiff, path)


def _assemble(image: Image.Image, data: bytes | None, tiff: deep.DeepTiff | None, path: Path | None) -> Photo:
    """Pixels and metadata of an opened image; ``data`` is its file, or None for an image that came from elsewhere."""
    _check_size(*image.size, path)
    metadata = _exif_of(image)
    stored = metadata.get(exif.ORIENTATION, 1)
    image.load()
    # Pillow turns the pixels of a TIFF while it loads them, and then forgets the tag; others it leaves as stored.
    pending = _exif_of(image).get(exif.ORIENTATION, 1)
    name = {"MPO": "JPEG", "DIB": "BMP"}.get(image.format or "", image.format or "")
    icc = image.info.get("icc_profile")
    samples = None if data is None else _deep_samples(image, data, tiff)
    if samples is not None:
        pending = stored
    else:
        samples, icc = _samples(image, icc, path)
    pixels, alpha, greyscale = planes(_turned(samples, pending), path)
    if image.mode == "P" and icc is None:
        # A palette of greys is how GIF and BMP store greyscale.
        greyscale = bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    return Photo(
        pixels=pixels,
        alpha=alpha,
        bit_depth=_bit_depth(samples),
        greyscale=greyscale,
        format=name,
        exif=_exif_block(image, metadata),
        icc=_fitting_profile(icc, greyscale),
        path=path,
        # The further pictures of a JPEG (MPO) are previews or the other eye, not an animation.
        frames=1 if name == "JPEG" else int(getattr(image, "n_frames", 1)),
        sha256=hash_pixels(pixels, alpha) if data is None else hashlib.sha256(data).hexdigest(),
        lossless=name != "JPEG" and (name != "WEBP" or data is None or webp_is_lossless(data)),
        dpi=_dpi(image),
        # Of a PNG "xmp" may be any text that somebody called so.
        xmp=carried_xmp(image.info.get(XMP_KEYWORD if image.format == "PNG" else "xmp")),
        text=_text(image, name),
        iptc=carried_iptc(_iptc(image)),
    )


def _text(image: Image.Image, name: str) -> Text:
    if name == "PNG":
        return carried_text(image.info)
    return carried_comment(image.info.get("comment")) if name == "JPEG" else ()


def _iptc(image: Image.Image) -> object:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(deep.IPTC_TAG)
    resources = image.info.get("photoshop")
    return resources.get(IPTC_RESOURCE) if isinstance(resources, dict) else None


def _from_deep_tiff(tiff: deep.DeepTiff, data: bytes, path: Path | None) -> Photo:
    """A layout that Pillow does not know at all, such as float RGB: without EXIF."""
    samples = tiff.decode()
    pixels, alpha, greyscale = planes(_turned(samples, tiff.orientation), path)
    return Photo(
        pixels=pixels,
        alpha=alpha,
        bit_depth=16,
        greyscale=greyscale,
        format="TIFF",
        exif=None,
        icc=_fitting_profile(tiff.icc, greyscale),
        path=path,
        frames=tiff.pages,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _deep_samples(image: Image.Image, data: bytes, tiff: deep.DeepTiff | None) -> Array | None:
    """16-bit samples with colour or alpha, as stored; None if Pillow's are as good."""
    if tiff is not None:
        return tiff.decode()
    # Depth and colour type are bytes 24 and 25 of every PNG. Grey without alpha Pillow reads in full.
    if image.format != "PNG" or data[24] != 16:
        return None
    grey = data[25] in (0, 4)
    key = image.info.get("transparency")
    if data[25] == 0 and key is None:
        return None
    array = deep.decode_cv2(data)
    if array.ndim == 2:  # OpenCV applies the transparent colour of RGB, but not that of grey
        return np.stack([array, np.where(array == key, 0, 65535).astype(np.uint16)], axis=-1)
    return array[..., [0, 3]] if grey else deep.swap_red_blue(array)


def _samples(image: Image.Image, icc: bytes | None, path: Path | None) -> tuple[Array, bytes | None]:
    """``(H, W[, C])`` samples of a loaded image, and the profile that fits them."""
    mode = image.mode
    if mode == "CMYK":
        return np.asarray(_cmyk_to_srgb(image, icc)), None
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")), None
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), icc
    if mode == "I":
        array = np.asarray(image)
        if array.min() < 0 or array.max() > 65535:
            raise ImageReadError(
                path, f"expected integer samples in [0, 65535], got [{array.min()}, {array.max()}]: rescale them"
            )
        return array.astype(np.uint16), icc
    if mode == "F":
        return np.asarray(image), icc
    transparent = image.has_transparency_data
    if mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("LA" if transparent else "L")), icc
    return np.asarray(image.convert("RGBA" if transparent else "RGB")), icc


def _cmyk_to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """By the embedded profile if there is a usable one, else by Pillow's plain formula."""
    if icc and icc[16:20] == b"CMYK":
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _turned(array: Array, orientation: int) -> Array:
    """The array upright, by the EXIF orientation (1 to 8; anything else counts as 1)."""
    match orientation:
        case 2:
            return array[:, ::-1]
        case 3:
            return array[::-1, ::-1]
        case 4:
            return array[::-1]
        case 5:
            return array.swapaxes(0, 1)
        case 6:
            return array[::-1].swapaxes(0, 1)
        case 7:
            return array[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return array[:, ::-1].swapaxes(0, 1)
    return array


def _exif_of(image: Image.Image) -> Image.Exif:
    """The EXIF tags; none if they are damaged, for which the picture need not suffer."""
    try:
        return image.getexif()
    except Exception:
        return Image.Exif()


def _exif_block(image: Image.Image, metadata: Image.Exif) -> bytes | None:
    """The EXIF block to write again, byte for byte the file's but for orientation and thumbnail."""
    try:
        if image.format == "TIFF":
            return exif.from_pillow(metadata)
        raw = image.info.get("exif")
        if isinstance(raw, bytes):
            return exif.upright(raw.removeprefix(b"Exif\0\0"))
        return exif.upright(metadata.tobytes().removeprefix(b"Exif\0\0")) if len(metadata) else None
    except Exception:
        return None


def _fitting_profile(icc: bytes | None, greyscale: bool) -> bytes | None:
    """The profile if it describes such pixels: a CMYK profile on RGB would ruin them."""
    spaces = (b"RGB ", b"GRAY") if greyscale else (b"RGB ",)
    return icc if icc and icc[16:20] in spaces else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    usable = all(math.isfinite(value) and 1 <= value <= 65535 for value in (across, down))
    return (across, down) if usable else None


def _bit_depth(samples: Array) -> Literal[8, 16]:
    return 8 if samples.dtype in (np.uint8, np.bool_) else 16


def _check_size(width: int, height: int, path: Path | None) -> None:
    if width * height > MAX_PIXELS:
        raise ImageReadError(
            path,
            f"is too large: expected at most {MAX_PIXELS // 1_000_000} megapixels, got {width} x {height} = "
            f"{width * height / 1e6:.0f}; cut it into parts",
        )


def _damaged(path: Path | None, error: Exception) -> ImageReadError:
    if isinstance(error, MemoryError):
        return ImageReadError(path, "not enough memory to decode it: free some, or cut the image into parts")
    detail = "" if isinstance(error, cv2.error) else (str(error).strip().splitlines() or [""])[0]
    detail = detail or type(error).__name__
    return ImageReadError(
        path, f"is damaged or cut short ({detail}): expected a complete image; copy or export it again"
    )
