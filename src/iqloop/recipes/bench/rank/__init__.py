"""``iqloop bench rank``: how well ranking finds an order that is known."""
