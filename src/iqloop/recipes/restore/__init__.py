"""``iqloop restore``: photographs in, photographs out, never worse by the critic."""
