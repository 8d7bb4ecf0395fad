"""The coefficients of one net as bytes: range-coded integers, or plain floats.

Layers are described by their sizes, a list of (inputs m, outputs n), and a basis: each layer has one array [2^m, n]
for each name in BASES[basis], and bit j of a row's index is k_j. The row k = 0 of "sin" never matters: it is not
coded and comes back as 0.

Floats follow each other, little-endian, in coefficient-vector order: layer by layer, cos before sin, row-major.

Integers are one range-coded message (dfm/codec/entropy.py). First the spread of scale differences. Then for each
layer: its step index and its shape, as differences from the layer before; and for each group of its coefficients the
scale index and the integers. A group is what shares the layer and the number of ones in k, cos and sin together,
because that is what the variance of a coefficient depends on; groups go from no ones to m ones. A scale index is coded
as the difference from the group before, that of a layer's first group as the difference from the last layer's first.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from dfm.codec import entropy
from dfm.errors import UserError
from dfm.shapes import Float, Int, typechecked

BASES = {"cos_sin": ("cos", "sin"), "cas": ("cas",)}
FLOAT_TYPES = {"float16": "<f2", "float32": "<f4"}

# 2^(-j / 8), correctly rounded: literals, because pow may differ in the last bit between C libraries.
STEP_MANTISSAS = (
    1.0,
    0.9170040432046712,
    0.8408964152537145,
    0.7711054127039704,
    0.7071067811865476,
    0.6484197773255048,
    0.5946035575013605,
    0.5452538663326288,
)
STEP_INDICES = 256

# Tables of the side information, and the values that the first differences refer to.
STEP_TABLE = ("laplace", 29)  # standard deviation 8, an octave
SHAPE_TABLE = ("laplace", 13)  # 0.4 bits for "as in the layer before"
SPREAD_TABLE = ("laplace", 15)
SPREADS = (11, 15, 19, 23)  # scale indices for differences of scale indices: from flat nets to steep ones
USUAL_STEP = 80  # 2^-6
USUAL_SCALE = 31  # standard deviation 11
USUAL_SPREAD = 1

NOT_CODED = -1
Sizes = list[tuple[int, int]]


@dataclass(frozen=True)
class QuantizedLayer:
    """A coefficient is step_size(step_index) times its integer in [-entropy.MAX, entropy.MAX]."""

    step_index: int
    coefficients: dict[str, Int[np.ndarray, "frequencies outputs"]]


FloatLayer = dict[str, Float[np.ndarray, "frequencies outputs"]]


def step_size(index: int) -> float:
    """2^(4 - index / 8), index 0 .. 255: from 16 to 2^-27.9, the same on every machine."""
    if not 0 <= index < STEP_INDICES:
        raise UserError(f"step index {index} is outside 0 ... {STEP_INDICES - 1}")
    return math.ldexp(STEP_MANTISSAS[index % 8], 4 - index // 8)


@typechecked
def dequantize(layer: QuantizedLayer) -> FloatLayer:
    """float32 coefficients. The product is taken in float64 and rounded once."""
    step = step_size(layer.step_index)
    return {name: (values * np.float64(step)).astype(np.float32) for name, values in layer.coefficients.items()}


def pack(layers: list[QuantizedLayer] | list[FloatLayer], sizes: Sizes, basis: str, precision: str) -> bytes:
    """The payload; arrays that do not fit `sizes` and values that cannot be stored raise UserError."""
    if len(layers) != len(sizes):
        raise UserError(f"{len(layers)} layers were given for a net of {len(sizes)}")
    expected = QuantizedLayer if precision == "quantized" else dict
    if not all(isinstance(layer, expected) for layer in layers):
        raise UserError(f"precision {precision} takes layers of type {expected.__name__}")
    if precision == "quantized":
        return _pack_quantized(cast(list[QuantizedLayer], layers), sizes, basis)
    return _pack_floats(cast(list[FloatLayer], layers), sizes, basis, FLOAT_TYPES[precision])


def unpack(packed: bytes, sizes: Sizes, basis: str, precision: str) -> list[QuantizedLayer] | list[FloatLayer]:
    """The layers. The caller bounds `sizes` by the file's length; bytes that `pack` does not write raise UserError."""
    if precision == "quantized":
        return _unpack_quantized(packed, sizes, basis)
    return _unpack_floats(packed, sizes, basis, FLOAT_TYPES[precision])


