"""What an output says of its making: the text of its EXIF Software tag."""

from __future__ import annotations

from collections.abc import Sequence


def stamp(steps: Sequence[str], version: str) -> str:
    """The program, its version, and the tools that led to the image, in order.

    >>> stamp(["denoise", "lowlight"], "0.3")
    'iqloop 0.3 (denoise + lowlight)'
    >>> stamp([], "0.3")
    'iqloop 0.3'
    """
    return f"iqloop {version}" + (f" ({' + '.join(steps)})" if steps else "")
