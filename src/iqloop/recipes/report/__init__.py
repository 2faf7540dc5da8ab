"""``iqloop report``: a trace as one HTML page."""
