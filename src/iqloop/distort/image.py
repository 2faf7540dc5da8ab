"""The array that the distortions work on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""``(H, W, 3)`` float32, RGB; in [0, 1] on the way in, possibly beyond on the way out."""
