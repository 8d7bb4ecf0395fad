"""What `dfm decode` does with files."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfm import codec

GOLDEN = Path(__file__).parents[2] / "golden" / "v1_quantized_cas.dfm"


def with_checksum(data: bytes, checksum: int) -> bytes:
    """The file, with this checksum of the encoder's pixels."""
    found = struct.pack("<I", int(codec.describe(data)["pixel_checksum"], 16))
    body = data[:-4].replace(found, struct.pack("<I", checksum), 1)
    return body + struct.pack("<I", zlib.crc32(body))


DATA = with_checksum(GOLDEN.read_bytes(), zlib.crc32(codec.decode(GOLDEN.read_bytes()).tobytes()))


@pytest.fixture
def two(work):
    """in/a.dfm and in/sub/b.dfm, and what they show."""
    (work / "in" / "sub").mkdir()
    (work / "in" / "a.dfm").write_bytes(DATA)
    (work / "in" / "sub" / "b.dfm").write_bytes(DATA)
    return codec.decode(DATA)


@pytest.fixture
def other(work):
    """in/other.dfm, which says that the encoder saw other pixels."""
    (work / "in" / "other.dfm").write_bytes(with_checksum(DATA, 12345))


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_folder(two, run):
    assert run("decode in -o out --quiet") == (0, "", "")
    for path in ("out/a.png", "out/sub/b.png"):
        np.testing.assert_array_equal(pixels(path), two.squeeze())


def test_several_files(two, run):
    code, out, _ = run("decode in/a.dfm in/sub/b.dfm -o out --json")
    assert code == 0 and [report["output"] for report in json.loads(out)] == ["out/a.png", "out/b.png"]


def test_damage_costs_no_other(two, work, run):
    (work / "in" / "cut.dfm").write_bytes(DATA[:-9])
    (work / "in" / "text.dfm").write_text("no file of ours")
    code, _, err = run("decode in -o out --quiet")
    assert code == 1 and (work / "out" / "sub" / "b.png").exists()
    assert err.splitlines()[0] == "dfm: 2 of 4 files decoded; these were not:"
    assert [line.split(":")[0] for line in err.splitlines()[1:]] == ["  in/cut.dfm", "  in/text.dfm"]


def test_verify_finds_other_pixels(two, other, work, run):
    assert run("decode in/a.dfm -o a.png --verify")[0] == 0
    code, out, err = run("decode in/other.dfm -o other.png --verify")
    assert code == 1 and "not identical to the encoder's decode" in out and (work / "other.png").exists()
    assert run("decode in/other.dfm -o other.png --verify --quiet") == (1, "", "")
    code, out, _ = run("decode in/other.dfm -o other.png --verify --json")
    assert code == 1 and json.loads(out)["identical_to_reference"] is False
    assert run("decode in/other.dfm -o other.png")[0] == 0
    code, _, err = run("decode in -o out --verify --quiet")
    assert (code, err) == (1, "dfm: in/other.dfm: its pixels are not the encoder's\n")


def test_the_input_is_never_the_output(two, work, run):
    (work / "a.png").symlink_to(work / "in" / "a.dfm")
    code, _, err = run("decode in/a.dfm -o a.png")
    assert code == 2 and "which would be lost" in err and (work / "in" / "a.dfm").read_bytes() == DATA
    (work / "out" / "a.png").hardlink_to(work / "in" / "sub" / "b.dfm")
    code, _, err = run("decode in -o out --quiet")
    assert (
        code == 1 and (work / "in" / "sub" / "b.dfm").read_bytes() == DATA and (work / "out" / "sub" / "b.png").exists()
    )


def test_no_overwrite(two, work, run):
    (work / "out" / "a.png").write_bytes(b"theirs")
    code, _, err = run("decode in -o out --no-overwrite --quiet")
    assert code == 1 and "out/a.png: exists already" in err
    assert (work / "out" / "a.png").read_bytes() == b"theirs" and (work / "out" / "sub" / "b.png").exists()


def test_a_folder_without_files(work, run):
    code, _, err = run("decode in -o out")
    assert code == 2 and "in: no .dfm files in this folder" in err
