"""Which formats are read and written, and what a file that is neither looks like."""

from __future__ import annotations

from typing import Final

WRITABLE: Final[dict[str, str]] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Suffix (lower case) -> format that it is written in."""

READABLE: Final[tuple[str, ...]] = (*WRITABLE, ".gif")
"""Suffixes that are looked for in folders; a file named explicitly may have any name."""

PILLOW_FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""The decoders that may run: fewer decoders, less that a hostile file can reach."""

EXPECTED: Final = "PNG, JPEG, WebP, TIFF, BMP or GIF"

_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG", "a damaged PNG"),
    (0, b"\xff\xd8\xff", "a damaged JPEG"),
    (0, b"II*\0", "a damaged TIFF, or one of a kind that is not supported"),
    (0, b"MM\0*", "a damaged TIFF, or one of a kind that is not supported"),
    (0, b"BM", "a damaged BMP"),
    (0, b"GIF8", "a damaged GIF"),
    (0, b"RIFF", "a damaged WebP, or a sound or video"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF"),
)


def describe(data: bytes) -> str:
    """What ``data`` looks like, in a few words, for an error message."""
    for offset, signature, name in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return name
    head = data[:16]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"text that begins with {head.decode('ascii')!r}"
    return f"data that begins with {head[:8].hex(' ')}"


def is_tiff(data: bytes) -> bool:
    """Whether ``data`` begins as a TIFF or BigTIFF does."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def webp_is_lossless(data: bytes) -> bool:
    """Whether the first picture of a WebP file is losslessly coded: its first image chunk is ``VP8L``."""
    offset = 12
    while offset + 8 <= len(data):
        name, size = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        if name in (b"VP8L", b"VP8 "):
            return name == b"VP8L"
        # An animation frame holds its picture after 16 bytes of placement: step into it instead of over it.
        offset += 8 + 16 if name == b"ANMF" else 8 + size + size % 2
    return False