@typechecked
def _row_orders(inputs: int, basis: str) -> Int[np.ndarray, "rows"]:
    """Number of ones in k for each row of the stacked arrays; NOT_CODED for sin at k = 0."""
    vectors = np.arange(2**inputs)
    orders = sum((vectors >> j & 1 for j in range(inputs)), np.zeros_like(vectors))
    if basis == "cas":
        return orders
    sin_orders = orders.copy()
    sin_orders[0] = NOT_CODED
    return np.concatenate([orders, sin_orders])


def _stack(coefficients: dict[str, np.ndarray], inputs: int, outputs: int, basis: str) -> np.ndarray:
    """The arrays of one layer, one below the other [rows, outputs], after a check of names and shapes."""
    names, shape = BASES[basis], (2**inputs, outputs)
    found = {name: np.shape(values) for name, values in coefficients.items()}
    if found != dict.fromkeys(names, shape):
        raise UserError(f"coefficients {found} do not fit {dict.fromkeys(names, shape)}")
    return np.concatenate([coefficients[name] for name in names])


def _unstack(stacked: np.ndarray, basis: str) -> dict[str, np.ndarray]:
    return dict(zip(BASES[basis], np.split(stacked, len(BASES[basis])), strict=True))


def _pack_floats(layers: list[FloatLayer], sizes: Sizes, basis: str, float_type: str) -> bytes:
    parts = []
    for layer, (inputs, outputs) in zip(layers, sizes, strict=True):
        with np.errstate(over="ignore"):  # reported below
            values = _stack(layer, inputs, outputs, basis).astype(float_type)
        values = values[_row_orders(inputs, basis) != NOT_CODED]
        if not np.isfinite(values).all():
            raise UserError(f"a coefficient is not finite, or too large for {np.dtype(float_type).name}")
        parts.append(values.tobytes())
    return b"".join(parts)


def _unpack_floats(packed: bytes, sizes: Sizes, basis: str, float_type: str) -> list[FloatLayer]:
    coded = [_row_orders(inputs, basis) != NOT_CODED for inputs, _ in sizes]
    counts = [int(rows.sum()) * outputs for rows, (_, outputs) in zip(coded, sizes, strict=True)]
    expected = sum(counts) * np.dtype(float_type).itemsize
    if len(packed) != expected:
        raise UserError(f"{len(packed)} bytes of coefficients in place of {expected}")
    values = np.frombuffer(packed, float_type)
    if not np.isfinite(values).all():
        raise UserError("a coefficient is not finite")
    layers = []
    for rows, (_, outputs), part in zip(coded, sizes, np.split(values, np.cumsum(counts)[:-1]), strict=True):
        stacked = np.zeros((len(rows), outputs), values.dtype.newbyteorder("="))
        stacked[rows] = part.reshape(-1, outputs)
        layers.append(_unstack(stacked, basis))
    return layers


@typechecked
def _groups(layer: QuantizedLayer, inputs: int, outputs: int, basis: str) -> list[Int[np.ndarray, "count"]]:
    """The integers of each group, from no ones in k to m ones."""
    stacked = _stack(layer.coefficients, inputs, outputs, basis)
    if not np.issubdtype(stacked.dtype, np.integer):
        raise UserError(f"quantised coefficients are integers, not {stacked.dtype}")
    orders = _row_orders(inputs, basis)
    return [stacked[orders == order].ravel() for order in range(inputs + 1)]


