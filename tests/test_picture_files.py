import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from dfm.errors import UserError
from dfm.picture_files import (
    ORIENTATIONS,
    WRITABLE_FORMATS,
    central_crop,
    downscale,
    load_picture,
    picture_format,
    save_picture,
)


def message_of(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message and message.strip()
    return message


def refusal(path) -> str:
    message = message_of(load_picture, path)
    assert str(path) in message
    return message


def png_16_bit(color_type: int, channels: int) -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, color_type, 0, 0, 0)
    rows = (b"\0" + b"\x12\x34" * 2 * channels) * 2
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".PNG", ""])
def test_saved_pictures_load_unchanged(tmp_path, photograph, suffix):
    path = tmp_path / f"picture{suffix}"
    save_picture(path, photograph)
    np.testing.assert_array_equal(load_picture(path), photograph)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (7, 13, 1), (13, 7, 3)])
def test_small_and_grey_pictures_load_unchanged(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_picture(tmp_path / "picture.png", picture)
    loaded = load_picture(tmp_path / "picture.png")
    assert loaded.shape == shape
    np.testing.assert_array_equal(loaded, picture)


def test_jpeg_stays_close(tmp_path, photograph):
    save_picture(tmp_path / "picture.jpg", photograph)
    assert np.abs(load_picture(tmp_path / "picture.jpg").astype(int) - photograph).mean() < 4


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3), ("LA", 1), ("RGBA", 3), ("PA", 3), ("CMYK", 3)]
)
def test_channels_of_each_mode(tmp_path, photograph, mode, channels):
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "PA") else "picture.png")
    image = Image.fromarray(photograph).convert("P" if mode == "PA" else mode).convert(mode)
    image.save(path)
    loaded = load_picture(path)
    assert loaded.shape == (*photograph.shape[:2], channels) and loaded.dtype == np.uint8
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(loaded.shape)
    np.testing.assert_array_equal(loaded, expected)


def test_one_bit_is_black_and_white(tmp_path):
    Image.new("1", (3, 2), 1).save(tmp_path / "white.png")
    assert (load_picture(tmp_path / "white.png") == 255).all()


@pytest.mark.parametrize("container", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, photograph, container, orientation):
    upright = Image.fromarray(photograph[:48, :64])
    undo = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    how = ORIENTATIONS.get(orientation)
    stored = upright if how is None else upright.transpose(undo.get(how, how))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{container}"
    stored.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if container == "jpg" else {"lossless": True}))
    loaded = load_picture(path)
    assert loaded.shape == (48, 64, 3)
    assert np.abs(loaded.astype(int) - np.asarray(upright)).mean() < 2


