"""The context model in integers: which table each latent is coded with. See model.context_model for what it means.

Inputs are latents, activations have ACTIVATION_BITS fractional bits and saturate at 128, weights have 12 and saturate
at 16: a sum of 14 products stays below 2^36, so that float64 holds it exactly in any order of summation. Each layer is
one product: biases, with the halves that round to nearest, are a column for a row of ones below the activations.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from dfm.codec.latents import shapes, tables
from dfm.codec.latents.fixed_point import WEIGHT_BITS, Numbers
from dfm.shapes import Int

ACTIVATION_BITS = 8
ACTIVATION_LIMIT = 2**15
LATENT = 2**ACTIVATION_BITS  # a latent of 1 as an activation
# of the last layer: the mean in sixteenths and log2 of the scale in eighths
OUTPUT_SHIFTS = np.array([[WEIGHT_BITS + 4], [WEIGHT_BITS + 5]])
# (mean + 1/2) in sixteenths, less REACH, so that its integer part is the latent of symbol 0; row of the tables
LOWEST = np.array([[16 * (-shapes.LATENT_LIMIT - tables.REACH) + 8], [0]])
HIGHEST = np.array([[16 * (shapes.LATENT_LIMIT - tables.REACH) + 7], [tables.SCALES - 1]])

Points = Int[np.ndarray, "points"]


class Context(NamedTuple):
    """Integer arrays of the context model, [outputs, inputs + 1], and the offsets of the grids' log2-scales."""

    layers: tuple[Numbers, Numbers, Numbers]
    grid_scale: Int[np.ndarray, "grids"]  # ACTIVATION_BITS fractional bits
    dtype: Any  # float64 or int64, which predict the same


def context(integers: Mapping[str, Int[np.ndarray, "..."]], dtype: Any = np.float64) -> Context:
    """From arrays with WEIGHT_BITS fractional bits."""

    def layer(number: int) -> Numbers:
        biases = integers[f"context_bias_{number}"] * LATENT + 2 ** (WEIGHT_BITS - 1)
        return np.concatenate([integers[f"context_weights_{number}"], biases[:, None]], 1)

    scale = integers["grid_scale"] >> (WEIGHT_BITS - ACTIVATION_BITS)
    return Context((layer(1), layer(2), layer(3)), scale, dtype)


class Prediction:
    """The context model of one grid, in float64 or int64.

    In float64 a layer's shift is an exact factor 2^-n of its matrix, and what is left of it is `floor`.
    """

    def __init__(self, model: Context, grid: int):
        *hidden, last = (layer.astype(np.int64) for layer in model.layers)
        # indices round halves up: 1/2 of a sixteenth, 1/2 of an eighth
        offsets = np.array([8, int(model.grid_scale[grid]) - tables.LOG2_SMALLEST * LATENT + 16])
        last[:, -1] += offsets << WEIGHT_BITS
        last[0, -1] += (8 - 16 * tables.REACH) << int(OUTPUT_SHIFTS[0, 0])
        self.dtype = model.dtype
        self.hidden = [self._matrix(matrix, WEIGHT_BITS) for matrix in hidden]
        self.last = self._matrix(last, OUTPUT_SHIFTS)

    def _matrix(self, integers: Int[np.ndarray, "outputs inputs+1"], shift: Any) -> Numbers:
        return integers if self.dtype is np.int64 else np.ascontiguousarray(integers * 2.0**-shift)

    def __call__(self, inputs: Numbers) -> tuple[Points, Points]:
        """(latent of symbol 0, row of the tables) of each column of `inputs` [inputs + 1, points]; overwrites it.

        Inputs are latents times LATENT, then a row of ones.
        """
        activations = inputs[:-1]
        for matrix in self.hidden:
            added = _floor(matrix @ inputs, WEIGHT_BITS)
            np.maximum(added, 0, out=added)
            activations += added
            # no lower limit: inputs are above it, and nothing is ever taken away
            np.minimum(activations, ACTIVATION_LIMIT, out=activations)
        last = _floor(self.last @ inputs, OUTPUT_SHIFTS)
        np.maximum(last, LOWEST, out=last)
        np.minimum(last, HIGHEST, out=last)
        sixteenths, scale = last.astype(np.int64)
        return sixteenths >> 4, (sixteenths & 15) * tables.SCALES + scale


def _floor(x: Numbers, bits: Any) -> Numbers:
    """What is left of a shift by `bits`: see Prediction. In place."""
    if x.dtype.kind == "f":
        return np.floor(x, out=x)
    x >>= bits
    return x


