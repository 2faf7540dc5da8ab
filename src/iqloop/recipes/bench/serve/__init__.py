"""``iqloop bench serve``: what answering over HTTP costs."""