def test_orientation_six_by_hand(tmp_path):
    """Orientation 6: the stored first row is the right-hand column of the upright picture (EXIF 2.32, 4.6.4)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png")[..., 0], [[4, 1], [5, 2], [6, 3]])


def test_damaged_exif_does_not_cost_the_picture(tmp_path, photograph):
    Image.fromarray(photograph).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), photograph)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused_and_opaque_alpha_dropped(tmp_path, photograph, mode):
    image = Image.fromarray(photograph).convert(mode)
    image.save(tmp_path / "opaque.png")
    load_picture(tmp_path / "opaque.png")
    image.putpixel((5, 5), (*image.getpixel((5, 5))[:-1], 254))
    image.save(tmp_path / "transparent.png")
    assert "flatten" in refusal(tmp_path / "transparent.png")


@pytest.mark.parametrize(("mode", "transparent"), [("P", 3), ("L", 3), ("RGB", (3, 3, 3))])
def test_transparent_colour_is_refused_only_where_it_occurs(tmp_path, mode, transparent):
    for name, colour in (("unused.png", 7 if mode != "RGB" else (7, 7, 7)), ("used.png", transparent)):
        image = Image.new(mode, (4, 4), colour)
        if mode == "P":
            image.putpalette(range(3 * 16))
        image.save(tmp_path / name, transparency=transparent)
    load_picture(tmp_path / "unused.png")
    assert "transparent" in refusal(tmp_path / "used.png")


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_is_refused(tmp_path, color_type, channels):
    (tmp_path / "deep.png").write_bytes(png_16_bit(color_type, channels))
    assert "8 bits" in refusal(tmp_path / "deep.png")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_tiff_is_refused(tmp_path, mode):
    Image.new(mode, (3, 3)).save(tmp_path / "deep.tif")
    assert "8 bits" in refusal(tmp_path / "deep.tif")


@pytest.mark.parametrize("data", [b"P6\n1 1\n65535\n123456", b"P3\n1 1\n65535\n1 2 3\n", b"P5\n1 1\n1023\n12"])
def test_deep_ppm_is_refused(tmp_path, data):
    (tmp_path / "deep.ppm").write_bytes(data)
    assert "8 bits" in refusal(tmp_path / "deep.ppm")


def test_deep_jpeg_2000_is_refused(tmp_path):
    Image.new("I;16", (16, 16), 4000).save(tmp_path / "deep.jp2")
    assert "8 bits" in refusal(tmp_path / "deep.jp2")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "ppm", "gif"])
def test_truncated_pictures_are_refused(tmp_path, photograph, suffix):
    buffer = tmp_path / f"whole.{suffix}"
    Image.fromarray(photograph).save(buffer)
    data = buffer.read_bytes()
    for fraction in (0.02, 0.3, 0.6, 0.9):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(data[: int(len(data) * fraction)])
        refusal(path)


def test_damaged_pictures_never_crash(tmp_path, photograph):
    for suffix in ("png", "jpg", "webp", "gif", "tif"):
        buffer = io.BytesIO()
        Image.fromarray(photograph[:16, :16]).save(buffer, Image.registered_extensions()[f".{suffix}"])
        random = np.random.default_rng(0)
        for _ in range(60):
            data = bytearray(buffer.getvalue())
            for position in random.integers(0, len(data), 3):
                data[position] = random.integers(256)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(data)
            try:
                assert load_picture(path).shape[-1] in (1, 3)
            except UserError as error:
                assert "\n" not in str(error)


def test_what_is_no_picture(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.png")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture at all\n" * 10)
    assert "not a picture" in refusal(tmp_path / "text.png")


def test_animation_is_refused(tmp_path, photograph):
    frames = [Image.fromarray(frame) for frame in (photograph, 255 - photograph)]
    for suffix in ("gif", "webp", "png", "tif"):
        path = tmp_path / f"animated.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert "2 pictures" in refusal(path)


def test_first_picture_of_a_multi_picture_photograph(tmp_path, photograph):
    frames = [Image.fromarray(frame) for frame in (photograph, 255 - photograph)]
    frames[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(load_picture(tmp_path / "phone.jpg").astype(int) - photograph).mean() < 8


@pytest.mark.parametrize("side", [12, 30])
def test_decompression_bomb_is_refused(tmp_path, monkeypatch, side):
    """Pillow warns above the limit and raises above twice the limit."""
    Image.new("L", (side, side)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "100 pixels" in refusal(tmp_path / "bomb.png")


def test_standard_streams(photograph):
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "PNG")
    program = "from dfm.picture_files import load_picture, save_picture; save_picture('-', load_picture('-'))"
    done = subprocess.run([sys.executable, "-c", program], input=buffer.getvalue(), stdout=subprocess.PIPE, check=True)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(done.stdout))), photograph)


def test_bad_standard_input_is_named():
    program = (
        "from dfm.picture_files import load_picture\n"
        "from dfm.errors import UserError\n"
        "try: load_picture('-')\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"text", stdout=subprocess.PIPE, check=True)
    assert done.stdout.startswith(b"standard input: not a picture")


def test_unknown_suffix(tmp_path, photograph):
    for function in (picture_format, lambda path: save_picture(path, photograph)):
        assert ".xyz" in message_of(function, tmp_path / "picture.xyz")
    assert not os.listdir(tmp_path)
    assert picture_format("-")[0] == picture_format("no_suffix")[0] == "PNG"
    assert set(WRITABLE_FORMATS) >= {".png", ".jpg", ".webp"}


def test_what_a_format_cannot_hold(tmp_path):
    too_wide = np.zeros((1, 70_000, 3), np.uint8)
    assert "WEBP" in message_of(save_picture, tmp_path / "wide.webp", too_wide)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("shape", "longest_side", "expected"),
    [
        ((64, 96, 3), 48, (32, 48, 3)),
        ((96, 64, 1), 48, (48, 32, 1)),
        ((64, 96, 3), 96, (64, 96, 3)),
        ((64, 96, 3), 500, (64, 96, 3)),
        ((1, 1000, 1), 10, (1, 10, 1)),
    ],
)
def test_downscale_shapes(shape, longest_side, expected):
    assert downscale(np.zeros(shape, np.uint8), longest_side).shape == expected


def test_downscale_keeps_the_mean(photograph):
    assert abs(downscale(photograph, 24).mean() - photograph.mean()) < 1


@pytest.mark.parametrize(
    ("shape", "expected"), [((6, 9, 3), (4, 4, 3)), ((3, 9, 1), (3, 4, 1)), ((2, 2, 3), (2, 2, 3))]
)
def test_central_crop(shape, expected):
    picture = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    cropped = central_crop(picture, 4)
    assert cropped.shape == expected
    top, left = (shape[0] - expected[0]) // 2, (shape[1] - expected[1]) // 2
    np.testing.assert_array_equal(cropped[0, 0], picture[top, left])


def test_shapes_are_checked(photograph):
    for wrong in (photograph[..., 0], photograph.astype(np.float32)):
        with pytest.raises(TypeCheckError):
            downscale(wrong, 10)