def predict(model: Context, inputs: Numbers, grid: int) -> tuple[Points, Points]:
    """(nearest integer to the mean, row of the tables) of each column of `inputs` [inputs, points], latents."""
    ones = np.ones((1, inputs.shape[1]), inputs.dtype)
    first, rows = Prediction(model, grid)(np.concatenate([inputs * LATENT, ones]).astype(model.dtype))
    return first + tables.REACH, rows


class Surroundings:
    """One grid while it is coded wave by wave, with what each latent is predicted from.

    `values` is the grid within margins of zeros, flat; a latent's neighbours lie at fixed offsets. The latents of a
    wave, x + WAVE_SLOPE y = wave, lie at equal distances in it and in all other arrays of rows and columns.
    """

    def __init__(self, shape: tuple[int, ...], coarse: Int[np.ndarray, "rows_ columns_"] | None, dtype: Any):
        self.rows, self.columns = rows, columns = shape
        self.stride = columns + shapes.REACH_LEFT + shapes.REACH_RIGHT
        self.values = np.zeros((rows + shapes.REACH_UP) * self.stride, np.int8)
        narrow = None if coarse is None else coarse.astype(np.int8)
        self.parents = parents(narrow, rows, columns).astype(np.int8, copy=False).reshape(shapes.PARENTS, -1)
        y = np.arange(rows)
        offsets = np.array([dy * self.stride + dx for dx, dy in shapes.NEIGHBOURS])
        self.places = self.positions(-shapes.WAVE_SLOPE * y, y) + offsets[:, None]  # of neighbours in wave 0
        self.buffer: Numbers = np.ones((shapes.CONTEXT_INPUTS + 1, rows), dtype)

    def positions(self, x: Int[np.ndarray, "n"], y: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        return (y + shapes.REACH_UP) * self.stride + x + shapes.REACH_LEFT

    def waves(self) -> Iterator["Wave"]:
        """All waves that hold latents, in order."""
        for number in range(self.columns + shapes.WAVE_SLOPE * (self.rows - 1)):
            first = max(0, -(-(number - self.columns + 1) // shapes.WAVE_SLOPE))
            count = min(self.rows - 1, number // shapes.WAVE_SLOPE) + 1 - first
            if count > 0:
                yield Wave(number, first, count)

    def inputs(self, wave: "Wave") -> Numbers:
        """[inputs + 1, latents of the wave], as Prediction takes them; the next wave's overwrite them."""
        number, first, count = wave
        inputs = self.buffer[:, :count]
        near = self.values[number:].take(self.places[:, first : first + count])
        np.multiply(near, LATENT, out=inputs[: len(near)], dtype=inputs.dtype)
        np.multiply(self.parents[:, self.place(wave)], LATENT, out=inputs[len(near) : -1], dtype=inputs.dtype)
        return inputs

    def place(self, wave: "Wave") -> slice:
        """Of the wave's latents in a flat [rows, columns]."""
        return _slice(wave.first * self.columns, self.columns, wave)

    def put(self, wave: "Wave", latents: Int[np.ndarray, "n"]) -> None:
        start = (wave.first + shapes.REACH_UP) * self.stride + shapes.REACH_LEFT
        self.values[_slice(start, self.stride, wave)] = latents

    def grid(self) -> Int[np.ndarray, "rows columns"]:
        inner = self.values.reshape(-1, self.stride)[shapes.REACH_UP :, shapes.REACH_LEFT :][:, : self.columns]
        return inner.astype(np.int64)


class Wave(NamedTuple):
    """Latents of rows first ... first + length - 1 with x + WAVE_SLOPE y = number."""

    number: int
    first: int
    length: int


def _slice(row_start: int, stride: int, wave: Wave) -> slice:
    """The wave's latents where rows are `stride` long and its first row begins at `row_start`."""
    start = row_start + wave.number - shapes.WAVE_SLOPE * wave.first
    step = max(1, stride - shapes.WAVE_SLOPE)  # narrower grids have one latent a wave
    return slice(start, start + (wave.length - 1) * step + 1, step)


def parents(coarse: Int[np.ndarray, "rows_ columns_"] | None, rows: int, columns: int) -> Int[np.ndarray, "4 r c"]:
    """Four latents of the next coarser grid, as model.context_inputs has them; zeros for the coarsest grid."""
    if coarse is None:
        return np.zeros((shapes.PARENTS, rows, columns), np.int8)
    padded = np.pad(coarse, 1)
    y, x = np.arange(rows), np.arange(columns)
    own_y, own_x = y // 2 + 1, x // 2 + 1
    near_y, near_x = own_y + 2 * (y % 2) - 1, own_x + 2 * (x % 2) - 1
    places = ((own_y, own_x), (own_y, near_x), (near_y, own_x), (near_y, near_x))
    return np.stack([padded[np.ix_(*place)] for place in places])
