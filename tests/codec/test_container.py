"""What files of all profiles share: their bytes, their bounds; and damaged, forged and hostile files of every kind."""

import dataclasses
import struct
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm import codec
from dfm.codec import container, entropy
from dfm.codec.container import Header
from dfm.codec.profiles import make_profile
from dfm.codec.weights import payload
from dfm.errors import UserError

TESTS_DIR = Path(__file__).parents[1]
GOLDEN_FILES = sorted((TESTS_DIR / "golden").glob("v*_*.dfm"))
SMALL_FILES = [path for path in GOLDEN_FILES if path.stat().st_size < 200]


def with_checksum(body):
    return body + struct.pack("<I", zlib.crc32(body))


def read_or_refuse(data):
    """The file's facts, None where it is refused with one clear line; anything but a UserError fails the test."""
    try:
        return codec.describe(data)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return None


def plain(content):
    """A profile's content as what == compares, arrays byte for byte."""
    if dataclasses.is_dataclass(content):
        content = {field.name: getattr(content, field.name) for field in dataclasses.fields(content) if field.compare}
    if isinstance(content, np.ndarray):
        return content.dtype.str, content.shape, content.tobytes()
    if isinstance(content, Mapping):
        return {name: plain(value) for name, value in content.items()}
    return [plain(value) for value in content] if isinstance(content, (tuple, list)) else repr(content)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 2**14),
    st.integers(1, 2**14),
    st.sampled_from([1, 3]),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
)
def test_round_trip(width, height, channels, pixel_checksum, content):
    header = Header(width, height, channels, "weights", pixel_checksum)
    least = container.least_bytes(header.shape)
    if len(content) + container.shared_bytes(header.shape) < least:
        with pytest.raises(UserError, match=f"{width * height} pixels are too many.*{least} at least"):
            container.write(header, content)
        content += bytes(least)
    data = container.write(header, content)
    assert container.read(data) == (header, content)
    assert len(data) == len(content) + container.shared_bytes(header.shape)
    assert container.shared_bytes(header.shape) <= container.MAX_SHARED_BYTES


def test_header_bytes():
    """18 bytes besides the payload at 768x512; the layout of the docstring, byte by byte."""
    header = Header(768, 512, 3, "weights", 0x01020304)
    data = container.write(header, b"payload")
    assert len(data) - len(b"payload") == 18
    assert data[:14].hex() == "8944464d0201" + "8004" + "8006" + "04030201"
    assert data[14:-4] == b"payload"


def test_least_bytes():
    """A million pixels are free, then 4096 a byte."""
    assert container.least_bytes((1024, 1024, 3)) == 0
    assert container.least_bytes((1024, 1024 + 4, 3)) == 1
    assert container.least_bytes((1000, 4000, 3)) == 721


@pytest.mark.parametrize(
    "field,value",
    [("width", 0), ("height", -3), ("width", 2**29), ("channels", 2), ("pixel_checksum", 2**32), ("profile", "wave")],
)
def test_header_bounds(field, value):
    with pytest.raises(UserError):
        dataclasses.replace(Header(10, 10, 1, "weights", 0), **{field: value})


def test_golden_files_are_there():
    assert len(GOLDEN_FILES) >= 4 and len(SMALL_FILES) >= 3


@pytest.mark.parametrize("path", SMALL_FILES, ids=lambda path: path.stem)
def test_every_single_byte_corruption_is_refused(path):
    data = path.read_bytes()
    for position in range(len(data)):
        for flip in range(1, 256):
            damaged = data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :]
            assert read_or_refuse(damaged) is None, (position, flip)


@pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: path.stem)
def test_every_truncation_and_extension_is_refused(path):
    data = path.read_bytes()
    assert all(read_or_refuse(data[:length]) is None for length in range(len(data)))
    assert all(read_or_refuse(data + bytes([extra])) is None for extra in range(256))


def test_messages():
    data = GOLDEN_FILES[-1].read_bytes()
    unknown = with_checksum(data[:5] + bytes([data[5] & 1 | 100 << 1]) + data[6:-4])
    for damaged, message in [
        (b"", "not a .dfm file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a .dfm file"),
        (data[:8], "incomplete"),
        (data[:-1], "damaged or incomplete"),
        (with_checksum(data[:4] + b"\x03" + data[5:-4]), "newer version .format 3"),
        (unknown, "profile 100, which this version does not know"),
        (with_checksum(data[:4] + b"\x00" + data[5:-4]), "format 0"),
    ]:
        with pytest.raises(UserError, match=message):
            codec.decode(damaged)
        with pytest.raises(UserError, match=message):
            codec.describe(damaged)


