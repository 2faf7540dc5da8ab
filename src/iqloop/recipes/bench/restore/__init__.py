"""``iqloop bench restore``: what the loop gains on mixed damage."""
