"""``iqloop bench all``: how fast everything is, as ratios to what others have, and how it grows."""