@typechecked
def _choose_scales(lengths: list[list[Float[np.ndarray, "scales"]]], spread: int) -> tuple[float, list[list[int]]]:
    """Cheapest scale indices [layer][group] and their cost in bits, differences included, by dynamic programming.

    `lengths[layer][group]` are the code lengths under every scale index. The first groups of all layers form a chain
    and each is the start of its layer's chain: costs flow from the ends of this tree to its root."""
    indices = np.arange(entropy.SCALES)
    difference_bits = entropy.code_lengths_each(indices[None, :] - indices[:, None], *_spread_table(spread))
    later_layers, choices = np.zeros(entropy.SCALES), list[list[np.ndarray]]()
    for layer in reversed(lengths):
        later_groups, layer_choices = np.zeros(entropy.SCALES), list[np.ndarray]()
        for group in reversed(layer[1:]):
            costs = difference_bits + (group + later_groups)
            layer_choices.insert(0, costs.argmin(1))
            later_groups = costs.min(1)
        costs = difference_bits + (layer[0] + later_groups + later_layers)
        choices.insert(0, [costs.argmin(1), *layer_choices])
        later_layers = costs.min(1)

    scales, first = [], USUAL_SCALE
    for layer_choices in choices:
        previous, layer_scales = first, []
        for choice in layer_choices:
            previous = int(choice[previous])
            layer_scales.append(previous)
        first = layer_scales[0]
        scales.append(layer_scales)
    return float(later_layers[USUAL_SCALE]), scales


def _spread_table(spread: int) -> tuple[str, int]:
    return "laplace", SPREADS[spread]


def _pack_quantized(layers: list[QuantizedLayer], sizes: Sizes, basis: str) -> bytes:
    groups = [_groups(layer, *size, basis) for layer, size in zip(layers, sizes, strict=True)]
    shapes, lengths = [], []
    for layer_groups in groups:
        by_shape = {name: [entropy.code_lengths(group, name) for group in layer_groups] for name in entropy.SHAPES}
        shapes.append(min(by_shape, key=lambda name: sum(bits.min() for bits in by_shape[name])))
        lengths.append(by_shape[shapes[-1]])
    _, scales, spread = min((*_choose_scales(lengths, spread), spread) for spread in range(len(SPREADS)))

    encoder = entropy.Encoder()
    encoder.put([spread - USUAL_SPREAD], *SPREAD_TABLE)
    step, shape_number, first = USUAL_STEP, 0, USUAL_SCALE
    for layer, layer_groups, shape, layer_scales in zip(layers, groups, shapes, scales, strict=True):
        step_size(layer.step_index)  # raises where it is out of bounds
        encoder.put([layer.step_index - step], *STEP_TABLE)
        encoder.put([list(entropy.SHAPES).index(shape) - shape_number], *SHAPE_TABLE)
        step, shape_number = layer.step_index, list(entropy.SHAPES).index(shape)
        previous, first = first, layer_scales[0]
        for group, scale in zip(layer_groups, layer_scales, strict=True):
            encoder.put([scale - previous], *_spread_table(spread))
            encoder.put(group, shape, scale)
            previous = scale
    return encoder.finish()


def _unpack_quantized(packed: bytes, sizes: Sizes, basis: str) -> list[QuantizedLayer]:
    decoder = entropy.Decoder(packed)
    spread = _next(decoder, USUAL_SPREAD, SPREAD_TABLE, len(SPREADS))
    step, shape_number, first = USUAL_STEP, 0, USUAL_SCALE
    layers = []
    for inputs, outputs in sizes:
        step = _next(decoder, step, STEP_TABLE, STEP_INDICES)
        shape_number = _next(decoder, shape_number, SHAPE_TABLE, len(entropy.SHAPES))
        orders = _row_orders(inputs, basis)
        stacked = np.zeros((len(orders), outputs), np.int32)
        scale = first
        for order in range(inputs + 1):
            scale = _next(decoder, scale, _spread_table(spread), entropy.SCALES)
            first = scale if order == 0 else first
            rows = orders == order
            values = decoder.get(int(rows.sum()) * outputs, list(entropy.SHAPES)[shape_number], scale)
            stacked[rows] = values.reshape(-1, outputs)
        layers.append(QuantizedLayer(step, _unstack(stacked, basis)))
    decoder.finish()
    return layers


def _next(decoder: entropy.Decoder, previous: int, table: tuple[str, int], count: int) -> int:
    """A number in 0 .. count - 1 that was coded as its difference from `previous`."""
    value = previous + int(decoder.get(1, *table)[0])
    if not 0 <= value < count:
        raise UserError("a table index is out of bounds")
    return value
