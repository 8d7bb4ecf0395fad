"""The networks as integers: which arrays share a step, what they mean in fixed point, and their code.

A group of arrays shares a step 2^-a, a = 0 ... 12, and one of the static Laplace tables of dfm/codec/entropy.py. In
the stream a group is one bit that says whether anything but zeros follows, then its step, its table and its integers.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dfm.codec import entropy
from dfm.codec.latents import prior, shapes
from dfm.codec.latents.fixed_point import WEIGHT_BITS, WEIGHT_LIMIT
from dfm.codec.latents.shapes import Layout
from dfm.errors import UserError
from dfm.shapes import Float, Int

# group: (its arrays, the usual exponent a of its step 2^-a)
GROUPS: dict[str, tuple[tuple[str, ...], int]] = {
    # small pictures leave the hidden layers of the context model at zero, which then cost nothing
    "context_hidden": (("context_weights_1", "context_weights_2"), 5),
    "context_hidden_bias": (("context_bias_1", "context_bias_2"), 5),
    "context_output": (("context_weights_3", "context_bias_3", "grid_scale"), 5),
    "upsampling": (("upsampling",), 7),
    "bias": (("bias", "filter_bias"), 8),
    "hidden": (("hidden_weights", "hidden_bias"), 5),
    "colour": (("linear", "output_weights"), 8),
    "input_scale": (("input_scale",), 9),
    "fourier": (("single", "pair_cos", "pair_sin"), 8),
    "filter_1": (("filter_1",), 7),
    "filter_2": (("filter_2",), 7),
}
MOST_EXPONENT = WEIGHT_BITS
ANYTHING = np.full((1, 2), entropy.TOTAL // 2 - 1.0)  # the table of one bit
STEP_TABLE = ("laplace", 19)  # of differences from the usual exponent: a standard deviation of 1.4
SCALE_TABLE = ("laplace", 25)  # of differences of scale indices from the group before
FIRST_SCALE = 27
COARSEST = {"upsampling": 10}  # finest exponent of a group, where it is less than 12

Arrays = Mapping[str, Float[np.ndarray, "..."]]
Integers = dict[str, Int[np.ndarray, "..."]]


class Quantized(NamedTuple):
    """Exponents of the groups, and the integers of all arrays: a value is its integer times 2^-exponent.

    Values are differences from set `prior` of prior.py.
    """

    exponents: dict[str, int]
    integers: Integers
    prior: int = prior.EMPTY


def groups(layout: Layout) -> dict[str, tuple[str, ...]]:
    """The groups that are not empty."""
    known = shapes.array_shapes(layout)
    present = {group: tuple(name for name in names if name in known) for group, (names, _) in GROUPS.items()}
    return {group: names for group, names in present.items() if names}


def quantize_group(values: Arrays, names: tuple[str, ...], exponent: int) -> Integers:
    """Rounded to nearest; what is beyond the limit of the decoder saturates."""
    most = min(entropy.MAX, WEIGHT_LIMIT >> (WEIGHT_BITS - exponent))
    rounded = {name: np.round(np.asarray(values[name], np.float64) * 2.0**exponent) for name in names}
    return {name: np.clip(array, -most, most).astype(np.int64) for name, array in rounded.items()}


def group_bits(integers: Integers, names: tuple[str, ...]) -> float:
    """Bits of a group under its best table, without the side information."""
    values = np.concatenate([integers[name].ravel() for name in names])
    return float(entropy.code_lengths(values, "laplace").min())


def fixed_point(quantized: Quantized, layout: Layout) -> Integers:
    """All arrays with WEIGHT_BITS fractional bits, within the limits that the decoder's arithmetic allows."""
    result = {}
    known = prior.integers(layout.grids, layout.channels, quantized.prior)
    for group, names in groups(layout).items():
        for name in names:
            scaled = quantized.integers[name] << (WEIGHT_BITS - quantized.exponents[group])
            result[name] = np.clip(known[name] + scaled, -WEIGHT_LIMIT, WEIGHT_LIMIT)
    return result


def put(encoder: entropy.Encoder, quantized: Quantized, layout: Layout) -> None:
    """Appends the networks."""
    scale = FIRST_SCALE
    for group, names in groups(layout).items():
        values = np.concatenate([quantized.integers[name].ravel() for name in names])
        best = entropy.best_scale(values)
        encoder.put_each(np.array([best > 0]), ANYTHING)
        if best:
            encoder.put([quantized.exponents[group] - GROUPS[group][1]], *STEP_TABLE)
            encoder.put([best - scale], *SCALE_TABLE)
            encoder.put(values, "laplace", best)
            scale = best


def get(decoder: entropy.Decoder, layout: Layout, number: int) -> tuple[Quantized, float]:
    """The networks that `put` appended, differences from set `number`, and their bits.

    Integers out of bounds raise UserError."""
    known, scale, bits = shapes.array_shapes(layout), FIRST_SCALE, 0.0
    exponents, integers = {}, {}
    for group, names in groups(layout).items():
        exponents[group] = GROUPS[group][1]
        values = np.zeros(sum(math.prod(known[name]) for name in names), np.int64)
        bits += 1
        if decoder.get_each(ANYTHING)[0]:
            step = int(decoder.get(1, *STEP_TABLE)[0])
            exponents[group] += step
            if not 0 <= exponents[group] <= COARSEST.get(group, MOST_EXPONENT):
                raise UserError("the step of a network is out of bounds")
            change = int(decoder.get(1, *SCALE_TABLE)[0])
            scale += change
            if not 1 <= scale < entropy.SCALES:
                raise UserError("the table of a network is out of bounds")
            values[:] = decoder.get(len(values), "laplace", scale)
            bits += _side_bits(step, change) + float(entropy.code_lengths_each(values, "laplace", scale).sum())
        first = 0
        for name in names:
            last = first + math.prod(known[name])
            integers[name] = values[first:last].reshape(known[name])
            first = last
    return Quantized(exponents, integers, number), bits


def _side_bits(step: int, change: int) -> float:
    """Of the step and the table of a group."""
    each = ((step, STEP_TABLE), (change, SCALE_TABLE))
    return sum(float(entropy.code_lengths_each(np.array([value]), *table)[0]) for value, table in each)


def bits(quantized: Quantized, layout: Layout) -> float:
    """Bits that `put` takes."""
    total, scale = 0.0, FIRST_SCALE
    for group, names in groups(layout).items():
        values = np.concatenate([quantized.integers[name].ravel() for name in names])
        best = entropy.best_scale(values)
        total += 1
        if best:
            total += _side_bits(quantized.exponents[group] - GROUPS[group][1], best - scale)
            total += entropy.code_length_bits(values, "laplace", best)
            scale = best
    return total
