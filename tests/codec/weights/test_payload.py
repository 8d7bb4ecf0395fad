"""The payload: round trips of all nets, its bytes, its limits, and what a writer refuses."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.codec import entropy
from dfm.codec.weights import coefficients, payload
from dfm.codec.weights.coefficients import QuantizedLayer
from dfm.codec.weights.payload import Architecture, Net
from dfm.errors import UserError

architectures = st.builds(
    Architecture,
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=7).map(tuple),
    channels=st.sampled_from([1, 3]),
    basis=st.sampled_from(["cos_sin", "cas"]),
    precision=st.sampled_from(payload.PRECISIONS),
    input_scale=st.integers(1, 256).map(lambda units: units / 64),
)


def make_layers(architecture, seed=0, spread=20.0):
    """Random layers: integers of the given spread (clipped), or floats of it."""
    generator = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in architecture.layer_sizes:
        shape = (2**inputs, outputs)
        names = coefficients.BASES[architecture.basis]
        values = {name: generator.normal(0, spread, shape).clip(-entropy.MAX, entropy.MAX) for name in names}
        if "sin" in values:
            values["sin"][0] = 0
        if architecture.precision == "quantized":
            integers = {name: np.rint(array).astype(np.int32) for name, array in values.items()}
            layers.append(QuantizedLayer(int(generator.integers(256)), integers))
        else:
            layers.append({name: array.astype(architecture.precision) for name, array in values.items()})
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


@settings(max_examples=80, deadline=None)
@given(architectures, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 3.0, 40.0, 5000.0]))
def test_round_trip(architecture, seed, spread):
    net = Net(architecture, make_layers(architecture, seed, spread))
    try:
        packed = payload.pack(net)
    except UserError as error:
        assert "too many" in str(error)  # nearly all zero: see test_density
        return
    found = payload.unpack(packed, architecture.channels)
    assert found.architecture == architecture
    assert_same_layers(found.layers, net.layers)
    assert payload.pack(found) == packed


@pytest.mark.parametrize("value", [entropy.MAX, -entropy.MAX, 1, 0])
@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
def test_round_trip_of_constant_integers(value, basis):
    architecture = Architecture((3, 4, 2), 3, basis, "quantized", 1.0)
    layers = [
        QuantizedLayer(
            255 * (number % 2), {name: np.full_like(array, value) for name, array in layer.coefficients.items()}
        )
        for number, layer in enumerate(make_layers(architecture))
    ]
    found = payload.unpack(payload.pack(Net(architecture, layers)), 3).layers
    for layer in layers:
        if basis == "cos_sin":
            layer.coefficients["sin"][0] = 0  # whatever was given, it comes back as 0
    assert_same_layers(found, layers)


def test_bytes_of_the_architecture():
    """The layout of the docstring, byte by byte."""
    architecture = Architecture((8, 8, 8, 7, 6), 3, "cas", "float16", 0.75)
    net = Net(architecture, make_layers(architecture))
    packed = payload.pack(net)
    assert packed[:6].hex() == "03" + "05" + "888760" + "2f"
    assert packed[6:] == coefficients.pack(net.layers, architecture.layer_sizes, "cas", "float16")


def test_side_information_is_small():
    """Steps, shapes and scale indices of a 22,080-weight net cost under 0.3 % of a six-bit file."""
    architecture = Architecture((8,) * 6, 3, "cos_sin", "quantized", 1.0)
    layers = [dataclasses.replace(layer, step_index=80) for layer in make_layers(architecture, spread=16.0)]
    # The entropy of a Gaussian of standard deviation 16, in cells of 1: log2(16 sqrt(2 pi e)) = 6.047 bits
    ideal_bytes = 22_029 * 6.047 / 8
    assert len(payload.pack(Net(architecture, layers))) < 1.003 * ideal_bytes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_floats_are_finite(value, precision):
    architecture = Architecture((3,), 1, "cos_sin", precision, 1.0)
    layers = make_layers(architecture)
    packed = payload.pack(Net(architecture, layers))
    hostile = np.array(value, np.dtype(precision).newbyteorder("<")).tobytes()
    with pytest.raises(UserError, match="not finite"):
        payload.unpack(packed[: -len(hostile)] + hostile, 1)
    layers[0]["cos"][0, 0] = value
    with pytest.raises(UserError, match="not finite"):
        payload.pack(Net(architecture, layers))


def test_float16_overflow_is_named():
    architecture = Architecture((3,), 1, "cas", "float16", 1.0)
    layers = [
        {name: array.astype(np.float32) + 1e6 for name, array in layer.items()} for layer in make_layers(architecture)
    ]
    with pytest.raises(UserError, match="too large for float16"):
        payload.pack(Net(architecture, layers))


def test_density():
    """A limit that keeps a small file from asking for much: the writer names it too."""
    architecture = Architecture((8,) * 6, 3, "cos_sin", "quantized", 1.0)
    with pytest.raises(UserError, match="22080 coefficients are too many"):
        payload.pack(Net(architecture, make_layers(architecture, spread=0.0)))


@pytest.mark.parametrize(
    "field,value",
    [
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
    ],
)
def test_architecture_bounds(field, value):
    good = Architecture((3,), 1, "cas", "quantized", 1.0)
    with pytest.raises(UserError):
        dataclasses.replace(good, **{field: value})


def test_writer_refuses_layers_that_do_not_fit():
    architecture = Architecture((3, 3), 1, "cos_sin", "quantized", 1.0)
    layers = make_layers(architecture)
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
            payload.pack(Net(architecture, wrong))
