"""Upsampling and synthesis in integers: pixels that are the same on every machine. See model.py for what they mean.

Features (upsampled latents) have FEATURE_BITS fractional bits in int32; cosines and sines come from a table of
integers; every sum of products is an integer below 2^53. Points are painted a few thousand at a time, in the cache.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dfm.codec.latents import shapes
from dfm.codec.latents.fixed_point import WEIGHT_BITS, Numbers, clip, round_shift
from dfm.shapes import Int, UInt8

FEATURE_BITS, FEATURE_LIMIT = 8, 2**15
TAP_BITS, TAP_LIMIT = 10, 2**11  # 4 taps of 2 on features of 128: below 2^31
TURN_BITS, SINE_BITS = 12, 12  # entries of the table of sines a turn, and fractional bits of each
HIDDEN_LIMIT = 2**21  # of ReLU units, 12 fractional bits
COLOUR_BITS, COLOUR_LIMIT = 16, 2**21
POINTS = 2048

Integers = Mapping[str, Int[np.ndarray, "..."]]  # arrays of the networks, WEIGHT_BITS fractional bits
FINE = 256  # fractional bits while the table of sines is made


@functools.cache
def sine_table() -> Int[np.ndarray, "entries"]:
    """sin(2 pi i / 2^TURN_BITS) with SINE_BITS fractional bits, rounded to nearest, from integers alone.

    Half angles from (0, 1) by square roots give the first step; rotations by it give the first eighth of a turn."""
    one = 1 << FINE
    cosine = 0  # of a quarter turn
    for _ in range(TURN_BITS - 2):
        cosine = math.isqrt((one + cosine) * one // 2)
    sine = math.isqrt((one - cosine) * (one + cosine))
    size = 1 << TURN_BITS
    quarter = size // 4
    values, x, y = [], one, 0
    for _ in range(quarter + 1):
        values.append((y + (1 << (FINE - SINE_BITS - 1))) >> (FINE - SINE_BITS))
        x, y = (x * cosine - y * sine) >> FINE, (x * sine + y * cosine) >> FINE
    table = np.zeros(size, np.int64)
    table[: quarter + 1] = values
    table[quarter : 2 * quarter + 1] = values[::-1]
    table[2 * quarter :] = -table[: 2 * quarter]
    table.flags.writeable = False
    return table


def double(stack: Int[np.ndarray, "grids rows columns"], taps: Int[np.ndarray, "4"], axis: int) -> np.ndarray:
    """int32 features at twice the resolution along `axis`, as model.upsample has them."""
    count = stack.shape[axis]
    places = np.clip(np.arange(-2, count + 2), 0, count - 1)
    padded = stack.take(places, axis)
    cut = [slice(None)] * 3

    def shifted(first: int) -> np.ndarray:
        cut[axis] = slice(first, first + count)
        return padded[tuple(cut)]

    shape = list(stack.shape)
    shape[axis] *= 2
    result = np.empty(shape, np.int32)
    for phase in (0, 1):
        order = taps if phase == 0 else taps[::-1]
        total = shifted(phase) * order[0]
        for tap in range(1, 4):
            total += shifted(phase + tap) * order[tap]
        cut[axis] = slice(phase, None, 2)
        result[tuple(cut)] = clip(round_shift(total, TAP_BITS), FEATURE_LIMIT)
    return result


def upsample(grids: Sequence[np.ndarray], taps: Int[np.ndarray, "levels 4"]) -> Int[np.ndarray, "grids rows columns"]:
    """All of these grids at the resolution of the first; taps[k] leads from grid k + 1 to grid k."""
    stack = grids[-1][None].astype(np.int32) << FEATURE_BITS
    for k in range(len(grids) - 2, -1, -1):
        rows, columns = grids[k].shape
        level = taps[k].astype(np.int32)
        stack = double(double(stack, level, 1)[:, :rows], level, 2)[:, :, :columns]
        stack = np.concatenate([grids[k][None].astype(np.int32) << FEATURE_BITS, stack])
    return stack


def tap_integers(upsampling: Int[np.ndarray, "levels 4"]) -> Int[np.ndarray, "levels 4"]:
    """Taps with TAP_BITS fractional bits, from those with WEIGHT_BITS."""
    return np.clip(upsampling >> (WEIGHT_BITS - TAP_BITS), -TAP_LIMIT, TAP_LIMIT)


class Mixing(NamedTuple):
    """Matrices of the synthesis before the filters, for all grids or the coarser ones of them."""

    first: Numbers  # [channels + hidden, grids]: linear, then the ReLU layer
    hidden_bias: Numbers  # [hidden, 1], FEATURE_BITS + WEIGHT_BITS fractional bits
    output: Numbers  # [channels, hidden]
    scale: Numbers  # [grids, 1]
    factors: Numbers  # [channels, features, features + 1]: quadratic form in the Fourier features, and the linear one


def mixing(integers: Integers, grids: int, first: int, dtype: Any) -> Mixing:
    """Of grids first ... grids - 1; the others count as zero: their cosines are 1, their sines 0."""
    channels = integers["linear"].shape[0]
    form = np.zeros((channels, 2 * grids, 2 * grids + 1), np.int64)
    form[:, :, -1] = integers["single"] << SINE_BITS  # times a feature: as many bits as a product of two
    for pair, (i, j) in enumerate(shapes.frequency_pairs(grids)):
        cos, sin = integers["pair_cos"][:, pair], integers["pair_sin"][:, pair]
        form[:, i, j], form[:, grids + i, grids + j] = cos, -cos
        form[:, grids + i, j], form[:, i, grids + j] = sin, sin
    return Mixing(
        np.concatenate([integers["linear"], integers["hidden_weights"]]).astype(dtype)[:, first:],
        integers["hidden_bias"].astype(dtype)[:, None] * 2**FEATURE_BITS,
        integers["output_weights"].astype(dtype),
        integers["input_scale"].astype(dtype)[first:, None],
        form.astype(dtype),
    )


def mix(mixing: Mixing, features: Int[np.ndarray, "grids points"], first: int, sines: Numbers) -> Numbers:
    """Colours before the filters, without the bias [channels, points], COLOUR_BITS fractional bits."""
    dtype = mixing.first.dtype
    channels = mixing.output.shape[0]
    values = features.astype(dtype)
    sums = mixing.first @ values
    hidden = round_shift(sums[channels:] + mixing.hidden_bias, FEATURE_BITS)
    hidden = np.minimum(np.maximum(hidden, 0), HIDDEN_LIMIT)
    ramp = round_shift(sums[:channels] * 2**4 + mixing.output @ hidden, 2 * WEIGHT_BITS - COLOUR_BITS)
    turns = round_shift(values * mixing.scale, FEATURE_BITS + WEIGHT_BITS - TURN_BITS).astype(np.int64)
    size = 1 << TURN_BITS
    grids = mixing.factors.shape[1] // 2
    u = np.empty((2 * grids + 1, values.shape[1]), dtype)
    u[:first], u[grids : grids + first], u[-1] = 1 << SINE_BITS, 0, 1
    u[first:grids] = sines.take((turns + size // 4) & (size - 1))
    u[grids + first : -1] = sines.take(turns & (size - 1))
    factors = (mixing.factors.reshape(-1, len(u)) @ u).reshape(channels, len(u) - 1, -1)
    factors *= u[:-1]
    wave = round_shift(factors.sum(1), WEIGHT_BITS + 2 * SINE_BITS - COLOUR_BITS)
    return clip(ramp + wave, COLOUR_LIMIT)


def filtered(integers: Integers, y: Int[np.ndarray, "channels height width"], dtype: Any) -> UInt8[np.ndarray, "h w c"]:
    """The picture: two residual 3x3 filters, the bias, and rounding to 0 ... 255; a few rows at a time."""
    channels, height, width = y.shape
    bias = integers["bias"].astype(dtype)[:, None, None] * 2 ** (COLOUR_BITS - WEIGHT_BITS)
    between = integers["filter_bias"].astype(dtype)[:, None, None] * 2 ** (COLOUR_BITS - WEIGHT_BITS)
    kernels: list[Numbers] = [integers[f"filter_{n}"].reshape(channels, -1).astype(dtype) for n in (1, 2)]
    picture = np.empty((height, width, channels), np.uint8)
    block = max(1, POINTS // width)
    for first in range(0, height, block):
        last = min(first + block, height)
        rows = np.clip(np.arange(first - 1, last + 1), 0, height - 1)
        near: Numbers = y[:, np.clip(np.arange(rows[0] - 1, rows[-1] + 2), 0, height - 1)].astype(dtype)
        once = clip(near[:, 1:-1] + _convolve(kernels[0], near), COLOUR_LIMIT)
        once = once[:, rows - rows[0]]
        twice = once[:, 1:-1] + _convolve(kernels[1], np.maximum(once + between, 0)) + bias
        levels = round_shift(clip(twice, COLOUR_LIMIT) * 255, COLOUR_BITS)
        picture[first:last] = np.moveaxis(np.clip(levels, 0, 255), 0, -1)
    return picture


def _convolve(kernel: Numbers, y: Numbers) -> Numbers:
    """3x3 on all rows but the first and the last, which are only looked at; edge columns are repeated."""
    channels, rows, width = y.shape
    padded = np.pad(y, ((0, 0), (0, 0), (1, 1)), mode="edge")
    patches = np.stack([padded[:, i : i + rows - 2, j : j + width] for i in range(3) for j in range(3)], 1)
    product = kernel @ patches.reshape(9 * channels, -1)
    return round_shift(product, WEIGHT_BITS).reshape(channels, rows - 2, width)


def paint(
    integers: Integers, grids: Sequence[Int[np.ndarray, "rows columns"]], first: int = 0, dtype: Any = np.float64
) -> UInt8[np.ndarray, "height width channels"]:
    """The picture of grids first, first + 1, ... at the resolution of grid `first`.

    Args:
        integers: all arrays of the networks, with WEIGHT_BITS fractional bits.
        first: 0 for the picture; k for a preview at 1 / 2^k of the resolution, in which finer grids count as zero.
        dtype: float64 or int64, which give the same pixels.
    """
    taps = tap_integers(integers["upsampling"])[first:] if "upsampling" in integers else np.zeros((0, 4), int)
    rows, columns = grids[0].shape
    matrices = mixing(integers, first + len(grids), first, dtype)
    sines: Numbers = sine_table().astype(dtype)
    y = np.empty((matrices.output.shape[0], rows * columns), np.int32)
    for start, features in _features(grids, taps):
        part = features.reshape(len(grids), -1)
        for point in range(0, part.shape[1], POINTS):
            piece = part[:, point : point + POINTS]
            y[:, start + point : start + point + piece.shape[1]] = mix(matrices, piece, first, sines)
    return filtered(integers, y.reshape(-1, rows, columns), dtype)


def _features(grids: Sequence[np.ndarray], taps: np.ndarray):
    """Upsampled features in bands of rows, (first point, [grids, rows, columns]): the finest level is the memory."""
    rows, columns = grids[0].shape
    if len(grids) == 1:
        yield 0, upsample(grids, taps)
        return
    coarse = upsample(grids[1:], taps[1:])
    level = taps[0].astype(np.int32)
    half = max(1, 4 * POINTS // (2 * columns))
    for first in range(0, coarse.shape[1], half):
        last = min(first + half, coarse.shape[1])
        # four taps reach two rows up and down
        low, high = max(0, first - 2), min(coarse.shape[1], last + 2)
        band = double(coarse[:, low:high], level, 1)[:, 2 * (first - low) : 2 * (last - low)]
        band = double(band[:, : rows - 2 * first], level, 2)[:, :, :columns]
        own = grids[0][2 * first : 2 * first + band.shape[1]].astype(np.int32) << FEATURE_BITS
        yield 2 * first * columns, np.concatenate([own[None], band])
