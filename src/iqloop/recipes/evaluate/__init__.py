"""``iqloop evaluate``: how well a critic sees."""
