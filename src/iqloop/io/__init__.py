"""The image door: everything that enters or leaves the toolkit passes here.

``read`` takes a path, bytes, PIL image, array or tensor and gives a :class:`Photo`: sRGB float pixels plus what must
survive the trip (alpha, bit depth, EXIF, ICC). ``write`` puts a photo into a file, whole or not at all.
"""

from __future__ import annotations

from iqloop.io.decode import MAX_PIXELS
from iqloop.io.files import copy_bytes, write_bytes_atomic
from iqloop.io.find import FoundImage, FoundImages, find_images, output_path
from iqloop.io.formats import READABLE, WRITABLE
from iqloop.io.photo import Photo
from iqloop.io.reading import Source, read, to_batch
from iqloop.io.writing import encode, write

__all__ = [
    "MAX_PIXELS",
    "READABLE",
    "WRITABLE",
    "FoundImage",
    "FoundImages",
    "Photo",
    "Source",
    "copy_bytes",
    "encode",
    "find_images",
    "output_path",
    "read",
    "to_batch",
    "write",
    "write_bytes_atomic",
]
