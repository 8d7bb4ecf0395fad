"""Tables of the Laplace distributions that latents are coded with, from integers alone: the same on every machine.

A latent y is coded as r = y - m, with m the integer next to the predicted mean and the mean's rest f / 16 in the
table: TABLES[f + 8, i] holds frequencies, out of 2^24, of r = -16 ... 16 and of an escape, under a Laplace
distribution centred at f / 16, f = -8 ... 7, of scale b = 2^((i - 40) / 8), i = 0 ... 80. After an escape y itself
follows, seven bits. All boundaries of cells lie at multiples of 1/16 from the centre, so that powers of
exp(-1 / 16b) are all that is needed.
"""

import functools
import hashlib
import math

import numpy as np

from dfm.codec import entropy
from dfm.shapes import Float, Int

FRACTIONS = 16  # of the mean: 1/16, with log2-scale steps of 1/8, costs 0.1 % of the bits
SCALE_STEPS = 8
SCALES = 81
LOG2_SMALLEST = -5
REACH = 16
ESCAPE = 2 * REACH + 1
SYMBOLS = 2 * REACH + 2
POWER_BITS = 36  # times 24 bits of frequency: within 64


def _powers(index: int) -> list[int]:
    """exp(-1 / 16b)^j, j = 0 ... 16 (REACH + 1), with POWER_BITS fractional bits, rounded down."""
    shift = entropy.FRACTION_BITS
    octaves, eighths = divmod(-SCALE_STEPS * LOG2_SMALLEST - index, SCALE_STEPS)
    root = math.isqrt(math.isqrt(math.isqrt(1 << (SCALE_STEPS * shift + eighths))))
    exponent = (root << (octaves + 8)) >> 12  # 2^((40 - index) / 8) / 16
    ratio, power, powers = entropy.exp_negative(exponent), entropy.ONE, []
    for _ in range(FRACTIONS * (REACH + 1) + 1):
        powers.append(power >> (shift - POWER_BITS))
        power = power * ratio >> shift
    return powers


@functools.cache
def frequencies() -> Int[np.ndarray, "fractions scales symbols"]:
    """All tables: each entry >= 1, each row's sum 2^24. Read-only."""
    powers = np.array([_powers(index) for index in range(SCALES)], np.int64)
    one = 1 << POWER_BITS
    fractions = np.arange(FRACTIONS) - FRACTIONS // 2
    bounds = FRACTIONS * (np.arange(ESCAPE + 1) - REACH) - FRACTIONS // 2 - fractions[:, None]
    half = powers[:, np.abs(bounds)] // 2  # [scale, fraction, bound]
    below = np.moveaxis(np.where(bounds < 0, half, one - half), 0, 1)
    inside = below[..., 1:] - below[..., :1]
    share = entropy.TOTAL - SYMBOLS  # what is left after one count for every symbol
    cumulative = inside * share >> POWER_BITS
    table = np.empty((FRACTIONS, SCALES, SYMBOLS), np.int64)
    table[..., :ESCAPE] = 1 + np.diff(cumulative, axis=-1, prepend=0)
    table[..., ESCAPE] = entropy.TOTAL - table[..., :ESCAPE].sum(-1)
    table.flags.writeable = False
    return table


@functools.cache
def coder_rows() -> Float[np.ndarray, "tables symbols"]:
    """frequency - 1 as floats, which the range coder takes exactly (entropy.py); row f' * SCALES + i."""
    return (frequencies() - 1).reshape(-1, SYMBOLS).astype(np.float64)


@functools.cache
def bits() -> Float[np.ndarray, "tables symbols"]:
    """Code lengths; an escape's includes the seven bits that follow."""
    lengths = math.log2(entropy.TOTAL) - np.log2(frequencies()).reshape(-1, SYMBOLS)
    lengths[:, ESCAPE] += 7
    return lengths


def tables_hash() -> str:
    """SHA-256 of all frequencies as little-endian 32-bit numbers."""
    return hashlib.sha256(frequencies().astype("<u4").tobytes()).hexdigest()
