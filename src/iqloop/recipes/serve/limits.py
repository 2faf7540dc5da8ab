"""What one request may hold, and how long all may take; checked before anything is decoded."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from iqloop.io.webp import is_webp, webp_size
from iqloop.recipes.serve.refusal import Refusal

HELD_UPLOADS = 16
"""Uploads of the largest size allowed that all requests together may hold in memory."""


@dataclass(frozen=True)
class Limits:
    """Of a server."""

    upload_bytes: int = 32 * 2**20
    """Of the body of one request."""
    pixels: int = 50_000_000
    """Of all images of one request together, and of an output."""
    batch_size: int = 8
    """Images in one question to the critic."""
    batch_wait: float = 0.005
    """Seconds that an image waits for others while the critic is free."""
    queue: int = 256
    """Requests at once, from their first byte to their answer."""
    timeout: float = 60.0
    """Seconds from a request's arrival to its answer."""

    @property
    def held_bytes(self) -> int:
        """Of the bodies of all requests together."""
        return HELD_UPLOADS * self.upload_bytes


def pixels_of(data: bytes) -> int:
    """How many pixels an image file claims, by its header alone; 0 for what decoding will refuse with a reason."""
    from PIL import Image

    from iqloop.io.deep import probe_tiff
    from iqloop.io.formats import PILLOW_FORMATS, is_tiff
    from iqloop.io.pillow_state import strict_pillow

    if is_webp(data):
        # Even to open one, libwebp fills a canvas of its size.
        width, height = webp_size(data)
        return width * height
    claimed = 0
    try:
        # A TIFF may be decoded by either reader: the larger claim counts.
        deep = probe_tiff(data) if is_tiff(data) else None
        claimed = 0 if deep is None else deep.width * deep.height
        with strict_pillow(), Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            return max(claimed, image.width * image.height)
    except Exception:  # damaged in one way of many, which decoding tells apart
        return claimed


def check_pixels(uploads: Iterable[bytes], limit: int, scale: int = 1) -> int:
    """The pixels of image files together. Raises `Refusal` where they, or an output ``scale`` times as wide and high,
    are more than ``limit``."""
    total = sum(map(pixels_of, uploads))
    if total * scale**2 > limit:
        enlarged = f", enlarged {total * scale**2 / 1e6:.0f}" if scale > 1 else ""
        raise Refusal(
            413,
            f"too many pixels: expected at most {limit / 1e6:g} megapixels in a request, got {total / 1e6:.0f}"
            f"{enlarged}; send a smaller image",
        )
    return total
