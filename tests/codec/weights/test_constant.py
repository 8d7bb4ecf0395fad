"""Nets of one colour paint exactly that colour."""

import numpy as np
import pytest

from dfm.codec.weights import payload
from dfm.codec.weights.constant import constant_net
from dfm.codec.weights.painting import paint_net
from dfm.codec.weights.payload import PRECISIONS, Architecture


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
def test_every_level_is_painted_exactly(precision, basis):
    architecture = Architecture((2,), 3, basis, precision, 0.75)
    levels = np.random.default_rng(0).permuted(np.tile(np.arange(256, dtype=np.uint8), (3, 1)), axis=1).T
    for colour in levels:
        net = payload.unpack(payload.pack(constant_net(architecture, colour)), 3)
        np.testing.assert_array_equal(paint_net(net, 3, 5), np.broadcast_to(colour, (3, 5, 3)))


@pytest.mark.parametrize("widths", [(1,), (1, 1), (2, 2), (2, 1), (3, 3), (2, 3, 3)])
def test_residuals_add_nothing(widths):
    """Layers with as many outputs as inputs add these: the coordinates must not come through."""
    for channels in (1, 3):
        colour = np.array([200, 3, 255][:channels], np.uint8)
        net = constant_net(Architecture(widths, channels, "cos_sin", "quantized", 0.75), colour)
        np.testing.assert_array_equal(paint_net(net, 4, 4), np.broadcast_to(colour, (4, 4, channels)))


def test_one_colour_takes_few_bytes():
    architecture = Architecture((2,), 3, "cos_sin", "quantized", 0.75)
    sizes = [len(payload.pack(constant_net(architecture, np.full(3, level, np.uint8)))) for level in range(256)]
    assert max(sizes) <= 17
