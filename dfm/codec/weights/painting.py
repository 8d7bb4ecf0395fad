"""Nets to 8-bit pixels."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from dfm.codec.weights.coefficients import QuantizedLayer, dequantize
from dfm.codec.weights.payload import Net
from dfm.models.fourier import fourier_net

TILE_POINTS = 2**14  # points painted at once, so that memory does not grow with the picture


def coordinates(index: Array, height: Array, width: Array) -> Float[Array, "*points 2"]:
    """Pixel numbers in raster order to x1 = (column + 1/2) / width, x2 = (row + 1/2) / height."""
    row, column = index // width, index % width
    return jnp.stack([(column + 0.5) / width, (row + 0.5) / height], -1).astype(jnp.float32)


def paint_net(net: Net, height: int, width: int) -> UInt8[np.ndarray, "height width channel"]:
    """The picture of a stored net."""
    floats = float_layers(net)
    constants = _constant_outputs(floats)
    if constants is not None:
        return np.tile(np.asarray(_levels(np, np.tanh(constants))), (height, width, 1))
    return paint(floats, height, width, net.architecture.input_scale)


def float_layers(net: Net) -> list[dict[str, np.ndarray]]:
    """Coefficients in float32, whatever the precision of the file."""
    layers = [dequantize(layer) if isinstance(layer, QuantizedLayer) else layer for layer in net.layers]
    return [{name: np.asarray(c, np.float32) for name, c in layer.items()} for layer in layers]


def _constant_outputs(layers: Sequence[Mapping[str, np.ndarray]]) -> Float[np.ndarray, " channel"] | None:
    """What the last layer gives at every point where only its constants a_0 matter, as in `constant_net`'s; else None.

    Such a picture takes no compilation and no second, however large it is.
    """
    constants = None
    for layer in layers:
        zeroth = next(iter(layer.values()))[0]  # of cos or cas, which are 1 there; sin is 0
        has_residual = len(next(iter(layer.values()))) == 2 ** len(zeroth)
        if any(c[1:].any() for c in layer.values()) or (has_residual and constants is None):
            constants = None
        else:
            constants = constants + zeroth if has_residual else zeroth
    return constants


def paint(
    layers: Sequence[Mapping[str, np.ndarray]], height: int, width: int, input_scale: float
) -> UInt8[np.ndarray, "height width channel"]:
    """The picture of one net, coefficients [2^m, n] a layer."""
    pixels = height * width
    points = min(TILE_POINTS, 1 << (pixels - 1).bit_length())  # few sizes: each is compiled
    scale = np.float32(input_scale)
    # the last tile runs past the picture: those points are painted and dropped, so that every tile has one shape
    tiles = [np.asarray(_paint_tile(layers, first, height, width, scale, points)) for first in range(0, pixels, points)]
    return np.concatenate(tiles)[:pixels].reshape(height, width, -1)


@functools.partial(jax.jit, static_argnames="points")
def _paint_tile(layers, first, height, width, input_scale, points: int) -> UInt8[Array, "points channel"]:
    x = coordinates(first + jnp.arange(points), height, width) * input_scale
    return _levels(jnp, fourier_net(layers, x))


def _levels(library: Any, values: Any) -> Any:
    """Of NumPy or of jax.numpy: (-1, 1) to 0 ... 255."""
    return library.clip(library.round((values + 1) * 127.5), 0, 255).astype(library.uint8)
