"""Round trips, golden files, and hostile bytes: every damage is one clear UserError, at little cost."""

import dataclasses
import importlib.util
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.codec import container, entropy
from dfm.codec.container import Header, QuantizedLayer
from dfm.codec.weights import payload
from dfm.errors import UserError

TESTS_DIR = Path(__file__).parents[1]
GOLDEN_FILES = sorted((TESTS_DIR / "golden").glob("v*_*.dfm"))
SMALL_FILES = [path for path in GOLDEN_FILES if path.stat().st_size < 200]

headers = st.builds(
    Header,
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    channels=st.sampled_from([1, 3]),
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=7).map(tuple),
    basis=st.sampled_from(["cos_sin", "cas"]),
    precision=st.sampled_from(container.PRECISIONS),
    input_scale=st.integers(1, 256).map(lambda units: units / 64),
    pixel_checksum=st.integers(0, 2**32 - 1),
)


def make_layers(header, seed=0, spread=20.0):
    """Random layers: integers of the given spread (clipped), or floats of it."""
    generator = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in header.layer_sizes:
        shape = (2**inputs, outputs)
        names = payload.BASES[header.basis]
        values = {name: generator.normal(0, spread, shape).clip(-entropy.MAX, entropy.MAX) for name in names}
        if "sin" in values:
            values["sin"][0] = 0
        if header.precision == "quantized":
            integers = {name: np.rint(array).astype(np.int32) for name, array in values.items()}
            layers.append(QuantizedLayer(int(generator.integers(256)), integers))
        else:
            layers.append({name: array.astype(header.precision) for name, array in values.items()})
    return layers


def assert_same_layers(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, QuantizedLayer):
            assert one.step_index == other.step_index
            one, other = one.coefficients, other.coefficients
        assert list(one) == list(other)
        for name in other:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


def with_checksum(body):
    return body + struct.pack("<I", zlib.crc32(body))


def read_or_refuse(data):
    """None where `read` refuses with one clear line; anything but a UserError fails the test."""
    try:
        return container.read(data)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return None


@settings(max_examples=80, deadline=None)
@given(headers, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 3.0, 40.0, 5000.0]))
def test_round_trip(header, seed, spread):
    layers = make_layers(header, seed, spread)
    try:
        data = container.write(header, layers)
    except UserError as error:
        assert "too many" in str(error)  # nearly all zero: see test_density
        return
    found_header, found = container.read(data)
    assert found_header == header == container.read_header(data)
    assert_same_layers(found, layers)
    assert container.write(found_header, found) == data


@pytest.mark.parametrize("value", [entropy.MAX, -entropy.MAX, 1, 0])
@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
def test_round_trip_of_constant_integers(value, basis):
    header = Header(9, 5, 3, (3, 4, 2), basis, "quantized", 1.0, 0)
    layers = [
        QuantizedLayer(
            255 * (number % 2), {name: np.full_like(array, value) for name, array in layer.coefficients.items()}
        )
        for number, layer in enumerate(make_layers(header))
    ]
    _, found = container.read(container.write(header, layers))
    for layer in layers:
        if basis == "cos_sin":
            layer.coefficients["sin"][0] = 0  # whatever was given, it comes back as 0
    assert_same_layers(found, layers)


def test_largest_net_fields():
    header = Header(2**14, 2**14, 1, (1,) * container.MAX_DEPTH, "cas", "float32", 4.0, 2**32 - 1)
    with pytest.raises(UserError, match="268435456 pixels are too many"):
        container.write(header, make_layers(header))
    header = dataclasses.replace(header, width=1, height=2**20)
    assert container.read_header(container.write(header, make_layers(header))) == header


def test_header_bytes():
    """23 bytes besides the payload for six widths; the layout of the docstring, byte by byte."""
    header = Header(768, 512, 3, (8, 8, 8, 7, 6, 5), "cas", "quantized", 0.75, 0x01020304)
    layers = make_layers(header)
    data = container.write(header, layers)
    packed = payload.pack(layers, header.layer_sizes, header.basis, header.precision)
    assert len(data) - len(packed) == 23
    assert data[:19].hex() == "8944464d010380048006068887652f04030201"
    assert data[19:-4] == packed


