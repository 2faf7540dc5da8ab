"""The files that commands are measured on."""

from __future__ import annotations

import io

File = tuple[str, bytes]
"""A name, and what is in it."""


def make_files(count: int, side: int, seed: int) -> list[File]:
    """Different JPEGs (quality 95) of ``side`` x ``side`` pixels: random parts of scikit-image's photographs."""
    import cv2
    import numpy as np
    from PIL import Image

    from iqloop.recipes.bench.tools import photographs

    photos = [read() for read in photographs(None)]
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        photo = photos[number % len(photos)]
        part = int(min(photo.shape[:2]) * rng.uniform(0.6, 1))
        top, left = (int(rng.integers(length - part + 1)) for length in photo.shape[:2])
        square = cv2.resize(photo[top : top + part, left : left + part], (side, side), interpolation=cv2.INTER_CUBIC)
        target = io.BytesIO()
        Image.fromarray(square).save(target, "JPEG", quality=95)
        files.append((f"{number:05d}.jpg", target.getvalue()))
    return files
