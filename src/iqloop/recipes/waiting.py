"""How threads wait for each other, on a machine that has other work too."""

from __future__ import annotations

import os

SPINS = "1000"
"""Rounds in which a thread asks whether it may go on before it sleeps. GNU's OpenMP, which torch has on Linux,
asks 300,000 times: with one of two cores busy elsewhere a megapixel took `denoise` 19 s, with this number 2.5 s; on an
idle machine 1.3 s either way."""


def sleep_soon() -> None:
    """Set it for this process, unless the environment says how threads wait; only before torch is imported."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS
