"""Diffusion for super-resolution: the generator of the package, how it is trained, and how a critic trains it on."""
