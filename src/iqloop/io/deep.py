"""Sixteen bits per sample: what Pillow flattens to eight on reading and cannot write.

PNG reading is left to OpenCV, TIFF to tifffile: OpenCV gets separate planes, two samples and orientation wrong.
Writing is small enough to do here, which keeps grey-with-alpha and all metadata: PNG (ISO/IEC 15948) and TIFF 6.0.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from iqloop.io.exif import DESCRIPTIVE, Field, byte_order, with_fields

Array = NDArray[Any]

IPTC_TAG: Final = 0x83BB
"""TIFF's tag for IPTC records."""

_LEVEL: Final = 3  # zlib: a third of the time of level 6 for a few per cent more bytes
_STRIP_BYTES: Final = 1 << 20
_MINISWHITE, _MINISBLACK, _RGB = 0, 1, 2


@dataclass(frozen=True)
class DeepTiff:
    """A TIFF of more than eight bits in several samples, seen without Pillow."""

    width: int
    height: int
    orientation: int
    icc: bytes | None
    grey: bool
    pages: int
    data: bytes

    def decode(self) -> Array:
        """``(H, W, C)`` uint16 or float, as stored (not yet turned). Raises ValueError if that fails."""
        import tifffile

        with tifffile.TiffFile(io.BytesIO(self.data)) as file:
            page: Any = file.pages[0]
            try:
                array = page.asarray()
            except ValueError:
                # LZW and the like, which tifffile leaves to an optional package and OpenCV reads
                if page.planarconfig != 1 or page.samplesperpixel not in (3, 4):
                    raise
                array = swap_red_blue(decode_cv2(_with_plain_orientation(self.data, file.byteorder, page)))
            else:
                if page.planarconfig == 2 and page.samplesperpixel > 1:
                    array = np.moveaxis(array, 0, -1)
            premultiplied = 1 in page.extrasamples
            inverted = page.photometric == _MINISWHITE
        array = array.reshape(self.height, self.width, -1)
        if array.dtype.kind == "u" and array.dtype != np.uint16:
            raise ValueError(f"samples of {array.dtype} are not supported")
        if inverted:
            array = (65535 if array.dtype == np.uint16 else 1) - array
        return _unpremultiplied(array) if premultiplied else array


def probe_tiff(data: bytes) -> DeepTiff | None:
    """The first page of a TIFF if it is grey+alpha, RGB, RGBA or white-is-zero, of 16 bits or float; else None.

    Raises ValueError (or what tifffile raises) if the file is damaged; a page whose data lies beyond the end of
    the file is, though tifffile would fill it up with zeros.
    """
    import tifffile  # here, because it takes a fifth of a second and few files are TIFFs

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        coloured = 2 <= page.samplesperpixel <= 4 and page.photometric in (_MINISBLACK, _RGB)
        inverted = page.samplesperpixel == 1 and page.photometric == _MINISWHITE
        if page.bitspersample < 16 or not (coloured or inverted):
            return None
        if any(start + size > len(data) for start, size in zip(page.dataoffsets, page.databytecounts, strict=False)):
            raise ValueError("the file is truncated")
        tag = page.tags.get(0x0112)
        return DeepTiff(
            width=page.imagewidth,
            height=page.imagelength,
            orientation=int(tag.value) if tag is not None else 1,
            icc=page.iccprofile,
            grey=page.photometric != _RGB,
            pages=len(file.pages),
            data=data,
        )


