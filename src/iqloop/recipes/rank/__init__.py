"""``iqloop rank``: files in order of quality."""
