"""Figures that say how well a critic sees; pure functions of answers, which `iqloop evaluate` asks for and keeps."""
