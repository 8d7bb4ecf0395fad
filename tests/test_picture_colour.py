"""Colours to sRGB, against the formulas of the standards in NumPy."""

import io
import struct
import zlib

import numpy as np
import pytest
from ink_profile import cmyk_profile
from PIL import Image, ImageCms

from dfm.picture_colour import make_profile
from dfm.picture_files import load_picture, save_picture

# xy of white, red, green, blue, as published; a gamma, or None for sRGB's curve
SRGB = ((0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
ADOBE = ((0.3127, 0.329), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
DISPLAY_P3 = ((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
SWAPPED = ((0.3127, 0.329), (0.15, 0.06), (0.3, 0.6), (0.64, 0.33))  # red and blue: wrong at a glance if ignored
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
ROUNDING = 1.01  # levels: the profile's numbers and lcms' results are rounded


def to_xyz(chromaticities) -> np.ndarray:
    white, *primaries = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in chromaticities]
    columns = np.stack(primaries, 1)
    return columns * np.linalg.solve(columns, white)


def expected(pixels, chromaticities, gamma) -> np.ndarray:
    """IEC 61966-2-1 from light of other primaries with the same white, as real levels."""
    value = pixels / 255
    curve = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    light = (curve if gamma is None else value**gamma) @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(chromaticities)).T
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def flat(chromaticities) -> tuple[float, ...]:
    return tuple(number for pair in chromaticities for number in pair)


def profile(chromaticities, gamma) -> bytes:
    return make_profile("a test's", SRGB_CURVE if gamma is None else (gamma,), flat(chromaticities))


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    levels = np.array([0, 1, 5, 20, 60, 100, 128, 180, 220, 250, 255], np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(11, 121, 3)


@pytest.fixture
def load(tmp_path):
    """The loaded picture and the notes beside it."""

    def load(name, **options):
        notes = []
        picture = load_picture(tmp_path / name, note=notes.append, **options)
        return picture, [note.removeprefix(f"{tmp_path / name}: ") for note in notes]

    return load


SPACES = {"adobe": (ADOBE, 563 / 256), "p3": (DISPLAY_P3, None), "swapped": (SWAPPED, None), "gamma 1.8": (SRGB, 1.8)}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("space", SPACES)
def test_a_profile_is_converted_to_srgb(tmp_path, colours, load, space, suffix):
    image = Image.fromarray(colours)
    image.save(tmp_path / f"a.{suffix}", icc_profile=profile(*SPACES[space]), lossless=True)
    picture, notes = load(f"a.{suffix}")
    assert np.abs(picture - expected(colours, *SPACES[space])).max() < ROUNDING
    assert notes == ["colours converted from a test's to sRGB"]


def test_swapped_channels_by_hand(tmp_path, load):
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "a.png", icc_profile=profile(SWAPPED, None))
    assert np.abs(load("a.png")[0].astype(int) - [50, 100, 200]).max() <= 1


def test_jpeg_with_a_profile(tmp_path, load):
    Image.new("RGB", (16, 16), (60, 180, 60)).save(
        tmp_path / "a.jpg", quality=100, icc_profile=profile(*SPACES["adobe"])
    )
    picture, _ = load("a.jpg")
    assert np.abs(picture - expected(np.array([60, 180, 60]), *SPACES["adobe"])).max() < 3


def test_srgb_profiles_leave_every_pixel_alone(tmp_path, colours, load):
    builtin = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (builtin, profile(SRGB, None)):
        Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=data)
        picture, notes = load("a.png")
        assert (picture == colours).all() and notes == []


def test_what_is_written_is_srgb_without_a_profile(tmp_path, colours, load):
    Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=profile(*SPACES["p3"]))
    picture, _ = load("a.png")
    save_picture(tmp_path / "b.png", picture)
    again, notes = load("b.png")
    assert (again == picture).all() and notes == []
    with Image.open(tmp_path / "b.png") as written:
        assert "icc_profile" not in written.info


def test_palettes_and_alpha_keep_their_profile(tmp_path, load):
    data = profile(SWAPPED, None)
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    image.quantize(4).save(tmp_path / "palette.png", icc_profile=data)
    image.putalpha(255)
    image.save(tmp_path / "opaque.png", icc_profile=data)
    image.putalpha(0)
    image.save(tmp_path / "clear.png", icc_profile=data)
    assert np.abs(load("palette.png")[0].astype(int) - [50, 100, 200]).max() <= 1
    assert np.abs(load("opaque.png")[0].astype(int) - [50, 100, 200]).max() <= 1
    assert (load("clear.png", background="#102030")[0] == [16, 32, 48]).all()  # a background is sRGB


def grey_profile(gamma: float) -> bytes:
    """An ICC profile of version 2 by hand: ICC.1:2001-04, 6.3.2.2."""
    curve = b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))
    white = b"XYZ " + struct.pack(">4x3i", 63190, 65536, 54061)
    text = b"desc" + struct.pack(">4xI", 5) + b"grey\0" + bytes(78)
    tags, offset = b"", 128 + 4 + 36
    for name, data in ((b"desc", text), (b"wtpt", white), (b"kTRC", curve)):
        tags += struct.pack(">4sII", name, offset, len(data))
        offset += len(data) + -len(data) % 4
    body = b"".join(data + bytes(-len(data) % 4) for data in (text, white, curve))
    header = struct.pack(">I4xI4s4s4s12x4s28x12s48x", offset, 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp", white[8:])
    return header + struct.pack(">I", 3) + tags + body


@pytest.mark.parametrize("data", [grey_profile(1.5), profile(SRGB, 1.5)], ids=["grey", "rgb"])
def test_grey_with_a_profile_stays_grey(tmp_path, load, data):
    ramp = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=data)
    picture, notes = load("a.png")
    wanted = expected(ramp.reshape(-1, 1).repeat(3, 1), SRGB, 1.5)[:, 0]
    assert picture.shape == (8, 32, 1) and np.abs(picture.ravel() - wanted).max() < ROUNDING and len(notes) == 1


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_with_a_profile(tmp_path, load, suffix):
    """Lightness falls linearly with cyan: L = 100 (1 - 102 / 255) = 60, which sRGB shows as 144.6."""
    image = Image.new("CMYK", (16, 16), (102, 0, 0, 0))
    image.save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile(), quality=100)
    picture, notes = load(f"a.{suffix}")
    light = ((60 + 16) / 116) ** 3
    wanted = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert picture.shape == (16, 16, 3) and np.abs(picture - wanted).max() < 3
    assert notes == ["colours converted from inks to sRGB"]


