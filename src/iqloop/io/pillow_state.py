"""Pillow's two process-wide switches, held where we need them only while we decode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

_lock = threading.Lock()
_inside = 0
_saved: tuple[int | None, bool] = (None, False)


@contextmanager
def strict_pillow() -> Iterator[None]:
    """No size limit of Pillow's own (ours is checked before decoding), and truncated files are errors.

    Other libraries set ``LOAD_TRUNCATED_IMAGES`` for the whole process, which would turn half a photo grey without a
    word. The switches are put back when the last thread leaves.
    """
    global _inside, _saved
    with _lock:
        if _inside == 0:
            _saved = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = _saved
