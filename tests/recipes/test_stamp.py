"""The EXIF Software tag of an output: set when asked for, and nothing else of the EXIF is touched."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from iqloop.io import read
from iqloop.recipes import options
from iqloop.recipes.outputs import Target, encoded
from iqloop.recipes.stamp import stamp

MAKE, DATE, SOFTWARE, EXIF_IFD, EXPOSURE = 0x010F, 0x0132, 0x0131, 0x8769, 0x829A


@pytest.fixture
def photo_with_exif(here: Path, clean: NDArray[np.uint8]) -> Path:
    exif = Image.Exif()
    exif[MAKE], exif[DATE], exif[SOFTWARE] = "Kamera", "2024:05:06 07:08:09", "in the camera 1.0"
    exif.get_ifd(EXIF_IFD)[EXPOSURE] = IFDRational(1, 250)
    Image.fromarray(clean).save("photo.jpg", exif=exif)
    return Path("photo.jpg")


def exif_of(data: bytes) -> tuple[str | None, str | None, str | None, float | None]:
    exif = Image.open(io.BytesIO(data)).getexif()
    exposure = exif.get_ifd(EXIF_IFD).get(EXPOSURE)
    return exif.get(MAKE), exif.get(DATE), exif.get(SOFTWARE), None if exposure is None else float(exposure)


def test_the_text() -> None:
    assert stamp(("denoise", "lowlight"), "0.3") == "iqloop 0.3 (denoise + lowlight)"
    assert stamp((), "0.3") == "iqloop 0.3"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_format_carries_it_and_keeps_the_rest(photo_with_exif: Path, suffix: str) -> None:
    photo, target = read(photo_with_exif), Target(Path(f"out{suffix}"), None)
    text = stamp(("denoise", "lowlight"), "0.3")
    rest = ("Kamera", "2024:05:06 07:08:09")
    assert exif_of(encoded(photo, target, software=text)) == (*rest, text, 1 / 250)
    # Unasked for, the camera's own stays; without metadata the stamp stands alone.
    assert exif_of(encoded(photo, target)) == (*rest, "in the camera 1.0", 1 / 250)
    assert exif_of(encoded(photo, target, False, text)) == (None, None, text, None)
    assert exif_of(encoded(photo, target, False)) == (None, None, None, None)
    pixels = [np.asarray(Image.open(io.BytesIO(encoded(photo, target, software=said)))) for said in (None, text)]
    assert np.array_equal(pixels[0], pixels[1])


def test_the_option_is_off() -> None:
    given: list[bool] = []

    @click.command()
    @options.stamped
    def command(stamp: bool) -> None:
        given.append(stamp)

    for arguments in ([], ["--stamp"], ["--no-stamp"]):
        assert CliRunner().invoke(command, arguments).exit_code == 0
    assert given == [False, True, False]
