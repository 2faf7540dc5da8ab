"""The image door: exact round trips, metadata, every failure with its message, atomic writing."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

import iqloop.io as door
from iqloop.errors import ImageReadError, ImageWriteError, UsageError
from iqloop.io import exif as exif_block
from iqloop.io.deep import encode_png16, png_chunk
from iqloop.io.words import carried_comment, carried_iptc, carried_text, carried_xmp

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photograph(height: int = 40, width: int = 56) -> np.ndarray[Any, Any]:
    image: np.ndarray[Any, Any] = skimage.data.astronaut()[100 : 100 + height, 180 : 180 + width]
    return image


def random16(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).integers(0, 65536, shape).astype(np.uint16)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, name, **options)
    return target.getvalue()


def opened(path: Path | str) -> Image.Image:
    """By Pillow, from memory: an image that is not loaded to its end keeps its file open."""
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def tiff(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, array, **options)
    return target.getvalue()


def levels(photo: door.Photo, bits: int = 8) -> np.ndarray[Any, Any]:
    """``(H, W, 3)`` integers."""
    scaled = photo.pixels.mul(2**bits - 1).round().permute(1, 2, 0).numpy()
    return scaled.astype(np.uint16 if bits == 16 else np.uint8)


def alpha_levels(photo: door.Photo, bits: int = 8) -> np.ndarray[Any, Any]:
    assert photo.alpha is not None
    return photo.alpha[0].mul(2**bits - 1).round().numpy().astype(np.uint16)


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "WEBP"])
def test_reads_rgb_exactly(name: str) -> None:
    options = {"lossless": True} if name == "WEBP" else {}
    data = saved(Image.fromarray(photograph()), name, **options)
    photo = door.read(data)
    assert photo.format == name and photo.bit_depth == 8 and not photo.greyscale and photo.alpha is None
    assert photo.pixels.dtype == torch.float32 and photo.pixels.shape == (3, 40, 56)
    assert (photo.height, photo.width, photo.megapixels) == (40, 56, 40 * 56 / 1e6)
    assert np.array_equal(levels(photo), photograph()) and photo.lossless and photo.frames == 1


def test_reads_jpeg_as_pillow_does(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(Image.fromarray(photograph()), "JPEG", dpi=(300, 300)))
    photo = door.read(str(path))
    assert np.array_equal(levels(photo), np.asarray(opened(path)))
    assert photo.path == path and photo.format == "JPEG" and not photo.lossless and photo.dpi == (300, 300)
    assert len(photo.sha256) == 64


def test_reads_one_bit_and_grey() -> None:
    grey = Image.fromarray(photograph()).convert("L")
    for image in (grey, grey.convert("1")):
        photo = door.read(saved(image, "PNG"))
        assert photo.greyscale and np.array_equal(levels(photo)[..., 1], np.asarray(image.convert("L")))


def test_reads_palette_with_transparency() -> None:
    palette = Image.fromarray(photograph()).quantize(16)
    photo = door.read(saved(palette, "PNG", transparency=3))
    assert np.array_equal(levels(photo), np.asarray(palette.convert("RGB")))
    assert np.array_equal(alpha_levels(photo) == 0, np.asarray(palette) == 3) and not photo.greyscale
    assert door.read(saved(palette, "PNG")).alpha is None


def test_palette_of_greys_is_greyscale() -> None:
    photo = door.read(saved(Image.fromarray(photograph()).convert("L"), "GIF"))
    assert photo.greyscale and photo.format == "GIF"


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_reads_alpha_unmultiplied(mode: str) -> None:
    image = Image.fromarray(photograph()).convert(mode)
    ramp = np.broadcast_to(np.linspace(0, 255, 56).astype(np.uint8), (40, 56))
    image.putalpha(Image.fromarray(ramp))
    photo = door.read(saved(image, "PNG"))
    assert np.array_equal(alpha_levels(photo), ramp) and photo.greyscale == (mode == "LA")
    assert np.array_equal(levels(photo)[..., 0], np.asarray(image)[..., 0])


def test_reads_transparent_colour_of_png() -> None:
    array = photograph().copy()
    array[0, 0] = (1, 2, 3)
    photo = door.read(saved(Image.fromarray(array), "PNG", transparency=(1, 2, 3)))
    assert alpha_levels(photo)[0, 0] == 0 and alpha_levels(photo)[5, 5] == 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_reads_16_bit_png(channels: int) -> None:
    array = random16(9, 11, channels)
    photo = door.read(encode_png16(array, None, None, None))
    assert photo.bit_depth == 16 and photo.greyscale == (channels < 3)
    assert np.array_equal(levels(photo, 16), array[..., [0, 0, 0]] if channels < 3 else array[..., :3])
    if channels in (2, 4):
        assert np.array_equal(alpha_levels(photo, 16), array[..., -1])


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_16_bit_png_with_transparent_colour(channels: int) -> None:
    array = random16(9, 11, channels)
    data = encode_png16(array, None, None, None)
    key = png_chunk(b"tRNS", array[2, 3].astype(">u2").tobytes())
    photo = door.read(data[:33] + key + data[33:])
    assert np.array_equal(levels(photo, 16)[..., :channels], array)
    expected = np.full((9, 11), 65535)
    expected[2, 3] = 0
    assert np.array_equal(alpha_levels(photo, 16), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_reads_16_bit_colour_tiff(order: Any, planar: Any, channels: int) -> None:
    array = random16(9, 11, channels)
    data = tiff(
        array if planar == "contig" else np.moveaxis(array, -1, 0),
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig=planar,
        byteorder=order,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
    )
    photo = door.read(data)
    assert photo.bit_depth == 16 and photo.format == "TIFF"
    assert np.array_equal(levels(photo, 16), array[..., [0, 0, 0]] if channels < 3 else array[..., :3])
    if channels in (2, 4):
        assert np.array_equal(alpha_levels(photo, 16), array[..., -1])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_reads_16_bit_grey_tiff(order: Any, photometric: Any) -> None:
    array = random16(9, 11)
    photo = door.read(tiff(array, photometric=photometric, byteorder=order))
    expected = array if photometric == "minisblack" else 65535 - array
    assert photo.greyscale and photo.bit_depth == 16 and np.array_equal(levels(photo, 16)[..., 2], expected)


def test_reads_compressed_16_bit_tiff() -> None:
    array = random16(9, 11, 3)
    _, data = cv2.imencode(".tiff", array[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])  # LZW
    assert np.array_equal(levels(door.read(data.tobytes()), 16), array)


def test_orientation_of_compressed_16_bit_tiff() -> None:
    array = random16(9, 11, 3)
    _, encoded = cv2.imencode(".tiff", array[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    fields = exif_block.with_fields(encoded.tobytes(), {0x0112: (3, (6,))})
    assert np.array_equal(levels(door.read(fields), 16), np.rot90(array, -1))


def test_multiplied_alpha_of_tiff_is_divided_out() -> None:
    array = np.full((2, 2, 4), 20000, np.uint16)
    array[..., 3] = 50000
    photo = door.read(tiff(array, photometric="rgb", extrasamples=["assocalpha"]))
    assert np.array_equal(levels(photo, 16), np.full((2, 2, 3), 26214))


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_float_tiff(channels: int) -> None:
    array = np.random.default_rng(0).random((6, 7, channels)).astype(np.float32)
    photo = door.read(tiff(array[..., 0] if channels == 1 else array, photometric="rgb" if channels == 3 else None))
    assert photo.bit_depth == 16 and np.array_equal(photo.pixels[:channels].permute(1, 2, 0).numpy(), array)
    with pytest.raises(ImageReadError, match=r"expected float samples in \[0, 1\], got \[0, 255\]"):
        door.read(tiff(np.array([[0.0, 255.0]], np.float32)))


def cmyk_profile() -> bytes:
    """A CMYK profile small enough to build here: two grid points per ink, darker with ink, red only from M and Y."""
    grid = bytearray()
    for c in (0, 1):
        for m in (0, 1):
            for y in (0, 1):
                for k in (0, 1):
                    light = max(0, 255 - 60 * (c + m + y) - 200 * k)
                    grid += bytes([light, 128 + 60 * (m - c) // 1, 128 + 60 * (y - m)])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(grid) + ramp * 3
    table += bytes(-len(table) % 4)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"A2B0", table), (b"A2B1", table), (b"wtpt", white)]
    offset = 128 + 4 + 12 * len(tags)
    directory, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        directory += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = bytearray(128)
    head[8:12] = bytes([2, 0x40, 0, 0])
    head[12:24] = b"prtrCMYKLab "
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    head[0:4] = struct.pack(">I", 128 + len(directory) + len(body))
    return bytes(head) + directory + body


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_without_profile(name: str) -> None:
    image = Image.fromarray(photograph()).convert("CMYK")
    data = saved(image, name)
    photo = door.read(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(levels(photo), expected)
    # Inverted inks (Adobe) would give the negative.
    assert np.abs(levels(photo).astype(int) - photograph()).mean() < 12


def test_cmyk_profile_is_applied_and_not_written(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    photo = door.read(saved(image, "TIFF", icc_profile=cmyk_profile()))
    red, green, blue = levels(photo)[0, 0].astype(int)
    assert photo.icc is None and red > green + 40 and red > blue + 40
    assert not np.array_equal(levels(photo), np.asarray(image.convert("RGB")))
    written = door.write(photo, tmp_path / "out.png")
    assert "icc_profile" not in opened(written).info


def test_broken_cmyk_profile_falls_back() -> None:
    profile = b"\0" * 16 + b"CMYK" + b"\0" * 108
    photo = door.read(saved(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", icc_profile=profile))
    assert photo.icc is None and np.array_equal(levels(photo)[0, 0], (255, 0, 0))


def test_animation_gives_first_frame_and_count() -> None:
    frames = [
        Image.fromarray(photograph()).quantize(8),
        Image.new("RGB", (56, 40), "red"),
        Image.new("RGB", (56, 40), "blue"),
    ]
    photo = door.read(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert photo.frames == 3 and np.array_equal(levels(photo), np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("shape", [(1, 1, 3), (10, 20000, 3), (20000, 10, 3)])
def test_extreme_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    for name in ("a.png", "a.tif", "a.bmp"):
        photo = door.read(door.write(door.read(array), tmp_path / name))
        assert np.array_equal(levels(photo), array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "deflate TIFF"])
def test_orientation_is_applied_once(orientation: int, name: str, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    if name == "deflate TIFF":
        options = {"compression": "tiff_adobe_deflate"}
    data = saved(Image.fromarray(photograph()), name.split()[-1], exif=tags, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    for source in (data, Image.open(io.BytesIO(data))):
        photo = door.read(source)
        assert np.array_equal(levels(photo), expected)
        for target in ("out.png", "out.jpg", "out.tif", "out.webp"):
            written = opened(door.write(photo, tmp_path / target, overwrite=True))
            assert written.size == expected.shape[1::-1]
            assert written.getexif().get(0x0112, 1) == 1 and written.getexif()[0x010F] == "Maker"
            again = door.read(tmp_path / target)
            assert again.pixels.shape == photo.pixels.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff", "grey png", "grey tiff", "float tiff"])
def test_orientation_of_deep_images(orientation: int, kind: str) -> None:
    array = random16(5, 8) if "grey" in kind else random16(5, 8, 3)
    if kind == "float tiff":
        array = (array / 65535).astype(np.float32)
    if "png" in kind:
        tags = Image.Exif()
        tags[0x0112] = orientation
        data = encode_png16(array[..., None] if array.ndim == 2 else array, tags.tobytes()[6:], None, None)
    else:
        data = tiff(
            array,
            photometric="minisblack" if array.ndim == 2 else "rgb",
            extratags=[(0x0112, 3, 1, orientation, True)],
        )
    shown = Image.fromarray(np.arange(40, dtype=np.uint8).reshape(5, 8))
    shown.getexif()[0x0112] = orientation
    order = np.asarray(ImageOps.exif_transpose(shown))
    expected = array.reshape(40, -1)[order]
    pixels = door.read(data).pixels.permute(1, 2, 0).numpy()
    if kind != "float tiff":
        expected = expected / 65535
    assert pixels.shape[:2] == order.shape and np.allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-7)


def test_pil_image_is_not_turned_twice() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    for name in ("TIFF", "JPEG"):
        image = Image.open(io.BytesIO(saved(Image.fromarray(photograph()), name, exif=tags)))
        image.load()
        assert door.read(image).pixels.shape == (3, 56, 40)


# --- arrays --------------------------------------------------------------------------------------------------------


def test_numpy_layouts() -> None:
    array = photograph()
    assert np.array_equal(levels(door.read(array)), array)
    assert door.read(array[..., 0]).greyscale
    assert door.read(random16(4, 5, 3)).bit_depth == 16
    assert torch.allclose(door.read(array / 255.0).pixels, door.read(array).pixels)
    assert door.read(np.dstack([array, array[..., :1]])).alpha is not None
    assert door.read(array).format == "" and door.read(array).path is None


def test_tensor_layouts() -> None:
    pixels = door.read(photograph()).pixels
    assert torch.equal(door.read(pixels).pixels, pixels)
    assert torch.equal(door.read(pixels[None].requires_grad_()).pixels, pixels)
    assert torch.equal(door.read((pixels * 255).round().to(torch.uint8)).pixels, pixels)
    assert door.read(pixels[:1]).greyscale
    assert door.read(pixels.bfloat16()).pixels.dtype == torch.float32


def test_reading_does_not_share_memory() -> None:
    pixels = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    photo = door.read(pixels)
    before = photo.pixels.clone()
    pixels.zero_()
    assert torch.equal(photo.pixels, before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 4, 3), 2.0), r"expected float samples in \[0, 1\], got \[2, 2\]"),
        (np.full((4, 4, 3), np.nan), r"got \[nan, nan\]"),
        (torch.full((3, 4, 4), -0.5), r"got \[-0.5, -0.5\]"),
        (np.zeros((3, 64, 64)), r"got \(3, 64, 64\): transpose it"),
        (np.zeros((4, 4, 3), np.int64), "got int64"),
        (np.zeros((0, 4, 3), np.uint8), r"at least one pixel, got shape \(0, 4, 3\)"),
        (torch.zeros(2, 3, 4, 4), r"got \(2, 3, 4, 4\)"),
        (torch.zeros(4, 4, 3, 1, 1), "expected a tensor"),
        (3, "got int"),
    ],
)
def test_refuses_arrays(source: Any, message: str) -> None:
    with pytest.raises(ImageReadError, match=message) as caught:
        door.read(source)
    assert caught.value.path is None


def test_to_batch() -> None:
    first, second = photograph(), photograph(20, 30)
    assert [tuple(t.shape) for t in door.to_batch([first, second])] == [(3, 40, 56), (3, 20, 30)]
    assert len(door.to_batch(torch.zeros(5, 3, 4, 4))) == 5 and len(door.to_batch(first)) == 1
    assert door.to_batch(np.stack([first, first]))[1].shape == (3, 40, 56)


def test_with_pixels() -> None:
    photo = door.read(np.dstack([photograph(), photograph()[..., :1]]))
    larger = photo.with_pixels(torch.full((1, 3, 80, 112), 1.5))
    assert larger.alpha is not None and larger.alpha.shape == (1, 80, 112) and float(larger.pixels.max()) == 1
    assert larger.sha256 != photo.sha256 and photo.with_pixels(photo.pixels, None).alpha is None
    with pytest.raises(UsageError, match="expected finite pixels"):
        photo.with_pixels(torch.full((3, 40, 56), float("nan")))
    with pytest.raises(UsageError, match=r"expected pixels \(3, H, W\) in float, got \(1, 40, 56\)"):
        photo.with_pixels(torch.zeros(1, 40, 56))
    with pytest.raises(UsageError, match="alpha of the size of the pixels"):
        photo.with_pixels(photo.pixels, torch.zeros(1, 4, 4))


# --- reading what cannot be read -----------------------------------------------------------------------------------


def reason(source: Any) -> str:
    with pytest.raises(ImageReadError) as caught:
        door.read(source)
    assert "\n" not in str(caught.value)
    if isinstance(source, Path):
        assert caught.value.path == str(source) and str(caught.value).startswith(f"{source}: ")
    return caught.value.reason


def test_unreadable_files(tmp_path: Path) -> None:
    assert reason(tmp_path / "missing.png") == "no such file: check the name"
    assert reason(tmp_path) == "is a folder, expected an image file: name a file in it"
    (tmp_path / "empty.png").touch()
    assert "the file is empty" in reason(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("hello, I am text")
    assert "expected PNG, JPEG, WebP, TIFF, BMP or GIF, got text that begins with 'hello" in reason(
        tmp_path / "text.png"
    )
    assert "cannot be opened" in reason(tmp_path / "text.png" / "below.png")
    assert "cannot be opened" in reason(tmp_path / "nul\0.png")
    assert "got a HEIC" in reason(b"\0\0\0\x18ftypheic" + bytes(40))
    assert "got data that begins with 01 02" in reason(b"\1\2\3\4" * 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_to_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.touch(mode=0)
    assert "no permission" in reason(path)


def whole_files() -> dict[str, bytes]:
    image = Image.fromarray(photograph())
    return {
        "a.png": saved(image, "PNG"),
        "a.jpg": saved(image, "JPEG"),
        "a.webp": saved(image, "WEBP"),
        "a.bmp": saved(image, "BMP"),
        "a.gif": saved(image.quantize(64), "GIF"),
        "a.tif": saved(image, "TIFF"),
        "deflate.tif": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "deep.png": encode_png16(random16(40, 56, 3), None, None, None),
        "deep.tif": tiff(random16(40, 56, 3), photometric="rgb"),
        "planes.tif": tiff(random16(3, 40, 56), photometric="rgb", planarconfig="separate"),
        "float.tif": tiff(photograph().astype(np.float32) / 255, photometric="rgb"),
    }


@pytest.mark.parametrize("name", list(whole_files()))
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_truncated_files(name: str, part: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries do
    path = tmp_path / name
    data = whole_files()[name]
    path.write_bytes(data)
    door.read(path)
    path.write_bytes(data[: int(len(data) * part)])
    assert "damaged" in reason(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # put back


def test_decompression_bomb() -> None:
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    assert "is too large: expected at most 400 megapixels, got 30000 x 30000 = 900" in reason(data)


def test_a_webp_that_claims_too_much_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """libwebp would fill the canvas as soon as the file is opened."""
    side = (30000 - 1).to_bytes(3, "little")
    chunk = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + side + side
    data = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
    monkeypatch.setattr("iqloop.io.decode.Image.open", lambda *_, **__: pytest.fail("it was opened"))
    assert "got 30000 x 30000 = 900" in reason(data)


def test_large_image_passes_pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    door.read(saved(Image.new("L", (300, 300)), "PNG"))
    assert Image.MAX_IMAGE_PIXELS == 100


def test_import_leaves_pillow_alone() -> None:
    code = (
        "from PIL import Image, ImageFile; a = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES\n"
        "import iqloop.io; assert a == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow says so, and may
def test_damaged_exif_does_not_spoil_the_picture(tmp_path: Path) -> None:
    data = saved(Image.fromarray(photograph()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    photo = door.read(data)
    assert photo.exif is None and photo.pixels.shape == (3, 40, 56)
    door.write(photo, tmp_path / "a.jpg")


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".webp", ".bmp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_8_bit_round_trip(suffix: str, channels: int, tmp_path: Path) -> None:
    if suffix == ".bmp" and channels in (2, 4):
        pytest.skip("BMP holds no alpha")
    array = np.random.default_rng(3).integers(0, 256, (13, 17, channels)).astype(np.uint8)
    photo = door.read(array)
    again = door.read(door.write(photo, tmp_path / f"a{suffix}"))
    assert torch.equal(again.pixels, photo.pixels) and again.bit_depth == 8
    assert (again.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None and again.alpha is not None:
        assert torch.equal(again.alpha, photo.alpha)
    if suffix != ".webp":
        assert again.greyscale == photo.greyscale


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_round_trip(suffix: str, channels: int, tmp_path: Path) -> None:
    array = random16(300, 301, channels)
    photo = door.read(array)
    path = door.write(photo, tmp_path / f"a{suffix}")
    again = door.read(path)
    assert torch.equal(again.pixels, photo.pixels) and again.bit_depth == 16 and again.greyscale == (channels < 3)
    if photo.alpha is not None and again.alpha is not None:
        assert torch.equal(again.alpha, photo.alpha)
    assert (again.alpha is None) == (photo.alpha is None)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_other_readers_agree(suffix: str, dtype: Any, tmp_path: Path) -> None:
    array = random16(50, 61, 4).astype(dtype)
    path = str(door.write(door.read(array), tmp_path / f"a{suffix}"))
    if dtype is np.uint16 or suffix == ".png":  # OpenCV multiplies 8-bit TIFF colours by alpha
        by_opencv = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert by_opencv is not None and np.array_equal(by_opencv[..., [2, 1, 0, 3]], array)
    with opened(path) as image:
        assert image.mode == "RGBA" and image.size == (61, 50)
        by_pillow = np.asarray(image)
    assert np.array_equal(by_pillow, array) if dtype is np.uint8 else by_pillow.any()
    if suffix == ".tif":
        assert np.array_equal(tifffile.imread(path), array)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_level_survives(suffix: str, tmp_path: Path) -> None:
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(levels(door.read(door.write(door.read(array), tmp_path / f"a{suffix}")), 16)[..., 0], array)


def test_file_round_trip_is_exact(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(saved(Image.fromarray(photograph()), "PNG"))
    target = door.write(door.read(source), tmp_path / "b.png")
    assert np.array_equal(np.asarray(opened(target)), photograph())


def rich_exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0112], tags[0x8298] = "Maker", "Model X", 6, "A. Photographer"
    tags[0x8769] = {0x829A: (1, 250), 0x9003: "2020:01:02 03:04:05", 0x927C: b"maker note \0\1\2"}
    tags[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    return tags


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_metadata_is_kept(source: str, suffix: str, bits: int, tmp_path: Path) -> None:
    photo = door.read(
        saved(Image.fromarray(photograph()), source, exif=rich_exif().tobytes(), icc_profile=SRGB, dpi=(300, 300))
    )
    assert photo.icc == SRGB
    if bits == 16:
        photo = door.Photo(**{**photo.__dict__, "bit_depth": 16})
    with opened(door.write(photo, tmp_path / f"a{suffix}", software="iqloop 1")) as image:
        assert image.info["icc_profile"] == SRGB
        tags = image.getexif()
        assert tags[0x010F] == "Maker" and tags[0x0110] == "Model X" and tags[0x8298] == "A. Photographer"
        assert tags[0x0131] == "iqloop 1" and tags.get(0x0112, 1) == 1
        inner = tags.get_ifd(0x8769)
        assert inner[0x9003] == "2020:01:02 03:04:05" and inner[0x927C] == b"maker note \0\1\2"
        assert tags.get_ifd(0x8825)[1] == "N"
        if source != "WEBP" and suffix != ".webp":
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_upright_exif_is_kept_to_the_byte(tmp_path: Path) -> None:
    tags = rich_exif()
    tags[0x0112] = 1
    block = tags.tobytes()
    photo = door.read(saved(Image.fromarray(photograph()), "JPEG", exif=block))
    assert photo.exif == block[6:]
    assert opened(door.write(photo, tmp_path / "a.jpg")).info["exif"] == block
    assert opened(door.write(photo, tmp_path / "a.png")).info["exif"] == block


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_metadata_can_be_left_out(suffix: str, tmp_path: Path) -> None:
    photo = door.read(saved(Image.fromarray(photograph()), "JPEG", exif=rich_exif(), icc_profile=SRGB))
    with opened(door.write(photo, tmp_path / f"a{suffix}", metadata=False)) as image:
        assert image.info["icc_profile"] == SRGB  # it defines the colours
        assert not {0x010F, 0x8769, 0x8825, 0x8298} & set(image.getexif())


def test_thumbnail_is_unlinked_and_offsets_stay() -> None:
    for order in ("<", ">"):
        note = b"a text longer than four bytes\0"
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
        text_at = 8 + 2 + 24 + 4
        ifd0 = struct.pack(order + "HHHIIHHIHHI", 2, 0x010E, 2, len(note), text_at, 0x0112, 3, 1, 8, 0, text_at + 30)
        ifd1 = struct.pack(order + "HHHIIIHHI", 1, 0x0201, 4, 1, 0, 0, 0, 0, 0)
        block = head + ifd0 + note + ifd1
        fresh = exif_block.upright(block)
        tags = Image.Exif()
        tags.load(fresh)
        assert tags[0x010E] == "a text longer than four bytes" and tags[0x0112] == 1
        assert fresh[8 : len(block)] == block[8:] and exif_block.upright(fresh) == fresh
        assert not tags.get_ifd(1)


@pytest.mark.parametrize(
    "block", [b"", b"XX*\0\0\0\0\x08", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\xff\xff\xff\xff", b"II*\0"]
)
def test_malformed_exif_is_a_value_error(block: bytes) -> None:
    with pytest.raises(ValueError, match="EXIF"):
        exif_block.upright(block)


def test_display_p3_pixels_and_profile_are_kept(tmp_path: Path) -> None:
    profile = SRGB[:100] + b"\1" + SRGB[101:]  # any RGB profile that is not the sRGB of Pillow
    photo = door.read(saved(Image.fromarray(photograph()), "PNG", icc_profile=profile))
    assert photo.icc == profile and np.array_equal(levels(photo), photograph())
    assert opened(door.write(photo, tmp_path / "a.jpg")).info["icc_profile"] == profile


def test_greyscale_stays_greyscale(tmp_path: Path) -> None:
    photo = door.read(saved(Image.fromarray(photograph()).convert("L"), "JPEG"))
    coloured = photo.with_pixels(door.read(photograph()).pixels)
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        with opened(door.write(coloured, tmp_path / f"a{suffix}")) as image:
            assert image.mode == "L"
            luma = np.asarray(Image.fromarray(photograph()).convert("L")).astype(int)
            assert np.abs(np.asarray(image).astype(int) - luma).max() <= (12 if suffix == ".jpg" else 1)


def test_jpeg_is_quality_95_without_subsampling(tmp_path: Path) -> None:
    path = door.write(door.read(photograph()), tmp_path / "a.jpg")
    with opened(path) as image:
        reference = Image.open(io.BytesIO(saved(Image.fromarray(photograph()), "JPEG", quality=95, subsampling=0)))
        assert image.quantization == reference.quantization  # type: ignore[attr-defined]
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


def test_webp_is_lossless_unless_the_source_was_lossy(tmp_path: Path) -> None:
    image = Image.fromarray(photograph())
    sources = {
        True: [saved(image, "PNG"), saved(image, "WEBP", lossless=True), saved(image, "BMP")],
        False: [saved(image, "JPEG"), saved(image, "WEBP", quality=80, exif=rich_exif())],
    }
    for lossless, datas in sources.items():
        for data in datas:
            written = door.write(door.read(data), tmp_path / "a.webp", overwrite=True).read_bytes()
            assert (b"VP8L" in written[:64]) == lossless


def test_16_bit_source_may_be_written_as_jpeg(tmp_path: Path) -> None:
    photo = door.read(random16(8, 8, 3))
    assert door.read(door.write(photo, tmp_path / "a.jpg")).bit_depth == 8


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_needs_a_format_that_holds_it(suffix: str, tmp_path: Path) -> None:
    array = np.dstack([photograph(), np.full((40, 56), 255, np.uint8)])
    door.write(door.read(array), tmp_path / f"opaque{suffix}")
    array[0, 0, 3] = 254
    with pytest.raises(ImageWriteError, match=r"cannot hold the transparency of this image: use \.png"):
        door.write(door.read(array), tmp_path / f"a{suffix}")
    assert not (tmp_path / f"a{suffix}").exists()


def test_format_limits_and_names(tmp_path: Path) -> None:
    photo = door.read(np.zeros((4, 20000, 3), np.uint8))
    with pytest.raises(ImageWriteError, match=r"WEBP cannot hold this 20000 x 4 image .*: use \.png"):
        door.write(photo, tmp_path / "a.webp")
    for name in ("a.gif", "a", "a.xyz"):
        with pytest.raises(ImageWriteError, match=r"expected a name that ends in \.png"):
            door.write(photo, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# --- atomic files --------------------------------------------------------------------------------------------------


def test_no_overwrite_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    photo = door.read(photograph())
    with pytest.raises(ImageWriteError, match=r"a\.png: exists already: .*--overwrite"):
        door.write(photo, path)
    assert path.read_bytes() == b"precious"
    assert door.write(photo, path, overwrite=True) == path
    door.read(path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageWriteError, match="is a folder"):
        door.write(photo, tmp_path / "folder.png", overwrite=True)


@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_full_disk_leaves_nothing_and_keeps_the_old(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(ImageWriteError, match="no space left on the disk: free some"):
        door.write(door.read(photograph()), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == b"precious"


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        door.write_bytes_atomic(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_parents_are_made_unless_one_is_a_file(tmp_path: Path) -> None:
    door.write_bytes_atomic(tmp_path / "x" / "y" / "a.json", b"{}")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json"):
        with pytest.raises(ImageWriteError, match="a part of it is a file"):
            door.write_bytes_atomic(path, b"{}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ImageWriteError, match="no permission to write in the folder"):
        door.write_bytes_atomic(tmp_path / "a.json", b"{}")


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = door.write_bytes_atomic(tmp_path / "a.json", b"{}")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_copy_bytes(tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(b"\0\1\2")
    assert door.copy_bytes(source, tmp_path / "out" / "b.bin").read_bytes() == b"\0\1\2"
    assert door.copy_bytes(source, source, overwrite=True) == source
    with pytest.raises(ImageWriteError, match="exists already"):
        door.copy_bytes(source, source)
    with pytest.raises(ImageReadError, match="no such file"):
        door.copy_bytes(tmp_path / "none", tmp_path / "c")


# --- finding -------------------------------------------------------------------------------------------------------


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_find_images_in_folders(tmp_path: Path) -> None:
    touch(tmp_path, "10.png", "2.PNG", "b/1.jpeg", ".hidden.png", "._a.png", ".iqloop/x.png", "notes.txt", "z.gif")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = door.find_images([tmp_path])
    assert [str(image.relative) for image in found] == ["2.PNG", "10.png", "b/1.jpeg", "z.gif"]
    assert all(image.root == tmp_path for image in found)
    assert len(door.find_images([tmp_path], recursive=False)) == 3


def test_find_images_named(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "d/a.png")
    named = [tmp_path / "notes.txt", tmp_path / "missing.png", tmp_path / "d", tmp_path / "d" / "a.png"]
    found = door.find_images(named)
    assert [image.path for image in found.images] == [*named[:2], named[3]]
    assert found.images[0].root == tmp_path and found.images[2].root == tmp_path / "d"


def test_find_images_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected images \(\.png .*\.gif\) in it or below it, found none") as caught:
        door.find_images([tmp_path])
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "root", "out", "expected"),
    [
        ("d/a.jpg", None, None, "d/a.restored.jpg"),
        ("d/a.b.JPG", None, None, "d/a.b.restored.JPG"),
        ("d/a.gif", None, None, "d/a.restored.png"),
        ("d/x/a.jpg", "d", "out", "out/x/a.jpg"),
        ("d/x/a.gif", "d", "out", "out/x/a.png"),
        ("d/a.jpg", None, "out", "out/a.jpg"),
        ("d/a.jpg", None, "result.png", "result.png"),
        ("d/a.jpg", "d", "folder.png", "folder.png/a.jpg"),
        ("d/noname", "d", "out", "out/noname.png"),
    ],
)
def test_output_path(source: str, root: str | None, out: str | None, expected: str) -> None:
    assert door.output_path(source, Path(root) if root else None, out) == Path(expected)


def test_public_names() -> None:
    assert sorted(door.__all__) == sorted(set(door.__all__)) and all(hasattr(door, name) for name in door.__all__)


# -- XMP and text ------------------------------------------------------------------------------------------------------

PACKET = (
    b'<?xpacket begin="\xef\xbb\xbf"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="5" '
    b'tiff:Orientation="1"><dc:title>\xc3\x9cbersee</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)


def with_packet(name: str, packet: bytes, **options: Any) -> bytes:
    image = Image.fromarray(photograph())
    if name == "PNG":
        words = PngImagePlugin.PngInfo()
        words.add_itxt("XML:com.adobe.xmp", packet.decode())
        return saved(image, "PNG", pnginfo=words)
    if name == "TIFF":
        return tiff(photograph(), photometric="rgb", extratags=[(700, 1, len(packet), packet, True)])
    return saved(image, name, xmp=packet, **options)


def packet_of(path: Path) -> bytes:
    found = opened(path).info
    packet = found.get("xmp") or found["XML:com.adobe.xmp"].encode()
    assert isinstance(packet, bytes)
    return packet


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_xmp_is_kept_to_the_byte(source: str, suffix: str, tmp_path: Path) -> None:
    photo = door.read(with_packet(source, PACKET))
    assert photo.xmp == PACKET
    changed = photo.with_pixels(photo.pixels.flip(-1))
    assert packet_of(door.write(changed, tmp_path / f"out{suffix}")) == PACKET
    bare = opened(door.write(changed, tmp_path / f"bare{suffix}", metadata=False)).info
    assert "xmp" not in bare and "XML:com.adobe.xmp" not in bare


def test_xmp_and_text_of_16_bits(tmp_path: Path) -> None:
    photo = door.Photo(
        **{**door.read(with_packet("PNG", PACKET)).__dict__, "bit_depth": 16, "text": (("Author", "É"),)}
    )
    again = door.read(door.write(photo, tmp_path / "out.png"))
    assert again.bit_depth == 16 and again.xmp == PACKET and again.text == (("Author", "É"),)
    assert packet_of(door.write(photo, tmp_path / "out.tif")) == PACKET


def test_xmp_says_what_is_true_of_the_output() -> None:
    for turned in (
        b'tiff:Orientation="6"',
        b"tiff:Orientation = '8'",
        b"<tiff:Orientation>3</tiff:Orientation>",
    ):
        assert carried_xmp(b"<x " + turned + b"/>") == b"<x " + re.sub(rb"\d", b"1", turned) + b"/>"
    assert carried_xmp(b"a<xmp:Thumbnails>1</xmp:Thumbnails>b<xmp:Thumbnails>2</xmp:Thumbnails>c") == b"abc"
    assert carried_xmp(b"a<xmp:Thumbnails>b") == b"a<xmp:Thumbnails>b"
    assert carried_xmp(b'a xmpNote:HasExtendedXMP="0123ABCD" b') == b"a  b"
    assert carried_xmp("Ü\0\0") == "Ü".encode()
    for dropped in (
        None,
        b"",
        b"\xff\xfe",
        b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"',
        b"\0",
        b"x" * (2**20 + 1),
        "\ud800",
        (60, 120),
    ):
        assert carried_xmp(dropped) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_an_orientation_that_only_xmp_knows_is_applied_once(suffix: str, tmp_path: Path) -> None:
    turned = PACKET.replace(b'Orientation="1"', b'Orientation="6"')
    photo = door.read(with_packet("PNG", turned))
    assert (photo.width, photo.height) == (40, 56) and photo.xmp == PACKET
    again = door.read(door.write(photo, tmp_path / f"out{suffix}"))
    assert (again.width, again.height) == (40, 56) and again.xmp == PACKET


def test_a_packet_that_no_jpeg_holds_is_left_out_of_it(tmp_path: Path) -> None:
    photo = door.read(with_packet("PNG", PACKET + b" " * 70_000))
    assert "xmp" not in opened(door.write(photo, tmp_path / "out.jpg")).info
    assert len(packet_of(door.write(photo, tmp_path / "out.webp"))) == len(PACKET) + 70_000


def test_the_text_of_a_png_is_kept(tmp_path: Path) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("parameters", "a castle, Steps: 20, Seed: 7")
    words.add_itxt("Title", "Übersee 海")
    words.add_text("Comment", "x" * 3000, zip=True)
    words.add_text("Raw profile type exif", "exif 10 4578")
    data = saved(Image.fromarray(photograph()), "PNG", pnginfo=words, dpi=(300, 300))
    photo = door.read(data)
    expected = {"parameters": "a castle, Steps: 20, Seed: 7", "Title": "Übersee 海", "Comment": "x" * 3000}
    assert dict(photo.text) == expected
    with opened(door.write(photo, tmp_path / "out.png")) as image:
        assert image.text == expected  # type: ignore[attr-defined]
    with opened(door.write(photo, tmp_path / "bare.png", metadata=False)) as image:
        assert image.text == {}  # type: ignore[attr-defined]
    door.write(photo, tmp_path / "out.jpg")


def test_a_text_called_xmp_is_no_packet(tmp_path: Path) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("xmp", "hello")
    photo = door.read(saved(Image.fromarray(photograph()), "PNG", pnginfo=words))
    assert photo.xmp is None and photo.text == (("xmp", "hello"),)


def test_text_without_end_is_left_out() -> None:
    assert carried_text({"a": "b" * 2**20}) == ()
    odd: dict[str, object] = {"a": "b\0", "": "c", "x" * 80: "d", "dpi": (1, 1), "海": "g", "h": "\ud800"}
    assert carried_text({**odd, "e": "f"}) == (("e", "f"),)


# -- IPTC and comments -------------------------------------------------------------------------------------------------


def data_set(number: int, value: bytes) -> bytes:
    return bytes((0x1C, 2, number)) + len(value).to_bytes(2) + value


RECORDS = data_set(0, b"\0\4") + data_set(120, "Übersee".encode()) + data_set(25, b"sea") + data_set(25, b"")


def with_records(records: bytes, suffix: str) -> bytes:
    image = Image.fromarray(photograph())
    if suffix == ".tif":
        return tiff(photograph(), photometric="rgb", extratags=[(33723, 7, len(records), records, True)])
    resources = b"Photoshop 3.0\0"
    for number, data in ((0x040C, b"a thumbnail"), (0x0404, records)):
        resources += b"8BIM" + number.to_bytes(2) + bytes(2) + len(data).to_bytes(4) + data + bytes(len(data) % 2)
    return saved(image, "JPEG", extra=b"\xff\xed" + (len(resources) + 2).to_bytes(2) + resources)


def records_of(path: Path) -> Any:
    with opened(path) as image:
        if path.suffix == ".tif":
            return image.tag_v2.get(33723)  # type: ignore[attr-defined]
        resources = image.info.get("photoshop", {})
        assert set(resources) <= {0x0404}, "nothing but the records, and no thumbnail of what was before"
        return resources.get(0x0404)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("source", [".jpg", ".tif"])
def test_iptc_records_are_kept_without_previews(source: str, suffix: str, tmp_path: Path) -> None:
    photo = door.read(with_records(RECORDS + data_set(202, b"x" * 101), source))
    assert photo.iptc == RECORDS
    changed = photo.with_pixels(photo.pixels.flip(-1))
    assert records_of(door.write(changed, tmp_path / f"out{suffix}")) == RECORDS
    assert door.read(tmp_path / f"out{suffix}").iptc == RECORDS
    assert records_of(door.write(changed, tmp_path / f"bare{suffix}", metadata=False)) is None
    door.write(changed, tmp_path / "out.png")


def test_what_is_no_series_of_records_is_left_out() -> None:
    assert carried_iptc(RECORDS + b"\0\0\0") == RECORDS
    long = data_set(120, b"x" * 30_000)
    assert carried_iptc(long * 2) == long * 2
    extended = bytes((0x1C, 2, 120, 0x80, 4)) + (9).to_bytes(4) + b"x" * 9
    for found in (None, (1, 2), b"", b"\0\0", RECORDS[:-12], b"8BIM", RECORDS + b"?", long * 3, extended):
        assert carried_iptc(found) is None
    assert carried_iptc(data_set(202, b"only a preview")) is None


@pytest.mark.parametrize("comment", [b"by the sea", "Übersee".encode(), "Übersee".encode("latin-1")])
def test_a_comment_is_kept(comment: bytes, tmp_path: Path) -> None:
    photo = door.read(saved(Image.fromarray(photograph()), "JPEG", comment=comment))
    words = comment.decode("utf-8" if comment != "Übersee".encode("latin-1") else "latin-1")
    assert photo.text == (("Comment", words),)
    assert opened(door.write(photo, tmp_path / "out.jpg")).info["comment"] == words.encode()
    assert door.read(door.write(photo, tmp_path / "out.png")).text == photo.text
    assert "comment" not in opened(door.write(photo, tmp_path / "bare.jpg", metadata=False)).info


def test_a_comment_that_is_none_is_left_out() -> None:
    for found in (None, b"", b"\0", "text", b"x" * 65_001, b"a\0b"):
        assert carried_comment(found) == ()