def test_side_information_is_small():
    """Steps, shapes and scale indices of a 22,080-weight net cost under 0.3 % of a six-bit file."""
    header = Header(400, 400, 3, (8,) * 6, "cos_sin", "quantized", 1.0, 0)
    layers = [dataclasses.replace(layer, step_index=80) for layer in make_layers(header, spread=16.0)]
    # The entropy of a Gaussian of standard deviation 16, in cells of 1: log2(16 sqrt(2 pi e)) = 6.047 bits
    ideal_bytes = 22_029 * 6.047 / 8
    assert len(container.write(header, layers)) < 1.003 * ideal_bytes


def test_step_sizes_never_change():
    assert [container.step_size(index) for index in (0, 8, 32, 64, 248)] == [16.0, 8.0, 1.0, 2.0**-4, 2.0**-27]
    assert [container.step_size(index).hex() for index in (1, 33, 95, 255)] == [
        "0x1.d5818dcfba487p+3",
        "0x1.d5818dcfba487p-1",
        "0x1.172b83c7d517bp-8",
        "0x1.172b83c7d517bp-28",
    ]
    sizes = [container.step_size(index) for index in range(256)]
    np.testing.assert_allclose(sizes, 2.0 ** (4 - np.arange(256) / 8), rtol=1e-15)
    for index in (-1, 256):
        with pytest.raises(UserError, match="step index"):
            container.step_size(index)


def test_dequantize():
    layer = QuantizedLayer(33, {"cas": np.array([[3, -2047], [0, 1]], np.int32)})
    found = container.dequantize(layer)["cas"]
    expected = np.array([[3, -2047], [0, 1]]) * np.float64(container.step_size(33))
    np.testing.assert_array_equal(found, expected.astype(np.float32), strict=True)


@pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: path.stem)
def test_golden_files(path):
    """Files of every earlier version are read as they were meant."""
    specification = importlib.util.spec_from_file_location("make_golden", TESTS_DIR.parent / "scripts/make_golden.py")
    make_golden = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(make_golden)
    data = path.read_bytes()
    described = json.loads(json.dumps(make_golden.describe(data)))
    expected = json.loads(path.with_suffix(".json").read_text())
    assert {key: described[key] for key in ("header", "step_indices", "coefficients_sha256")} == {
        key: expected[key] for key in ("header", "step_indices", "coefficients_sha256")
    }


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
    data = GOLDEN_FILES[0].read_bytes()
    for damaged, message in [
        (b"", "not a .dfm file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a .dfm file"),
        (data[:8], "incomplete"),
        (data[:-1], "damaged or incomplete"),
        (with_checksum(data[:4] + b"\x02" + data[5:-4]), "newer version .format 2"),
        (with_checksum(data[:4] + b"\x00" + data[5:-4]), "format 0"),
    ]:
        with pytest.raises(UserError, match=message):
            container.read(damaged)
        with pytest.raises(UserError, match=message):
            container.read_header(damaged)


@pytest.mark.parametrize("path", SMALL_FILES, ids=lambda path: path.stem)
def test_single_byte_changes_under_a_new_checksum(path):
    """A file made with intent: a change at any place is refused, or is another file, which can be written again."""
    body = path.read_bytes()[:-4]
    for position in range(len(body)):
        for flip in (*range(1, 16), 32, 64, 127, 128, 129, 254, 255):
            result = read_or_refuse(
                with_checksum(body[:position] + bytes([body[position] ^ flip]) + body[position + 1 :])
            )
            if result:
                assert_same_layers(container.read(container.write(*result))[1], result[1])


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


