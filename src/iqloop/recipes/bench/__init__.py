"""``iqloop bench``: speed and gain on this machine."""
