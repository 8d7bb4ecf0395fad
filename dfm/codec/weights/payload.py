"""The payload of the weights profile: which net, and its coefficients.

| bytes | field                                                                                          |
|-------|------------------------------------------------------------------------------------------------|
| 1     | bit 0 basis "cas", bits 1-2 precision, others 0                                                |
| 1     | number of hidden widths                                                                        |
|       | four bits for each (high half first; a last half byte is 0)                                    |
| 1     | input scale, in 64ths, minus 1                                                                 |
| rest  | coefficients (dfm/codec/weights/coefficients.py): range-coded integers ("quantized") or floats |

A payload can ask for no more coefficients than MAX_COEFFICIENTS_PER_BYTE allows. All errors are UserError.
"""

import hashlib
import io
from dataclasses import dataclass

from dfm.codec.container import CHANNELS, MAX_SHARED_BYTES, check, take
from dfm.codec.weights import coefficients
from dfm.codec.weights.coefficients import BASES, FLOAT_TYPES, FloatLayer, QuantizedLayer
from dfm.registry import nearest

MAX_WIDTH = 12  # 2^12 frequency vectors
MAX_DEPTH = 64
MAX_COEFFICIENTS_PER_BYTE = 64  # 0.125 bits a coefficient: with fewer bits, a smaller net is the better file
INPUT_SCALE_UNIT = 64
LAYER_MULTIPLICATIONS = 100  # of one layer's sines and cosines, their products, and tanh
PRECISIONS = ("quantized", *FLOAT_TYPES)


@dataclass(frozen=True)
class Architecture:
    """Which net, and how its coefficients are stored. Fields out of bounds raise UserError.

    `input_scale` multiplies pixel coordinates in [0, 1]."""

    widths: tuple[int, ...]
    channels: int
    basis: str
    precision: str
    input_scale: float

    def __post_init__(self) -> None:
        check(self.channels in CHANNELS, f"{self.channels} channels: only 1 and 3 exist")
        check(1 <= len(self.widths) <= MAX_DEPTH, f"{len(self.widths)} hidden widths, outside 1 ... {MAX_DEPTH}")
        check(all(1 <= w <= MAX_WIDTH for w in self.widths), f"widths {self.widths} outside 1 ... {MAX_WIDTH}")
        check(self.basis in BASES, f"unknown basis '{self.basis}'{nearest(self.basis, BASES)}")
        check(
            self.precision in PRECISIONS, f"unknown precision '{self.precision}'{nearest(self.precision, PRECISIONS)}"
        )
        units = self.input_scale * INPUT_SCALE_UNIT
        check(units in range(1, 257), f"input scale {self.input_scale} is no multiple of 1/64 between 1/64 and 4")

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """(inputs m, outputs n) of each layer; its coefficient arrays are [2^m, n]."""
        sizes = (2, *self.widths, self.channels)
        return list(zip(sizes[:-1], sizes[1:], strict=True))

    @property
    def coefficient_count(self) -> int:
        """All coefficients, those of sin at k = 0 included, as the thesis counts them."""
        return sum(len(BASES[self.basis]) * 2**inputs * outputs for inputs, outputs in self.layer_sizes)

    @property
    def multiplications(self) -> int:
        """A pixel's, roughly: one for each coefficient of cos and of sin ("cas" is both), and those of the features."""
        return sum(2 * 2**inputs * outputs + LAYER_MULTIPLICATIONS for inputs, outputs in self.layer_sizes)


@dataclass(frozen=True)
class Net:
    """What a payload holds."""

    architecture: Architecture
    layers: list[QuantizedLayer] | list[FloatLayer]


def pack(net: Net) -> bytes:
    """The payload. Coefficients of sin at k = 0 are dropped: they never matter, and are read back as 0."""
    architecture = net.architecture
    packed = _pack_architecture(architecture) + coefficients.pack(
        net.layers, architecture.layer_sizes, architecture.basis, architecture.precision
    )
    _check_density(architecture, packed)
    return packed


def unpack(payload: bytes, channels: int) -> Net:
    """The net, coefficients as they were given to `pack`; bytes that `pack` does not write raise UserError."""
    fields = io.BytesIO(payload)
    architecture = _take_architecture(fields, channels)
    _check_density(architecture, payload)
    layers = coefficients.unpack(fields.read(), architecture.layer_sizes, architecture.basis, architecture.precision)
    return Net(architecture, layers)


def coefficients_sha256(net: Net) -> str:
    """SHA-256 of all coefficients with their names, types and shapes: equal bytes of another type are another net."""
    digest = hashlib.sha256()
    for layer in net.layers:
        arrays = layer.coefficients if isinstance(layer, QuantizedLayer) else layer
        for name, values in arrays.items():
            digest.update(f"{name} {values.dtype.name} {values.shape}".encode())
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _check_density(architecture: Architecture, payload: bytes) -> None:
    count, most = architecture.coefficient_count, MAX_COEFFICIENTS_PER_BYTE * (len(payload) + MAX_SHARED_BYTES)
    check(count <= most, f"{count} coefficients are too many for {len(payload)} bytes, the limit is {most}")


def _pack_architecture(architecture: Architecture) -> bytes:
    flags = list(BASES).index(architecture.basis) | PRECISIONS.index(architecture.precision) << 1
    halves = [*architecture.widths, *[0] * (len(architecture.widths) % 2)]
    pairs = zip(halves[::2], halves[1::2], strict=True)
    scale = int(architecture.input_scale * INPUT_SCALE_UNIT) - 1
    return bytes([flags, len(architecture.widths), *(high << 4 | low for high, low in pairs), scale])


def _take_architecture(fields: io.BytesIO, channels: int) -> Architecture:
    flags, depth = take(fields, 2)
    precision = flags >> 1
    check(precision < len(PRECISIONS), f"unknown flags {flags:#04x}")
    check(depth <= MAX_DEPTH, f"{depth} hidden widths, outside 1 ... {MAX_DEPTH}")
    halves = [half for byte in take(fields, (depth + 1) // 2) for half in (byte >> 4, byte & 15)]
    check(not any(halves[depth:]), "the last half byte of the widths is not 0")
    (scale,) = take(fields, 1)
    return Architecture(
        widths=tuple(halves[:depth]),
        channels=channels,
        basis=list(BASES)[flags & 1],
        precision=PRECISIONS[precision],
        input_scale=(scale + 1) / INPUT_SCALE_UNIT,
    )
