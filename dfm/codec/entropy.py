"""Entropy coding of small integers: static integer tables and a range coder.

Quantised coefficients are integers q in [-MAX, MAX]. A table gives each a frequency >= 1 out of TOTAL = 2^24;
it is named by a shape, "laplace" or "gaussian", and a scale index: a zero-mean density of standard deviation
    sigma(index) = 2^((index - 17) / 4),    index 1 .. 63,    sigma from 1/16 to 2^11.5,
integrated over [q - 1/2, q + 1/2] and normalised over [-MAX, MAX]. Index 0 means "all zero" and costs no bits.

A decoder that disagrees with the encoder by one count in one table decodes noise, so tables come from Python
integers alone (no float exp or log): every machine makes the same ones, and the tests pin their hash.
The range coder is constriction's (32-bit words, 64-bit state, 24-bit probabilities). It takes float probabilities,
but adds one to each count itself, so frequency - 1 goes through it exactly: see `_model`.
"""

import functools
import hashlib
import math

import constriction
import numpy as np

from dfm.errors import UserError
from dfm.shapes import Float, Int, typechecked

MAX = 2047
SCALES = 64  # scale indices 0 .. 63
TOTAL = 1 << 24  # constriction's precision; its Python interface offers no other
FRACTION_BITS = 256  # of fixed-point numbers below; 16,000 products of such numbers keep well over 200 true bits
ONE = 1 << FRACTION_BITS
WORD_BYTES = 4
TABLE_A_SYMBOL = constriction.stream.model.Categorical(perfect=False)  # exact for integers, see `_model`


def exp_negative(x: int) -> int:
    """exp(-x) for x >= 0, both fixed-point with FRACTION_BITS. Taylor series of exp(-x / 2^8), squared 8 times."""
    x >>= 8
    term, total, divisor = ONE, ONE, 1
    while term:
        term = term * x // (divisor << FRACTION_BITS)
        total += -term if divisor % 2 else term
        divisor += 1
    for _ in range(8):
        total = total * total >> FRACTION_BITS
    return total


def _power_of_two(quarters: int) -> int:
    """2^(quarters / 4), fixed-point with FRACTION_BITS; quarters may be negative."""
    octaves, rest = divmod(quarters, 4)
    root = math.isqrt(math.isqrt(1 << (4 * FRACTION_BITS + rest)))
    return root << octaves if octaves >= 0 else root >> -octaves


def _laplace_masses(index: int) -> list[int]:
    """Unnormalised P(0), ..., P(MAX): with s = exp(-1 / (sqrt(2) sigma)), 1 - s and s^(2q - 1) (1 - s^2) / 2."""
    s = exp_negative(_power_of_two(15 - index))
    s_squared = s * s >> FRACTION_BITS
    masses = [ONE - s]
    mass = s * (ONE - s_squared) >> (FRACTION_BITS + 1)
    for _ in range(MAX):
        masses.append(mass)
        mass = mass * s_squared >> FRACTION_BITS
    return masses


def _gaussian_masses(index: int) -> list[int]:
    """Unnormalised P(0), P(1), ..., P(MAX): each unit cell is the midpoint sum over eight subcells.

    Midpoints are x_p = (2p + 1) / 16, so density(x_(p+1)) / density(x_p) = t^(p + 1) with t = exp(-1 / (64 sigma^2)):
    the density follows from products alone."""
    t = exp_negative(_power_of_two(10 - 2 * index))
    density = ratio = ONE
    subcells = []
    for _ in range(8 * MAX + 4):
        subcells.append(density)
        ratio = ratio * t >> FRACTION_BITS
        density = density * ratio >> FRACTION_BITS
    return [2 * sum(subcells[:4])] + [sum(subcells[start : start + 8]) for start in range(4, 8 * MAX, 8)]


SHAPES = {"laplace": _laplace_masses, "gaussian": _gaussian_masses}


@functools.cache  # at most 2 * 63 tables of 32 kB
@typechecked
def frequencies(shape: str, index: int) -> Int[np.ndarray, "symbols"]:
    """Frequencies of q = -MAX .. MAX, read-only: each >= 1, symmetric in q, sum TOTAL. Index 1 .. SCALES - 1."""
    masses = SHAPES[shape](index)
    share = TOTAL - (2 * MAX + 1)  # what is left after one count for every symbol
    weight = masses[0] + 2 * sum(masses[1:])
    one_sided = []
    cumulative = previous = 0
    for mass in masses[1:]:
        cumulative += mass
        # Differences of the rounded cumulative sum: rounding errors do not add up over thousands of symbols.
        rounded = cumulative * share // weight
        one_sided.append(1 + rounded - previous)
        previous = rounded
    table = np.array(one_sided[::-1] + [TOTAL - 2 * sum(one_sided)] + one_sided, np.int64)
    table.flags.writeable = False
    return table


@functools.cache
def _model(shape: str, index: int) -> constriction.stream.model.Categorical:
    """The table as constriction's model, exactly.

    With perfect=False the model starts symbol i at floor(scale * sum(p[:i])) + i, scale = (2^24 - n) / sum(p).
    For p = frequency - 1 the scale is exactly 1 and every partial sum is an integer below 2^24: no rounding at all."""
    return constriction.stream.model.Categorical((frequencies(shape, index) - 1).astype(np.float64), perfect=False)


@functools.cache
@typechecked
def _bits(shape: str, index: int) -> Float[np.ndarray, "magnitudes"]:
    """Code length in bits of |q| = 0 .. MAX; zeros for index 0: see `code_lengths`."""
    return math.log2(TOTAL) - np.log2(frequencies(shape, index)[MAX:]) if index else np.zeros(MAX + 1)


