"""Whole files of the latents profile, damaged at every byte or forged under right checksums."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from random_content import random_content

from dfm import codec
from dfm.codec import container
from dfm.codec.latents import payload, shapes
from dfm.compress import main
from dfm.errors import UserError

SHAPE = (9, 12, 1)
FLIPS = (1, 16, 128, 255)


def file_of(content, pixel_checksum: int = 0) -> bytes:
    height, width, channels = content.layout[:3]
    header = container.Header(width, height, channels, "latents", pixel_checksum)
    return container.write(header, payload.pack(content))


@pytest.fixture(scope="module")
def data() -> bytes:
    content = random_content(*SHAPE, spread=1.0)
    return file_of(content, container.checksum(payload.paint(content)))


def under_checksums(data: bytes) -> bytes:
    """The file with the checksums of both the payload's coarse section and the whole made right, where there is one."""
    body = bytearray(data[:-4])
    try:
        header, first = container.read_start(bytes(body))
        end = first + payload.coarse_end(bytes(body[first:]))
        layout = shapes.Layout(*header.shape, body[first] & 15)
        said, coarse = bytes(body[first : first + 5]), bytes(body[first + payload.START_BYTES : end])
        body[first + 5 : first + payload.START_BYTES] = payload.checksum(layout, said, coarse)
    except (UserError, struct.error):
        pass
    return bytes(body) + zlib.crc32(body).to_bytes(4, "little")


def test_every_damaged_byte_and_every_truncation_is_refused(data):
    whole = codec.decode(data)
    assert codec.is_reference_decode(data, whole)
    damaged = [data[:length] for length in range(len(data))] + [data + b"\0"]
    for position, byte in enumerate(data):
        damaged += [data[:position] + bytes([byte ^ flip]) + data[position + 1 :] for flip in FLIPS]
    for each in damaged:
        with pytest.raises(UserError) as refused:
            codec.decode(each)
        assert "\n" not in str(refused.value)


def test_every_forged_byte_and_truncation_decodes_or_is_refused(data):
    """Under right checksums anything may be said; what is asked for stays in proportion to the file."""
    forged = [under_checksums(data[:length]) for length in range(14, len(data))]
    for position, byte in enumerate(data[:-4]):
        for flip in (1, 255):
            forged.append(under_checksums(data[:position] + bytes([byte ^ flip]) + data[position + 1 :]))
    decoded, slowest = 0, 0.0
    tracemalloc.start()
    try:
        for each in forged:
            begun = time.process_time()
            try:
                picture = codec.decode(each)
                decoded += 1
                assert picture.dtype == np.uint8
                # a height or width of two bytes instead of one
                assert picture.size <= 3 * 255 * 128 * 128
            except UserError as error:
                assert "\n" not in str(error)
            slowest = max(slowest, time.process_time() - begun)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert decoded > len(data) / 2
    assert slowest < 10


def test_a_forged_file_is_one_line_and_exit_code_2(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    position = len(data) - payload.unpack(container.read(data)[1], SHAPE).section_bytes[1] - 4
    for number, cut in enumerate((data[: position - 1] + data[-4:], b"\x89DFM\x02\x03" + b"\xff" * 30, data[:12])):
        (tmp_path / "bad.dfm").write_bytes(under_checksums(cut) if number < 2 else cut)
        assert main(["decode", "bad.dfm", "-o", "bad.png"]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("dfm: bad.dfm: ")
        assert not (tmp_path / "bad.png").exists()


@pytest.mark.parametrize(
    "height, width, message",
    [
        (2**14, 2**14, "pixels are too many for a file"),
        (2**18, 1, "too few bytes for so many pixels"),  # waves one after the other
        (2**20, 1, "take too many steps"),
        (1, 2**20, "take too many steps"),
    ],
)
def test_files_that_ask_for_hours_are_refused_at_once(data, height, width, message):
    """The fields of a small file, with another size."""
    header, packed = container.read(data)
    body = container.MAGIC + bytes([container.VERSION, 1 << 1])
    for size in (height, width):
        while size >= 128:
            body, size = body + bytes([size & 127 | 128]), size >> 7
        body += bytes([size])
    forged = under_checksums(body + struct.pack("<I", header.pixel_checksum) + packed + bytes(4))
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(UserError, match=message):
            codec.decode(forged)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 0.5


def test_a_preview_asks_for_no_more_than_the_coarse_section_pays_for(data):
    """A cut-off file of a few bytes that says it has 2^28 pixels."""
    header, packed = container.read(data)
    start = packed[: payload.START_BYTES]
    layout = shapes.Layout(2**14, 2**14, 1, start[0] & 15)
    coarse = packed[payload.START_BYTES : payload.coarse_end(packed)]
    forged = start[:5] + payload.checksum(layout, start[:5], coarse) + coarse
    with pytest.raises(UserError, match="too few bytes for so many pixels"):
        payload.unpack_coarse(forged, (2**14, 2**14, 1), 2)


@pytest.mark.parametrize("value, refused", [(63, False), (64, True)])
def test_latents_out_of_range_are_refused(value, refused):
    """Only a forged stream has them: behind latents of 60 the mean is at its limit, and symbols reach beyond it."""
    content = random_content(*SHAPE, spread=0.0)
    content.networks.exponents["context_output"] = 0
    content.networks.integers["context_weights_3"][0, 0] = 3
    for grid in content.grids.values():
        grid[:] = 60
    content.grids[0][4, 4] = value
    packed = payload.pack(content)
    if refused:
        with pytest.raises(UserError, match="latents are damaged"):
            payload.unpack(packed, SHAPE)
    else:
        np.testing.assert_array_equal(payload.unpack(packed, SHAPE).grids[0], content.grids[0])
