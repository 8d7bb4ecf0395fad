"""The context model in integers: which table each latent is coded with. See model.context_model for what it means.

Inputs are latents, activations have ACTIVATION_BITS fractional bits and saturate at 128, weights have 12 and saturate
at 16: a sum of 14 products stays below 2^36, so that float64 holds it exactly in any order of summation.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from dfm.codec.latents import shapes, tables
from dfm.codec.latents.fixed_point import WEIGHT_BITS, Numbers, clip, round_shift

ACTIVATION_BITS = 8
ACTIVATION_LIMIT = 2**15


class Context(NamedTuple):
    """Integer arrays of the context model: weights with 12, biases with 20 fractional bits (as [outputs, 1])."""

    weights: tuple[Numbers, Numbers, Numbers]
    biases: tuple[Numbers, Numbers, Numbers]
    grid_scale: Int[np.ndarray, "grids"]  # ACTIVATION_BITS fractional bits


def context(integers: Mapping[str, Int[np.ndarray, "..."]], dtype: Any = np.float64) -> Context:
    """From arrays with WEIGHT_BITS fractional bits."""
    weights: Any = tuple(np.ascontiguousarray(integers[f"context_weights_{n}"], dtype) for n in (1, 2, 3))
    biases: Any = tuple(integers[f"context_bias_{n}"].astype(dtype)[:, None] * 2**ACTIVATION_BITS for n in (1, 2, 3))
    return Context(weights, biases, integers["grid_scale"] >> (WEIGHT_BITS - ACTIVATION_BITS))


def predict(
    context: Context, inputs: Numbers, grid: int
) -> tuple[Int[np.ndarray, "points"], Int[np.ndarray, "points"]]:
    """(nearest integer to the mean, row of the tables) of each column of `inputs` [inputs, points], latents."""
    hidden = inputs * 2**ACTIVATION_BITS
    for weights, biases in zip(context.weights[:2], context.biases[:2], strict=True):
        added = round_shift(weights @ hidden + biases, WEIGHT_BITS)
        np.maximum(added, 0, out=added)
        hidden = clip(added + hidden, ACTIVATION_LIMIT)
    last = clip(round_shift(context.weights[2] @ hidden + context.biases[2], WEIGHT_BITS), ACTIVATION_LIMIT)
    mean, log2_scale = last.astype(np.int64)
    # both indices round halves up
    sixteenths = (mean + 8) >> 4
    sixteenths = np.clip(sixteenths, -16 * shapes.LATENT_LIMIT, 16 * shapes.LATENT_LIMIT - 1)
    nearest = (sixteenths + 8) >> 4
    scale = (log2_scale + int(context.grid_scale[grid]) - tables.LOG2_SMALLEST * 2**ACTIVATION_BITS + 16) >> 5
    scale = np.clip(scale, 0, tables.SCALES - 1)
    return nearest, (sixteenths - 16 * nearest + 8) * tables.SCALES + scale


class Surroundings:
    """One grid while it is decoded, with what each latent is predicted from.

    `values` is the grid within margins of zeros, flat; a latent's neighbours lie at fixed offsets.
    """

    def __init__(self, shape: tuple[int, ...], coarse: Int[np.ndarray, "rows_ columns_"] | None, dtype: Any):
        self.rows, self.columns = rows, columns = shape
        self.stride = columns + shapes.REACH_LEFT + shapes.REACH_RIGHT
        self.values: Numbers = np.zeros((rows + shapes.REACH_UP) * self.stride, dtype)
        self.offsets = np.array([dy * self.stride + dx for dx, dy in shapes.NEIGHBOURS])[:, None]
        self.parents: Numbers = parents(coarse, rows, columns).reshape(shapes.PARENTS, -1).astype(dtype)

    def positions(self, x: Int[np.ndarray, "n"], y: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        return (y + shapes.REACH_UP) * self.stride + x + shapes.REACH_LEFT

    def inputs(self, x: Int[np.ndarray, "n"], y: Int[np.ndarray, "n"]) -> Numbers:
        """[inputs, n] of the latents in columns x and rows y."""
        near = self.values.take(self.positions(x, y) + self.offsets)
        return np.concatenate([near, self.parents.take(y * self.columns + x, 1)])

    def grid(self) -> Int[np.ndarray, "rows columns"]:
        inner = self.values.reshape(-1, self.stride)[shapes.REACH_UP :, shapes.REACH_LEFT :][:, : self.columns]
        return inner.astype(np.int64)


def parents(coarse: Int[np.ndarray, "rows_ columns_"] | None, rows: int, columns: int) -> Int[np.ndarray, "4 r c"]:
    """Four latents of the next coarser grid, as model.context_inputs has them; zeros for the coarsest grid."""
    if coarse is None:
        return np.zeros((shapes.PARENTS, rows, columns), np.int64)
    padded = np.pad(coarse, 1)
    y, x = np.arange(rows), np.arange(columns)
    own_y, own_x = y // 2 + 1, x // 2 + 1
    near_y, near_x = own_y + 2 * (y % 2) - 1, own_x + 2 * (x % 2) - 1
    places = ((own_y, own_x), (own_y, near_x), (near_y, own_x), (near_y, near_x))
    return np.stack([padded[np.ix_(*place)] for place in places])
