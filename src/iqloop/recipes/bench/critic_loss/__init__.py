"""``iqloop bench critic-loss``: what a critic as a loss does to a net."""
