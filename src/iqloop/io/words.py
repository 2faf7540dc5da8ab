"""What a file says in words: its XMP packet, its IPTC records, and text. Which of it may go out with other pixels.

XMP is what raw converters and albums write: captions, keywords, ratings, rights; IPTC records (IIM 4.2) are what press
agencies wrote before, and still do. Image generators put prompts into the text of a PNG. All stay byte for byte what
they were, but for what would no longer be true of the output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

Text = tuple[tuple[str, str], ...]
"""Keywords and values of a PNG's text, in order; of a JPEG its comment."""

XMP_KEYWORD: Final = "XML:com.adobe.xmp"
"""Under which a PNG holds its packet."""
LIMIT: Final = 2**20
"""Bytes of a packet, and of all text, beyond which they are not carried."""
JPEG_LIMIT: Final = 65_000
"""Bytes of a packet that fit one segment of a JPEG."""

IPTC_RESOURCE: Final = 0x0404
"""Number under which Photoshop's block of a JPEG holds IPTC records; of TIFF's tag see `iqloop.io.deep`."""
COMMENT: Final = "Comment"
"""PNG's own keyword for what a JPEG calls its comment."""

_RECORD_PREVIEWS: Final = range(200, 203)
"""Data sets of record 2 that hold a preview and say how."""
_ORIENTATION: Final = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))[2-8]")
_ELSEWHERE: Final = (
    b"http://ns.google.com/photos/1.0/",
    b"http://ns.adobe.com/hdr-gain-map/",
    b"http://ns.apple.com/HDRGainMap/",
)
"""Names of packets that describe what else is in the file (a film, a gain map, depth), which an output has not."""
_EXTENDED: Final = re.compile(rb"xmpNote:HasExtendedXMP=(?:\"[0-9A-Fa-f]*\"|'[0-9A-Fa-f]*')")
_PREVIEWS: Final = (b"<xmp:Thumbnails>", b"</xmp:Thumbnails>")
_ENCODED: Final = "Raw profile type"
"""Keywords under which ImageMagick writes metadata of other kinds, as digits."""


def carried_xmp(packet: object) -> bytes | None:
    """A packet as it may go out: orientation 1, without previews and without a pointer to parts beyond the first.

    None for what is neither bytes nor text, describes other contents of the file than its picture, is no UTF-8, or is
    longer than `LIMIT`.
    """
    try:
        data = packet.encode() if isinstance(packet, str) else packet if isinstance(packet, bytes) else b""
        data.decode()
    except UnicodeError:
        return None
    data = data.rstrip(b"\0")
    if not 0 < len(data) <= LIMIT or any(name in data for name in _ELSEWHERE):
        return None
    return _EXTENDED.sub(b"", _ORIENTATION.sub(rb"\g<1>1", _without_previews(data)))


def carried_iptc(found: object) -> bytes | None:
    """IPTC records as they may go out: without previews. None for what is not a series of whole data sets, or longer
    than a segment of a JPEG."""
    if not isinstance(found, bytes):
        return None
    end = len(found.rstrip(b"\0"))  # what follows is padding, or the end of the last value
    kept, place = [], 0
    while place < end:
        head = found[place : place + 5]
        size = int.from_bytes(head[3:])
        if len(head) < 5 or head[0] != 0x1C or size >= 0x8000 or place + 5 + size > len(found):
            return None  # not IPTC, cut short, or a data set of more than 32 kB
        if head[1] != 2 or head[2] not in _RECORD_PREVIEWS:
            kept.append(found[place : place + 5 + size])
        place += 5 + size
    records = b"".join(kept)
    return records if 0 < len(records) <= JPEG_LIMIT else None


def iptc_segment(records: bytes) -> bytes:
    """The segment of a JPEG that holds IPTC records: Photoshop's block, with this one resource."""
    resource = b"8BIM" + IPTC_RESOURCE.to_bytes(2) + bytes(2) + len(records).to_bytes(4) + records
    block = b"Photoshop 3.0\0" + resource + bytes(len(records) % 2)
    return b"\xff\xed" + (len(block) + 2).to_bytes(2) + block


def carried_comment(found: object) -> Text:
    """A JPEG's comment as text; nothing for one that is empty, or longer than `JPEG_LIMIT`."""
    data = found.rstrip(b"\0") if isinstance(found, bytes) else b""
    try:
        value = data.decode()
    except UnicodeError:
        value = data.decode("latin-1")
    return ((COMMENT, value),) if 0 < len(data) <= JPEG_LIMIT and _is_text(COMMENT, value) else ()


def comment_of(text: Text) -> bytes | None:
    """What a JPEG can hold of text: its comment."""
    value = dict(text).get(COMMENT, "").encode()
    return value if 0 < len(value) <= JPEG_LIMIT else None


def _without_previews(data: bytes) -> bytes:
    start, end = _PREVIEWS
    parts = []
    place = 0
    while (opened := data.find(start, place)) >= 0 and (closed := data.find(end, opened)) >= 0:
        parts.append(data[place:opened])
        place = closed + len(end)
    return b"".join([*parts, data[place:]])


def carried_text(found: Mapping[Any, Any]) -> Text:
    """The text of a PNG as it may go out, of all that Pillow tells of it: without what is metadata of another kind.

    Nothing if all of it is longer than `LIMIT`.
    """
    words = [(name, value) for name, value in found.items() if isinstance(name, str) and isinstance(value, str)]
    kept = tuple((name, str(value)) for name, value in words if _is_text(name, value))
    return kept if sum(len(name) + len(value) for name, value in kept) <= LIMIT else ()


def _is_text(name: str, value: str) -> bool:
    try:
        name.encode("latin-1")
        value.encode()
    except UnicodeError:
        return False
    other = name == XMP_KEYWORD or name.startswith(_ENCODED)
    return 0 < len(name) <= 79 and "\0" not in name + value and not other
