"""The fixed ladder of nets that rate control chooses from, and the scale of `quality`."""

import functools
from collections.abc import Sequence

from dfm.errors import UserError
from dfm.models.fourier import coefficient_count

BITS_PER_COEFFICIENT = {"quantized": 4.7, "float16": 16.0, "float32": 32.0}
OVERHEAD_BYTES = 34  # header and checksums; step sizes and scales of a quantised net
DEFAULT_QUALITY = 75.0
LOWEST_RATE, HIGHEST_RATE = 0.05, 2.0  # bits per pixel at quality 0 and 100
DEPTH = 4  # hidden vectors of every net but the smallest


@functools.cache
def ladder(channels: int, basis: str = "cos_sin") -> tuple[tuple[int, ...], ...]:
    """Hidden widths of the nets on offer, by growing coefficient count.

    (w, w, w, w), and between those with some of the first widths w + 1. One depth for all, because neighbours of
    unequal depth are not in the order of their sizes (scripts/study_recipe.py, part "shapes").

    Whether the largest pay is not known: of kodim05 whole, fitted for 300 steps, (12,) * 4 gave 18.98 dB and (11,) * 4
    19.31, and no longer fits were compared. They are there because a higher quality wants more bytes.
    """
    nets = [(2,), (2, 2), (2, 2, 2)]
    nets += [(width + 1,) * wider + (width,) * (DEPTH - wider) for width in range(2, 12) for wider in range(DEPTH)]
    nets.append((12,) * DEPTH)  # 188 kB; frequency vectors of more inputs are not allowed
    return tuple(sorted(nets, key=lambda widths: coefficient_count(widths, channels, basis)))


def bits_per_pixel(quality: float) -> float:
    """Target rate of a quality: geometric from `LOWEST_RATE` at 0 to `HIGHEST_RATE` at 100."""
    if not 0 <= quality <= 100:
        raise UserError(f"quality {quality:g} is outside 0 ... 100")
    return LOWEST_RATE * (HIGHEST_RATE / LOWEST_RATE) ** (quality / 100)


def expected_bytes(widths: Sequence[int], channels: int, basis: str, precision: str) -> float:
    """About how many bytes the file of such a net takes, at its nominal number of bits a coefficient."""
    return OVERHEAD_BYTES + coefficient_count(widths, channels, basis) * BITS_PER_COEFFICIENT[precision] / 8
