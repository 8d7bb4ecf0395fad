"""Fixed-point numbers: integers held in float64 (where BLAS is quick and exact below 2^53) or in int64.

Both give the same integers; the tests compare them. A number x with n fractional bits stands for x / 2^n.
"""

import numpy as np

from dfm.shapes import Num

WEIGHT_BITS = 12  # fractional bits of networks' weights and biases
WEIGHT_LIMIT = 2**16 - 1  # 16 in value: larger ones saturate
Numbers = Num[np.ndarray, "..."]


def round_shift(x: Numbers, bits: int) -> Numbers:
    """x / 2^bits rounded to the nearest integer, halves up. In place."""
    x += 1 << (bits - 1)
    if x.dtype.kind == "f":
        x *= 2.0**-bits  # exact: a power of two
        np.floor(x, out=x)
    else:
        x >>= bits
    return x


def clip(x: Numbers, limit: int) -> Numbers:
    """Saturates at -limit and limit. In place."""
    np.maximum(x, -limit, out=x)
    return np.minimum(x, limit, out=x)