@pytest.mark.parametrize("path", [p for p in SMALL_FILES if "v2" in p.stem], ids=lambda path: path.stem)
def test_single_byte_changes_under_a_new_checksum(path):
    """A file made with intent: a change at any place is refused, or is another file, which can be written again."""
    body = path.read_bytes()[:-4]
    for position in range(len(body)):
        # fields of few bits stand at the head, coded numbers behind it
        for flip in (*range(1, 16), 32, 64, 128, 255) if position < 24 else (1, 8, 64, 127, 128, 255):
            changed = with_checksum(body[:position] + bytes([body[position] ^ flip]) + body[position + 1 :])
            if read_or_refuse(changed) and flip in (1, 255):  # to write it takes most of the time
                header, packed = container.read(changed)
                profile = make_profile(header.profile, {})
                content = profile.unpack(packed, header.shape)
                again = container.write(header, profile.pack(content))
                read_again = profile.unpack(container.read(again)[1], header.shape)
                assert plain(read_again) == plain(content)


@settings(max_examples=1500, deadline=None)
@given(
    head=st.binary(max_size=24),
    tail=st.binary(max_size=120),
    kept=st.integers(0, 24),
    path=st.sampled_from(SMALL_FILES),
)
def test_random_bytes_under_a_valid_checksum(head, tail, kept, path):
    """A valid start, then anything, with magic, version and checksum in order."""
    body = path.read_bytes()[:-4]
    read_or_refuse(with_checksum(body[: max(kept, 5)] + head + tail))


def forged(height, width, channels, widths, basis, precision, coefficients):
    """A file of version 2 whose fields the writer need not allow."""
    flags = ["cos_sin", "cas"].index(basis) | payload.PRECISIONS.index(precision) << 1
    halves = [*widths, *[0] * (len(widths) % 2)]
    packed = bytes([flags, len(widths), *(high << 4 | low for high, low in zip(*[iter(halves)] * 2, strict=True)), 63])
    start = container.write(Header(1, 1, channels, "weights", 0), b"")[:6]
    sizes = b"".join(bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) for size in (height, width))
    sizes = sizes if min(height, width) >= 2**14 else bytes([height & 127, width & 127])
    return with_checksum(start + sizes + bytes(4) + packed + coefficients)


def hostile_files(count):
    """Files with plausible random headers, random coefficients and valid checksums."""
    generator = np.random.default_rng(1)
    for _ in range(count):
        depth = int(generator.integers(1, 9))
        widths = tuple(int(width) for width in generator.integers(1, generator.integers(2, 14), depth).clip(1, 12))
        precision = payload.PRECISIONS[generator.integers(3)]
        basis = ["cas", "cos_sin"][generator.integers(2)]
        architecture = payload.Architecture(widths, [1, 3][depth % 2], basis, precision, 1.0)
        if precision == "quantized":
            size = int(generator.integers(0, 400))
        else:
            sizes = architecture.layer_sizes
            coded = architecture.coefficient_count - sum(n for _, n in sizes) * (basis == "cos_sin")
            size = min(coded * np.dtype(precision).itemsize, 20_000)
        byte = generator.choice([0, 1, 255, None])
        coefficients = generator.bytes(size) if byte is None else bytes([byte]) * size
        yield forged(3, int(generator.integers(1, 128)), [1, 3][depth % 2], widths, basis, precision, coefficients)


def test_hostile_files_cost_little_memory():
    entropy.tables_hash()  # tables are made once and kept: they are no file's cost
    for shape in entropy.SHAPES:
        entropy.best_scale(np.zeros(1, int), shape)
    results = []
    tracemalloc.start()
    try:
        for data in hostile_files(1500):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            results.append(read_or_refuse(data) is None)
            assert tracemalloc.get_traced_memory()[1] - before < 150_000 + 400 * len(data)
    finally:
        tracemalloc.stop()
    assert any(results)


def test_bombs_are_refused_before_anything_is_allocated():
    """The largest net and picture that the fields allow, in files of a few bytes."""
    largest = (2**14, 2**14, 3, (12,) * 64, "cos_sin", "float32")
    wide = (10, 10, 3, (12,) * 3, "cos_sin", "quantized")
    tracemalloc.start()
    try:
        for fields in (largest, wide):
            for coefficients in (b"", bytes(1000)):
                assert read_or_refuse(forged(*fields, coefficients)) is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