@functools.cache
@typechecked
def _all_bits(shape: str) -> Float[np.ndarray, "scales magnitudes"]:
    """`_bits` of each scale index: all tables, where a decoder makes those of its file alone."""
    return np.stack([_bits(shape, index) for index in range(SCALES)])


@typechecked
def code_lengths(values: Int[np.ndarray, "..."] | list[int], shape: str) -> Float[np.ndarray, "scales"]:
    """Ideal code length in bits of all `values` together, for every scale index; infinite where it cannot code them."""
    magnitudes = np.abs(np.asarray(values, np.int64)).ravel()
    if magnitudes.size and magnitudes.max() > MAX:
        raise UserError(f"a quantised coefficient of {magnitudes.max()} is outside -{MAX} ... {MAX}: use a larger step")
    counts = np.bincount(magnitudes, minlength=1)
    lengths = _all_bits(shape)[:, : len(counts)] @ counts
    if counts[1:].any():
        lengths[0] = math.inf
    return lengths


@typechecked
def code_lengths_each(values: Int[np.ndarray, "*values"], shape: str, index: int) -> Float[np.ndarray, "*values"]:
    """Ideal code length in bits of each of `values`, in [-MAX, MAX], under one table."""
    return _bits(shape, index)[np.abs(values)]


@typechecked
def code_length_bits(values: Int[np.ndarray, "..."] | list[int], shape: str, index: int) -> float:
    """Ideal code length in bits of all `values` together under one table."""
    return float(code_lengths(values, shape)[index])


@typechecked
def best_scale(values: Int[np.ndarray, "..."] | list[int], shape: str = "laplace") -> int:
    """The scale index that codes `values` in the fewest bits."""
    return int(np.argmin(code_lengths(values, shape)))


def tables_hash() -> str:
    """SHA-256 over all tables in order of shape and index, as little-endian 32-bit numbers."""
    digest = hashlib.sha256()
    for shape in SHAPES:
        for index in range(1, SCALES):
            digest.update(frequencies(shape, index).astype("<u4").tobytes())
    return digest.hexdigest()


class Encoder:
    """Collects integers and returns the shortest byte string that decodes to them."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    @typechecked
    def put(self, values: Int[np.ndarray, "count"] | list[int], shape: str, index: int) -> None:
        """Appends `values`, each in [-MAX, MAX]; all must be zero where index is 0."""
        values = np.asarray(values, np.int32).ravel()
        if values.size and np.abs(values).max() > (MAX if index else 0):
            raise ValueError(f"values up to {np.abs(values).max()} do not fit scale index {index}")
        if values.size and index:
            self._coder.encode(values + np.int32(MAX), _model(shape, index))

    def put_each(self, symbols: Int[np.ndarray, "count"], rows: Float[np.ndarray, "count symbols"]) -> None:
        """Appends symbols 0, 1, ... , each under its own table: rows of frequency - 1, the frequencies' sum TOTAL."""
        self._coder.encode(symbols.astype(np.int32), TABLE_A_SYMBOL, rows)

    def finish(self) -> bytes:
        """The shortest byte string whose value, as a binary fraction, lies in the final interval; the smallest such.

        That is a property of the message and the tables only. constriction's own ending is up to seven bytes longer,
        and a decoder that compares bytes must not depend on how a library chooses to end."""
        words = self._coder.get_compressed()
        position, (state_lower, width) = self._coder.pos()
        total_bytes = WORD_BYTES * (position + 2)
        sealed = int.from_bytes(words.astype(">u4").tobytes().ljust(total_bytes, b"\0"), "big")
        # The sealed words lie less than 2^64 above the lower end, whose last 64 bits are the coder's state.
        lower = sealed - ((sealed - state_lower) % (1 << 64))
        for dropped_bits in range(8 * min(total_bytes, 8 + WORD_BYTES), -1, -8):
            value = -(-lower >> dropped_bits)  # rounded up
            if value << dropped_bits < lower + width:
                return value.to_bytes(total_bytes - dropped_bits // 8, "big").rstrip(b"\0")
        raise AssertionError("the lower end itself lies in the interval")


class Decoder:
    """Returns the integers in the order they were put. Bytes that no Encoder writes raise UserError, by `finish`."""

    def __init__(self, data: bytes, mirrored: bool = True) -> None:
        """Unless `mirrored`, `finish` is not to be called: for streams under a checksum that may end in zeros."""
        self._data = data
        self._mirror = Encoder() if mirrored else None
        # Zeros after the end are the value that the encoder's shortest string stands for.
        padded = data + b"\0" * (2 * WORD_BYTES + -len(data) % WORD_BYTES)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    @typechecked
    def get(self, count: int, shape: str, index: int) -> Int[np.ndarray, "count"]:
        """The next `count` integers; the caller bounds `count`, which may exceed what the data holds."""
        if index == 0 or count == 0:
            return np.zeros(count, np.int32)
        try:
            values = self._coder.decode(_model(shape, index), count) - np.int32(MAX)
        except AssertionError as error:  # constriction's word for a code point outside every symbol
            raise UserError("the coded coefficients are damaged") from error
        if self._mirror:
            self._mirror.put(values, shape, index)
        return values

    def get_each(self, rows: Float[np.ndarray, "count symbols"]) -> Int[np.ndarray, "count"]:
        """The next symbols, each under its own table, as `Encoder.put_each` takes them.

        They are not compared with what an encoder would write: streams that use them carry a checksum."""
        try:
            return self._coder.decode(TABLE_A_SYMBOL, rows)
        except AssertionError as error:
            raise UserError("the coded integers are damaged") from error

    def finish(self) -> None:
        """Raises UserError unless the data is exactly what an Encoder writes for the integers read."""
        if self._mirror is None or self._mirror.finish() != self._data:
            raise UserError("the coded coefficients are damaged")
