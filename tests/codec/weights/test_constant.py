"""Nets of one colour paint exactly that colour."""

import numpy as np
import pytest

from dfm.codec.weights import payload
from dfm.codec.weights.constant import constant_net
from dfm.codec.weights.painting import float_layers, paint, paint_net
from dfm.codec.weights.payload import PRECISIONS, Architecture, Net


def painted(net, height, width):
    """By NumPy, as one colour, and by the net itself at every point: the same."""
    picture = paint_net(net, height, width)
    np.testing.assert_array_equal(picture, paint(float_layers(net), height, width, net.architecture.input_scale))
    return picture


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
def test_every_level_is_painted_exactly(precision, basis):
    architecture = Architecture((2,), 3, basis, precision, 0.75)
    levels = np.random.default_rng(0).permuted(np.tile(np.arange(256, dtype=np.uint8), (3, 1)), axis=1).T
    for colour in levels:
        net = payload.unpack(payload.pack(constant_net(architecture, colour)), 3)
        np.testing.assert_array_equal(painted(net, 3, 5), np.broadcast_to(colour, (3, 5, 3)))


@pytest.mark.parametrize("widths", [(1,), (1, 1), (2, 2), (2, 1), (3, 3), (2, 3, 3)])
def test_residuals_add_nothing(widths):
    """Layers with as many outputs as inputs add these: the coordinates must not come through."""
    for channels in (1, 3):
        colour = np.array([200, 3, 255][:channels], np.uint8)
        net = constant_net(Architecture(widths, channels, "cos_sin", "quantized", 0.75), colour)
        np.testing.assert_array_equal(painted(net, 4, 4), np.broadcast_to(colour, (4, 4, channels)))


def test_what_only_adds_constants_is_one_colour_and_nothing_else_is():
    rng = np.random.default_rng(0)
    net = constant_net(Architecture((2, 3, 3), 3, "cos_sin", "float32", 0.75), np.array([90, 100, 110], np.uint8))
    for layer in net.layers[1:]:
        layer["cos"][0] += rng.normal(0, 0.1, 3)
    assert len(np.unique(painted(net, 4, 5).reshape(-1, 3), axis=0)) == 1
    for number, name in ((1, "sin"), (2, "cos"), (3, "sin")):
        changed = Net(net.architecture, [{key: c.copy() for key, c in layer.items()} for layer in net.layers])
        changed.layers[1]["cos"][1] = 1.0  # what the last layers see is no constant any more
        changed.layers[number][name][2] = 1.0
        assert len(np.unique(painted(changed, 4, 5).reshape(-1, 3), axis=0)) > 1


def test_one_colour_takes_few_bytes():
    architecture = Architecture((2,), 3, "cos_sin", "quantized", 0.75)
    sizes = [len(payload.pack(constant_net(architecture, np.full(3, level, np.uint8)))) for level in range(256)]
    assert max(sizes) <= 17
