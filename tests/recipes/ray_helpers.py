"""Tiny numbered images and a critic that says what it was asked: an installed plug-in that Ray's workers can load."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

PLUGIN = '''
import os, signal, time
from pathlib import Path
from iqloop.critic.verdicts import CLASSES, SEVERITIES, Degradation, Provenance, Rating

FOLDER = Path(os.environ["NUMBERED_FOLDER"])

class Numbered:
    """Scores an image by the number that its first pixel spells, and follows the orders in FOLDER."""
    name, score_range, lower_better = "numbered", (1.0, 5.0), False
    capabilities = frozenset({"score", "perceive"})

    def __init__(self, device=None):
        version = FOLDER / "version"
        self.version = version.read_text() if version.exists() else "1"

    def score(self, images):
        numbers = [self._number(image) for image in images]
        with open(FOLDER / "asked", "a") as file:
            file.write(" ".join(map(str, numbers)) + "\\\\n")
        self._obey(numbers)
        return [Rating(1 + number / 1000, 0.1, provenance=Provenance("numbered")) for number in numbers]

    def _obey(self, numbers):
        for order, pid in (("once", os.getpid()), ("always", os.getpid()), ("driver", None)):
            try:
                number, *victim = (FOLDER / order).read_text().split()
            except FileNotFoundError:
                continue
            if int(number) in numbers:
                if order != "always":
                    (FOLDER / order).unlink()
                for folder in victim[1:]:
                    self._wait_for_part(Path(folder))
                os.kill(pid or int(victim[0]), signal.SIGKILL)

    def _wait_for_part(self, folder):
        """A driver that is busy elsewhere may not have written what it was given long ago."""
        until = time.monotonic() + 30
        while not list(folder.glob("part-*.parquet")) and time.monotonic() < until:
            time.sleep(0.01)

    def _number(self, image):
        r, g, _ = (image[:, 0, 0] * 255).round().int().tolist()
        return 256 * r + g

    def perceive(self, images):
        sure = {name: float(name == "noise") for name in CLASSES}
        ladder = {"noise": {word: float(word == "obvious") for word in SEVERITIES}}
        return [Degradation("noise", "obvious", sure, ladder) for image in images]

    def compare(self, a, b, reference=None):
        raise NotImplementedError

    def describe(self, images):
        raise NotImplementedError
'''.replace("\\\\", "\\")


def install(site: Path) -> None:
    """Write the plug-in ``numbered`` into a folder for sys.path."""
    (site / "numbered_critic.py").write_text(PLUGIN)
    about = site / "numbered_critic-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: numbered-critic\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[iqloop.critics]\nnumbered = numbered_critic:Numbered\n")


def numbered(folder: Path, count: int) -> Path:
    """A folder of images 0 to ``count`` - 1, in two folders below."""
    for number in range(count):
        place = folder / f"{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), 100, np.uint8)
        pixels[0, 0] = (number // 256, number % 256, 0)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def asked(orders: Path) -> Counter[int]:
    """How often the critic was asked about each number; forgets it."""
    file = orders / "asked"
    found = Counter(map(int, file.read_text().split())) if file.exists() else Counter[int]()
    file.unlink(missing_ok=True)
    return found
