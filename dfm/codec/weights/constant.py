"""Nets that paint one colour, exactly: what a flat picture gets, and what no fit does worse than."""

from dataclasses import replace

import numpy as np

from dfm.codec.weights.coefficients import BASES, STEP_INDICES, QuantizedLayer, step_size
from dfm.codec.weights.payload import MAX_DEPTH, MAX_WIDTH, Architecture, Net
from dfm.shapes import UInt8

SATURATED = 4.0  # tanh of it paints 0 and 255
TOLERANCE = 0.4  # of a level: on any machine the same one is painted


def constant_net(architecture: Architecture, colour: UInt8[np.ndarray, "channel"]) -> Net:
    """The net whose coefficients are all zero but the last layer's constants: y = a_0 (Asadi 2022, Eq. 4.5, k = 0).

    What the last layer may add of its inputs is zero too: those that it adds come from a layer without inputs to add.

    Args:
        colour: a level a channel.
    """
    constants = _constants(colour)
    if architecture.precision != "quantized":
        values = [_layer(architecture, size, np.dtype(architecture.precision)) for size in architecture.layer_sizes]
        next(iter(values[-1].values()))[0] = constants
        return Net(architecture, values)
    # the coarsest step that still paints the colour: its integers are the cheapest
    index = next(i for i in range(STEP_INDICES) if _paints(np.round(constants / step_size(i)) * step_size(i), colour))
    integers = [_layer(architecture, size, np.dtype(np.int32)) for size in architecture.layer_sizes]
    next(iter(integers[-1].values()))[0] = np.round(constants / step_size(index))
    return Net(architecture, [QuantizedLayer(index, layer) for layer in integers])


def smallest_of_floats(architecture: Architecture, least_bytes: int) -> Architecture:
    """The architecture with the fewest coefficients that take `least_bytes` or more, at the given float precision."""
    shapes = [(width,) * depth for width in range(2, MAX_WIDTH + 1) for depth in range(1, MAX_DEPTH + 1)]
    known = [replace(architecture, widths=widths) for widths in shapes]
    return min((one for one in known if _float_bytes(one) >= least_bytes), key=_float_bytes)


def _float_bytes(architecture: Architecture) -> int:
    """At least so many: coefficients of sin(0) are not stored."""
    outputs = sum(outputs for _, outputs in architecture.layer_sizes) if architecture.basis == "cos_sin" else 0
    return np.dtype(architecture.precision).itemsize * (architecture.coefficient_count - outputs)


def _constants(colour: np.ndarray) -> np.ndarray:
    values = colour / 127.5 - 1
    saturated = np.abs(values) >= 1
    return np.where(saturated, SATURATED * np.sign(values), np.arctanh(np.where(saturated, 0, values)))


def _paints(constants: np.ndarray, colour: np.ndarray) -> bool:
    painted = (np.tanh(constants) + 1) * 127.5
    return bool(np.all(np.abs(painted - colour) < TOLERANCE))


def _layer(architecture: Architecture, size: tuple[int, int], dtype: np.dtype) -> dict[str, np.ndarray]:
    inputs, outputs = size
    return {name: np.zeros((2**inputs, outputs), dtype) for name in BASES[architecture.basis]}
