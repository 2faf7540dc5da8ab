"""Lossy coding and decoding of uint8 RGB images ``(H, W, 3)``, by Pillow's codecs."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow


def jpeg(image: NDArray[np.uint8], quality: float) -> NDArray[np.uint8]:
    """JPEG at Pillow's quality (rounded), 4:2:0."""
    return _through(image, "JPEG", quality=round(quality))


def jpeg_2000(image: NDArray[np.uint8], decibel: float) -> NDArray[np.uint8]:
    """JPEG 2000 towards a signal-to-noise ratio."""
    if min(image.shape[:2]) < 32:
        # OpenJPEG refuses more wavelet levels than the image holds.
        return _through(image, "JPEG2000", quality_mode="dB", quality_layers=[decibel], num_resolutions=1)
    return _through(image, "JPEG2000", quality_mode="dB", quality_layers=[decibel])


def _through(image: NDArray[np.uint8], codec: str, **options: object) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, codec, **options)
    return np.array(Pillow.open(buffer).convert("RGB"))
