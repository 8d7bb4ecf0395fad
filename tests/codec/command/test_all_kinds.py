"""A folder of thirty files such as people have: every readable picture is encoded, and the rest is listed."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from ink_profile import cmyk_profile
from PIL import Image, ImageCms, PngImagePlugin

from dfm import codec
from dfm.codec.weights import recipes
from dfm.picture_colour import ADOBE_CHROMATICITIES, make_profile

pytestmark = pytest.mark.usefixtures("quick_compilation")

# height and width of pictures of one colour, which are encoded without a fit
LARGE, TWELVE_MEGAPIXELS, ORANGE = (48, 64), (3000, 4000), (200, 100, 50)
COMMAND = "encode in -o out --profile weights --effort 1 --quality 40 --quiet"
ODD_NAMES = (b"caf\xe9.png", "Grüße 🎨.png".encode(), b"-q.png", b"two\nlines.png", b"'quotes\" and spaces.PNG")


def png(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


def one_colour(height: int, width: int) -> bytes:
    return png(Image.new("RGB", (width, height), ORANGE), compress_level=1)


@pytest.fixture
def thirty(work, photo) -> tuple[set[str], set[str]]:
    """Names in `in` of the pictures that can be encoded, and of the files that cannot."""
    colour = Image.fromarray(photo)
    grey, clear = colour.convert("L"), colour.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 0))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "x" * 5_000_000, zip=True)
    adobe = make_profile("Adobe RGB", (2.2,), ADOBE_CHROMATICITIES)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = Image.Exif()
    turned[0x0112] = 3
    plain = png(colour)

    saved = {
        "adobe.png": (colour, {"icc_profile": adobe}),
        "srgb.jpg": (colour, {"icc_profile": srgb}),
        "bad-profile.webp": (colour, {"icc_profile": b"damaged"}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "cmyk.tif": (colour.convert("CMYK"), {"icc_profile": cmyk_profile()}),
        "grey.png": (grey, {}),
        "grey-as-rgb.bmp": (grey.convert("RGB"), {}),
        "palette.gif": (colour.quantize(16), {}),
        "one-bit.pbm": (colour.convert("1"), {}),
        "turned.jfif": (colour, {"format": "JPEG", "exif": turned}),
        "old.jpe": (colour, {"format": "JPEG"}),
        "unix.pnm": (colour, {"format": "PPM"}),
        "still.apng": (colour, {"format": "PNG"}),
        "wavelet.j2k": (colour, {"format": "JPEG2000"}),
        "opaque.png": (colour.convert("RGBA"), {}),
        "clear.png": (clear, {}),
        "moving.gif": (colour, {"save_all": True, "append_images": [grey]}),
        "deep.png": (Image.new("I;16", (4, 4), 1), {}),
    }
    for name, (image, options) in saved.items():
        image.save(work / "in" / name, **options)
    (work / "in" / "sub").mkdir()
    for name, data in {
        "texts.png": png(colour, pnginfo=texts),
        "bad-checksum.png": plain[:33] + chunk(b"tIME", b"1234567", damage=1) + plain[33:],
        "gamma.png": plain[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + plain[33:],
        "sub/large.png": one_colour(*LARGE),
        "12-mpx.png": one_colour(*TWELVE_MEGAPIXELS),
        **{os.fsdecode(name): plain for name in ODD_NAMES},
        "cut.png": plain[: len(plain) // 2],
        "notes.txt": b"no picture",
    }.items():
        (work / "in" / name).write_bytes(data)
    bad = {"clear.png", "moving.gif", "deep.png", "cut.png", "notes.txt"}
    names = {str(path.relative_to("in")) for path in Path("in").rglob("*") if path.is_file()}
    assert len(names) == 30
    return names - bad, bad


def test_a_folder_of_all_kinds(thirty, run, monkeypatch, few_steps_and_nets):
    monkeypatch.setitem(recipes.EFFORT_STEPS, 1, 20)
    good, bad = thirty
    code, _, err = run(COMMAND)
    assert code == 1
    found = {str(path.relative_to("out")) for path in Path("out").rglob("*.dfm")}
    # two names differ in their suffix alone
    assert found == {str(Path(name).with_suffix(".dfm")) for name in good} - {"cmyk.dfm"} | {
        "cmyk.jpg.dfm",
        "cmyk.tif.dfm",
    }
    listed = err.splitlines()
    assert listed[0] == "dfm: 25 of 30 files encoded; these were not:"
    assert {line.split(":")[0].removeprefix("  in/") for line in listed[1:]} == bad

    def decoded(name):
        return codec.decode(Path("out", name).read_bytes())

    for name, shape in (("sub/large.dfm", LARGE), ("12-mpx.dfm", TWELVE_MEGAPIXELS)):
        np.testing.assert_array_equal(decoded(name), np.broadcast_to(np.uint8(ORANGE), (*shape, 3)))
    assert Path("out/12-mpx.dfm").stat().st_size < 3_000 and decoded("grey-as-rgb.dfm").shape == (12, 16, 1)
    # paper and inks of the profile are grey, and the picture's colours are not
    of_inks, plain_inks = decoded("cmyk.tif.dfm").astype(float), decoded("cmyk.jpg.dfm").astype(float)
    assert np.ptp(of_inks, axis=-1).mean() < np.ptp(plain_inks, axis=-1).mean() / 2
    same = [Path("out", os.fsdecode(name)).with_suffix(".dfm").read_bytes() for name in ODD_NAMES]
    assert len(set(same)) == 1 and decoded("texts.dfm").shape == (12, 16, 3)
    # light of linear gamma is far brighter in sRGB
    assert decoded("gamma.dfm").mean() > decoded("texts.dfm").mean() + 10
    assert run(COMMAND)[0] == 1  # nothing is encoded again
    assert np.array_equal(decoded("texts.dfm"), decoded("bad-checksum.dfm"))