def hostile_files(count):
    """Files with plausible random headers, random payloads and valid checksums."""
    generator = np.random.default_rng(1)
    for _ in range(count):
        depth = int(generator.integers(1, 9))
        widths = tuple(int(width) for width in generator.integers(1, generator.integers(2, 14), depth).clip(1, 12))
        precision = container.PRECISIONS[generator.integers(3)]
        basis = ["cas", "cos_sin"][generator.integers(2)]
        header = Header(int(generator.integers(1, 300)), 3, [1, 3][depth % 2], widths, basis, precision, 1.0, 0)
        if precision == "quantized":
            size = int(generator.integers(0, 400))
        else:
            coded = header.coefficient_count - sum(n for _, n in header.layer_sizes) * (basis == "cos_sin")
            size = min(coded * np.dtype(precision).itemsize, 20_000)
        byte = generator.choice([0, 1, 255, None])
        packed = generator.bytes(size) if byte is None else bytes([byte]) * size
        yield with_checksum(container._pack_header(header) + packed)


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
    largest = Header(2**14, 2**14, 3, (12,) * 64, "cos_sin", "float32", 1.0, 0)
    wide = dataclasses.replace(largest, width=10, height=10, widths=(12,) * 3, precision="quantized")
    tracemalloc.start()
    try:
        for header in (largest, wide):
            for packed in (b"", bytes(1000)):
                assert read_or_refuse(with_checksum(container._pack_header(header) + packed)) is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_floats_are_finite(value, precision):
    header = Header(9, 5, 1, (3,), "cos_sin", precision, 1.0, 0)
    layers = make_layers(header)
    data = container.write(header, layers)
    array = np.frombuffer(data[:-4], np.dtype(precision).newbyteorder("<"), 1, offset=len(data) - 4 - 8)
    assert np.isfinite(array).all()
    hostile = data[: len(data) - 12] + np.array(value, array.dtype).tobytes()
    with pytest.raises(UserError, match="not finite"):
        container.read(with_checksum(hostile + data[len(hostile) : -4]))
    layers[0]["cos"][0, 0] = value
    with pytest.raises(UserError, match="not finite"):
        container.write(header, layers)


def test_float16_overflow_is_named():
    header = Header(9, 5, 1, (3,), "cas", "float16", 1.0, 0)
    layers = [{name: array.astype(np.float32) + 1e6 for name, array in layer.items()} for layer in make_layers(header)]
    with pytest.raises(UserError, match="too large for float16"):
        container.write(header, layers)


def test_density():
    """Limits that keep a small file from asking for much: the writer names them too."""
    header = Header(2000, 2000, 1, (2,), "cas", "quantized", 1.0, 0)
    with pytest.raises(UserError, match="4000000 pixels are too many"):
        container.write(header, make_layers(header))
    header = Header(20, 20, 3, (8,) * 6, "cos_sin", "quantized", 1.0, 0)
    with pytest.raises(UserError, match="22080 coefficients are too many"):
        container.write(header, make_layers(header, spread=0.0))


@pytest.mark.parametrize(
    "field,value",
    [
        ("width", 0),
        ("height", -3),
        ("width", 2**29),
        ("channels", 2),
        ("widths", ()),
        ("widths", (13,)),
        ("widths", (0, 3)),
        ("widths", (3,) * 65),
        ("basis", "sin"),
        ("precision", "int8"),
        ("input_scale", 0.0),
        ("input_scale", 4.02),
        ("input_scale", 0.3),
        ("input_scale", float("nan")),
        ("pixel_checksum", 2**32),
    ],
)
def test_header_bounds(field, value):
    good = Header(10, 10, 1, (3,), "cas", "quantized", 1.0, 0)
    with pytest.raises(UserError):
        dataclasses.replace(good, **{field: value})


def test_writer_refuses_layers_that_do_not_fit():
    header = Header(10, 10, 1, (3, 3), "cos_sin", "quantized", 1.0, 0)
    layers = make_layers(header)
    arrays = layers[0].coefficients
    for wrong in [
        layers[:-1],
        [arrays, *layers[1:]],
        [QuantizedLayer(1, {"cas": arrays["cos"]}), *layers[1:]],
        [QuantizedLayer(1, {name: array.T for name, array in arrays.items()}), *layers[1:]],
        [QuantizedLayer(1, {name: array + 0.5 for name, array in arrays.items()}), *layers[1:]],
        [QuantizedLayer(1, {name: array + 5000 for name, array in arrays.items()}), *layers[1:]],
        [QuantizedLayer(256, arrays), *layers[1:]],
    ]:
        with pytest.raises(UserError):
            container.write(header, wrong)
