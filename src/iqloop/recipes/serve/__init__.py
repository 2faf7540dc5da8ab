"""``iqloop serve``: the critic and the restorer of this machine, over HTTP."""