@pytest.mark.parametrize("data", [b"no profile at all", profile(ADOBE, 2.2)[:200], cmyk_profile(), grey_profile(1.5)])
def test_a_damaged_or_foreign_profile_is_noted_and_ignored(tmp_path, colours, load, data):
    Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=data)
    picture, notes = load("a.png")
    assert (picture == colours).all()
    assert notes == ["its colour profile is damaged or not one of such a picture: read as sRGB"]


def png(colours, *chunks) -> bytes:
    """A PNG with chunks (kind, data) behind its header."""
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG")
    data = buffer.getvalue()
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + extra + data[33:]


def gamma_chunk(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 / gamma))


def primaries_chunk(chromaticities) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * number) for number in flat(chromaticities)))


@pytest.mark.parametrize(
    ("chunks", "space"),
    [
        ([gamma_chunk(1.0)], (SRGB, 1.0)),
        ([gamma_chunk(1.8)], (SRGB, 1.8)),
        ([primaries_chunk(DISPLAY_P3)], (DISPLAY_P3, None)),
        ([gamma_chunk(1.8), primaries_chunk(ADOBE)], (ADOBE, 1.8)),
        ([gamma_chunk(2.2), primaries_chunk(SWAPPED)], (SWAPPED, None)),
    ],
)
def test_png_gamma_and_primaries(tmp_path, colours, load, chunks, space):
    (tmp_path / "a.png").write_bytes(png(colours, *chunks))
    picture, notes = load("a.png")
    assert np.abs(picture - expected(colours, *space)).max() < ROUNDING
    assert notes == ["colours converted from PNG's gAMA and cHRM to sRGB"]


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma_chunk(2.2), primaries_chunk(SRGB)],  # as ImageMagick writes it into sRGB pictures
        [(b"sRGB", b"\0"), gamma_chunk(1.0)],
        [gamma_chunk(1e9)],
        [primaries_chunk([(0, 0)] * 4)],
    ],
)
def test_png_chunks_that_say_srgb_or_nonsense(tmp_path, colours, load, chunks):
    (tmp_path / "a.png").write_bytes(png(colours, *chunks))
    picture, notes = load("a.png")
    assert (picture == colours).all() and notes == []


def test_grey_png_with_gamma(tmp_path, load):
    ramp = np.arange(256, dtype=np.uint8).reshape(8, 32)
    (tmp_path / "a.png").write_bytes(png(ramp, gamma_chunk(1.0)))
    wanted = expected(ramp.reshape(-1, 1).repeat(3, 1), SRGB, 1.0)[:, 0]
    assert np.abs(load("a.png")[0].ravel() - wanted).max() < ROUNDING


def test_a_cameras_mark_for_adobe_rgb(tmp_path, colours, load):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(colours).save(tmp_path / "a.webp", exif=exif, lossless=True)
    picture, notes = load("a.webp")
    assert np.abs(picture - expected(colours, *SPACES["adobe"])).max() < ROUNDING
    assert notes == ["colours converted from Adobe RGB, by its EXIF mark to sRGB"]
