"""``python -m iqloop`` is the command line."""

from iqloop.recipes.cli import main

if __name__ == "__main__":
    main()