def decode_cv2(data: bytes) -> Array:
    """Samples as OpenCV stores them: ``(H, W)`` or ``(H, W, C)`` with blue first. Raises ValueError."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("the samples cannot be decoded")
    return np.asarray(array)


def swap_red_blue(array: Array) -> Array:
    """``(H, W, C)`` with channels 0 and 2 exchanged, for C of 3 or 4."""
    return array[..., [2, 1, 0, 3][: array.shape[-1]]]


def encode_png16(
    samples: Array,
    exif: bytes | None,
    icc: bytes | None,
    dpi: tuple[float, float] | None,
    words: Iterable[tuple[str, str]] = (),
) -> bytes:
    """PNG of ``(H, W, C)`` uint16, C = 1, 2, 3 or 4; ``words`` are keywords (Latin-1) and values of text."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    # Filter type 2, "up": each byte less the one above it, modulo 256.
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    packed = zlib.compress(filtered.data, _LEVEL)
    parts = [b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if icc:
        parts.append(png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if dpi:
        parts.append(png_chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1)))
    if exif:
        parts.append(png_chunk(b"eXIf", exif))
    # Not compressed, without a language and without a translated keyword.
    parts += [png_chunk(b"iTXt", name.encode("latin-1") + bytes(5) + value.encode()) for name, value in words]
    parts += [png_chunk(b"IDAT", packed[at : at + _STRIP_BYTES]) for at in range(0, len(packed), _STRIP_BYTES)]
    return b"".join([*parts, png_chunk(b"IEND", b"")])


def png_chunk(name: bytes, data: bytes) -> bytes:
    """One PNG chunk: length, name, data and the checksum over name and data."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def encode_tiff(
    samples: Array,
    exif: bytes | None,
    icc: bytes | None,
    dpi: tuple[float, float] | None,
    xmp: bytes | None = None,
    iptc: bytes | None = None,
) -> bytes:
    """TIFF of ``(H, W, C)`` uint8 or uint16, C = 1, 2, 3 or 4: deflate with horizontal differences, in strips.

    The EXIF block is the start of the file, so all that it points to stays where it was.
    """
    order = byte_order(exif)
    height, width, channels = samples.shape
    rows_per_strip = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = []
    for top in range(0, height, rows_per_strip):
        rows = samples[top : top + rows_per_strip].copy()
        rows[:, 1:] -= samples[top : top + rows_per_strip, :-1]
        strips.append(zlib.compress(rows.astype(rows.dtype.newbyteorder(order)).tobytes(), _LEVEL))
    start = exif or (b"II*\0" + bytes(4))
    sizes = [len(strip) for strip in strips]
    offsets = [int(place) for place in np.cumsum([len(start), *sizes[:-1]])]
    bits = samples.itemsize * 8
    fields: dict[int, Field] = {
        0x0100: (4, (width,)),
        0x0101: (4, (height,)),
        0x0102: (3, (bits,) * channels),
        0x0103: (3, (8,)),  # compression: deflate
        0x0106: (3, (_RGB if channels > 2 else _MINISBLACK,)),
        0x0111: (4, tuple(offsets)),
        0x0115: (3, (channels,)),
        0x0116: (4, (rows_per_strip,)),
        0x0117: (4, tuple(sizes)),
        0x011C: (3, (1,)),  # samples of a pixel side by side
        0x013D: (3, (2,)),  # predictor: horizontal differences
    }
    if channels in (2, 4):
        fields[0x0152] = (3, (2,))  # the extra sample is alpha, not multiplied in
    if icc:
        fields[0x8773] = (7, icc)
    if xmp:
        fields[0x02BC] = (1, xmp)
    if iptc:
        fields[IPTC_TAG] = (7, iptc)
    if dpi:
        fields |= {0x011A + axis: (5, (round(value * 1000), 1000)) for axis, value in enumerate(dpi)}
        fields[0x0128] = (3, (2,))  # per inch
    return with_fields(b"".join([start, *strips]), fields, keep=DESCRIPTIVE)


def _with_plain_orientation(data: bytes, order: str, page: Any) -> bytes:
    """The file with its orientation tag set to 1: OpenCV turns a TIFF even when told to leave it."""
    tag = page.tags.get(0x0112)
    if tag is None:
        return data
    return data[: tag.valueoffset] + struct.pack(order + "H", 1) + data[tag.valueoffset + 2 :]


def _unpremultiplied(array: Array) -> Array:
    whole = 65535.0 if array.dtype == np.uint16 else 1.0
    alpha = array[..., -1:].astype(np.float64) / whole
    colour = np.clip(array[..., :-1] / np.maximum(alpha, 1e-9), 0, whole)
    return np.concatenate([np.rint(colour) if whole > 1 else colour, array[..., -1:]], axis=-1).astype(array.dtype)
