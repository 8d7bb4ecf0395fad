"""What people's picture files hold besides plain pixels: texts, bad checksums, transparency, grey in three channels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dfm.errors import UserError
from dfm.picture_files import PICTURE_SUFFIXES, as_grey, load_picture, parse_colour, picture_size


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


@pytest.mark.parametrize("compressed", [True, False])
def test_png_with_five_megabytes_of_text(tmp_path, photograph, compressed):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "x" * 5_000_000, zip=compressed)
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(photograph), pnginfo=texts))
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), photograph)


@pytest.mark.parametrize("kind", [b"tEXt", b"tIME", b"gAMA", b"vpAg", b"iCCP"])
def test_png_with_a_wrong_checksum_beside_the_pixels(tmp_path, photograph, kind):
    data = png(Image.fromarray(photograph))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(kind, b"\0\0\xc3\x50", damage=1) + data[33:])
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), photograph)


def test_png_with_a_wrong_checksum_of_the_pixels_is_refused(tmp_path, photograph):
    data = bytearray(png(Image.fromarray(photograph)))
    data[data.index(b"IDAT") + 40] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match="damaged or truncated"):
        load_picture(tmp_path / "a.png")


def test_transparency_and_orientation_of_png_survive(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    (tmp_path / "turned.png").write_bytes(png(image, exif=exif))
    np.testing.assert_array_equal(load_picture(tmp_path / "turned.png")[..., 0], [[4, 1], [5, 2], [6, 3]])
    (tmp_path / "clear.png").write_bytes(png(image, transparency=3))
    with pytest.raises(UserError, match="--background=white"):
        load_picture(tmp_path / "clear.png")


@pytest.mark.parametrize(("background", "shown"), [("white", 255), ("black", 0), ("#808080", 128)])
def test_background_shows_through_grey(tmp_path, background, shown):
    """Over-blending by hand: (100 * 51 + shown * 204) / 255."""
    Image.new("LA", (2, 2), (100, 51)).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png", background)
    assert picture.shape == (2, 2, 1) and np.abs(picture - (100 * 0.2 + shown * 0.8)).max() <= 0.5


def test_background_shows_through_colour(tmp_path):
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png", "red"), [[[255, 0, 0], [10, 20, 30]]])
    Image.new("LA", (1, 1), (100, 0)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "grey.png", "#ff8000"), [[[255, 128, 0]]])


def test_background_leaves_opaque_pictures_alone(tmp_path, photograph):
    Image.fromarray(photograph).convert("RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png", "white"), photograph)


def test_colours_in_words():
    assert parse_colour("white") == (255, 255, 255)
    assert parse_colour("#102030") == (16, 32, 48)
    for wrong in ("whit", "#12", "", "#10203040"):
        with pytest.raises(UserError, match="is no colour"):
            parse_colour(wrong)


def test_grey_in_three_channels_is_one():
    grey = np.random.default_rng(0).integers(0, 256, (5, 7, 1), dtype=np.uint8)
    np.testing.assert_array_equal(as_grey(grey.repeat(3, axis=-1)), grey)
    np.testing.assert_array_equal(as_grey(grey), grey)
    colour = grey.repeat(3, axis=-1)
    colour[4, 6, 2] ^= 1
    assert as_grey(colour) is colour


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_every_suffix_is_of_a_format_that_is_read(tmp_path, suffix):
    known = {".apng": "PNG", ".j2k": "JPEG2000"}
    format_name = known.get(suffix, Image.registered_extensions()[suffix])
    image = Image.new("1" if suffix == ".pbm" else "L", (16, 8), 1)
    image.save(tmp_path / f"a{suffix}", format_name)
    assert load_picture(tmp_path / f"a{suffix}").shape[:2] == (8, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_come_from_the_header_and_are_upright(tmp_path, monkeypatch, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (16, 8)).save(tmp_path / "a.jpg", exif=exif)
    expected = load_picture(tmp_path / "a.jpg").shape[:2]
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert picture_size(tmp_path / "a.jpg") == expected == ((16, 8) if orientation >= 5 else (8, 16))


def test_headers_are_refused_in_the_same_words(tmp_path):
    (tmp_path / "text.png").write_text("no picture at all")
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    for name, message in (("text.png", "not a picture"), ("deep.png", "8 bits"), ("none.png", "no such file")):
        with pytest.raises(UserError, match=message):
            picture_size(tmp_path / name)
