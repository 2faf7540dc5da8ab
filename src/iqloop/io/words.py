"""What a file says in words: its XMP packet, and the text of a PNG. Which of it may go out with other pixels.

XMP is what raw converters and albums write: captions, keywords, ratings, rights. Image generators put prompts into
the text of a PNG. Both stay byte for byte what they were, but for what would no longer be true of the output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

Text = tuple[tuple[str, str], ...]
"""Keywords and values of a PNG's text, in order."""

XMP_KEYWORD: Final = "XML:com.adobe.xmp"
"""Under which a PNG holds its packet."""
LIMIT: Final = 2**20
"""Bytes of a packet, and of all text, beyond which they are not carried."""
JPEG_LIMIT: Final = 65_000
"""Bytes of a packet that fit one segment of a JPEG."""

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
