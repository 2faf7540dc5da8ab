"""``iqloop train``: critics, restorers, generators, and what the agent knows."""
