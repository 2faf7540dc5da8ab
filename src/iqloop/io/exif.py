"""Changing fields of an EXIF block without moving anything else in it.

An EXIF block is a small TIFF file: a header that points to a directory (IFD0) whose entries point to data anywhere in
the block. A changed directory is appended and the header pointed to it, so every old offset stays true; rewriting the
block instead would break maker notes, which hold offsets that only the camera's maker understands. As a TIFF file has
the same structure, the TIFF writer appends its directory with the same function.

Layout: TIFF 6.0 (Adobe, 1992), section 2; EXIF 2.32 (CIPA DC-008), section 4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, Literal

from PIL import Image

Field = tuple[int, bytes | tuple[int, ...]]
"""TIFF type and value: 2 ASCII and 7 UNDEFINED as bytes; 3 SHORT, 4 LONG and 5 RATIONAL (flattened) as integers."""

ByteOrder = Literal["<", ">"]

ORIENTATION: Final = 0x0112
SOFTWARE: Final = 0x0131
_ASCII, _SHORT, _UNDEFINED = 2, 3, 7
_EMPTY: Final = b"II*\0\0\0\0\0"
_CODES: Final = {3: "H", 4: "I", 5: "I"}
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825

DESCRIPTIVE: Final = frozenset(
    # ImageDescription, Make, Model, resolution (3), Software, DateTime, Artist, HostComputer, Copyright, sub-IFDs, XP*
    {0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, _EXIF_IFD, _GPS_IFD}
    | set(range(0x9C9B, 0x9CA0))
)
"""Tags of IFD0 that describe the photograph; the others of a TIFF file describe how its pixels are stored."""


def upright(block: bytes) -> bytes:
    """The block with orientation 1 and its thumbnail unlinked; unchanged if that is how it is.

    Raises ValueError if the block is malformed.
    """
    order, entries, following = _parse(block)
    held = entries.get(ORIENTATION)
    turned = held is not None and held[8:10] != struct.pack(order + "H", 1)
    if not turned and not following:
        return block
    return with_fields(block, {ORIENTATION: (_SHORT, (1,))} if turned else {})


def with_software(block: bytes | None, software: str) -> bytes:
    """The block, or a new one, with the Software tag set. Raises ValueError if the block is malformed."""
    text = software.encode("ascii", "replace") + b"\0"
    return with_fields(block or _EMPTY, {SOFTWARE: (_ASCII, text)})


def with_fields(block: bytes, fields: Mapping[int, Field], keep: frozenset[int] | None = None) -> bytes:
    """The block with a new IFD0, the last in its chain: the old entries (only those in ``keep``, if given) and
    ``fields``, which win. Raises ValueError if the block is malformed."""
    block = block or _EMPTY
    order, old, _ = _parse(block)
    entries = {tag: entry for tag, entry in old.items() if keep is None or tag in keep}
    tail = bytearray(len(block) % 2)
    for tag, (kind, value) in fields.items():
        count, data = _pack(order, kind, value)
        if len(data) > 4:
            offset = len(block) + len(tail)
            tail += data + bytes(len(data) % 2)
            data = struct.pack(order + "I", offset)
        entries[tag] = struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return b"".join([block[:4], struct.pack(order + "I", len(block) + len(tail)), block[8:], tail, directory])


def byte_order(block: bytes | None) -> ByteOrder:
    """``<`` or ``>`` as struct and numpy write it; an empty block is little-endian."""
    return _parse(block or _EMPTY)[0]


def from_pillow(exif: Image.Exif) -> bytes | None:
    """A block of the descriptive tags of a TIFF file; None if there are none."""
    chosen = Image.Exif()
    for tag, value in exif.items():
        if tag in DESCRIPTIVE and tag not in (_EXIF_IFD, _GPS_IFD):
            chosen[tag] = value
    for tag in (_EXIF_IFD, _GPS_IFD):
        if inner := exif.get_ifd(tag):
            chosen[tag] = dict(inner)
    return chosen.tobytes().removeprefix(b"Exif\0\0") if len(chosen) else None


def _pack(order: str, kind: int, value: bytes | tuple[int, ...]) -> tuple[int, bytes]:
    if isinstance(value, bytes):
        return len(value), value
    data = struct.pack(f"{order}{len(value)}{_CODES[kind]}", *value)
    return len(value) // 2 if kind == 5 else len(value), data


def _parse(block: bytes) -> tuple[ByteOrder, dict[int, bytes], int]:
    """Byte order, entries of IFD0 by tag (12 bytes each), offset of the directory after it (0 for none)."""
    order: ByteOrder
    if block[:4] == b"II*\0":
        order = "<"
    elif block[:4] == b"MM\0*":
        order = ">"
    else:
        raise ValueError("EXIF must begin with II or MM")
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        if start == 0:
            return order, {}, 0
        (count,) = struct.unpack_from(order + "H", block, start)
        end = start + 2 + 12 * count
        if end > len(block):
            raise ValueError("EXIF directory is cut short")
        raw = [block[place : place + 12] for place in range(start + 2, end, 12)]
        # Some writers leave out the last four bytes, the pointer to the next directory.
        following = struct.unpack_from(order + "I", block, end)[0] if end + 4 <= len(block) else 0
    except struct.error as error:
        raise ValueError("EXIF is cut short") from error
    return order, {struct.unpack_from(order + "H", entry)[0]: entry for entry in raw}, following
