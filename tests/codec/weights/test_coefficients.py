"""Coefficients as bytes: step sizes that never change, floats that are finite."""

import numpy as np
import pytest

from dfm.codec.weights import coefficients
from dfm.errors import UserError


def test_step_sizes_never_change():
    assert [coefficients.step_size(index) for index in (0, 8, 32, 64, 248)] == [16.0, 8.0, 1.0, 2.0**-4, 2.0**-27]
    assert [coefficients.step_size(index).hex() for index in (1, 33, 95, 255)] == [
        "0x1.d5818dcfba487p+3",
        "0x1.d5818dcfba487p-1",
        "0x1.172b83c7d517bp-8",
        "0x1.172b83c7d517bp-28",
    ]
    sizes = [coefficients.step_size(index) for index in range(256)]
    np.testing.assert_allclose(sizes, 2.0 ** (4 - np.arange(256) / 8), rtol=1e-15)
    for index in (-1, 256):
        with pytest.raises(UserError, match="step index"):
            coefficients.step_size(index)


def test_dequantize():
    layer = coefficients.QuantizedLayer(33, {"cas": np.array([[3, -2047], [0, 1]], np.int32)})
    found = coefficients.dequantize(layer)["cas"]
    expected = np.array([[3, -2047], [0, 1]]) * np.float64(coefficients.step_size(33))
    np.testing.assert_array_equal(found, expected.astype(np.float32), strict=True)
